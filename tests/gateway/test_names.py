import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.names import MODEL_NAME, PATH_MODEL_PREDICT, may_use, models_header

NAMES = st.from_regex(MODEL_NAME, fullmatch=True)


@given(st.lists(NAMES, max_size=4), NAMES)
def test_a_key_may_use_exactly_its_models(models: list[str], model: str) -> None:
    assert may_use(models_header(tuple(models)), model) == (model in models)


@given(st.text(",*ab", max_size=6))
def test_a_key_for_all_models_may_use_any_name(model: str) -> None:
    assert may_use(models_header(("*",)), model)


@pytest.mark.parametrize(
    "trick", [",", "a,b", ",a", "a,", "", "*", "A", "a\n", "a b", "é", "a/b", "a" * 65, "-a", ".a"]
)
def test_names_outside_the_grammar_match_nothing(trick: str) -> None:
    assert not may_use(",a,b,", trick)
    assert not may_use(f",{trick},", trick)


def test_a_key_without_models_may_use_none() -> None:
    assert not may_use(models_header(()), "a")


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/models/digits:predict", "digits"),
        ("/v1/models/a.b-c_d:predict", "a.b-c_d"),
        ("/v1/models/digits:predict\n", None),
        ("/v1/models/a/b:predict", None),
        ("/v1/models/:predict", None),
        ("/v1/models/digits:explain", None),
        ("/v1/models/digits:predict/", None),
        ("/v1/models/digits%3Apredict", None),
    ],
)
def test_the_model_in_the_path(path: str, model: str | None) -> None:
    found = PATH_MODEL_PREDICT.match(path)
    assert (found and found[1]) == model
