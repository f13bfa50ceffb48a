import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.problem import Dialect, Problem, render, title

DIALECTS: list[Dialect] = ["predict", "open-inference", "openai"]
UNPROCESSABLE = Problem(status=422, code="invalid_input", message="too long", field="/text", headers={"x": "y"})


def test_predict_gets_rfc_9457() -> None:
    answer = render(UNPROCESSABLE, "predict", "r1")
    assert answer.status == 422
    assert answer.headers == {"content-type": "application/problem+json", "x": "y"}
    assert json.loads(answer.body) == {
        "type": "about:blank",
        "title": title(422),
        "status": 422,
        "detail": "Too long.",
        "code": "invalid_input",
        "field": "/text",
        "request_id": "r1",
    }


def test_open_inference_gets_one_sentence() -> None:
    answer = render(UNPROCESSABLE, "open-inference", "r1")
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body) == {"error": "Too long."}


@pytest.mark.parametrize(("status", "kind"), [(400, "invalid_request_error"), (503, "server_error")])
def test_openai_gets_an_error_object(status: int, kind: str) -> None:
    answer = render(Problem(status=status, code="c", message="m"), "openai", None)
    assert json.loads(answer.body) == {"error": {"message": "M.", "type": kind, "param": None, "code": "c"}}


def test_what_is_not_known_is_left_out() -> None:
    document = json.loads(render(Problem(status=404, code="c", message="m"), "predict", None).body)
    assert document.keys() == {"type", "title", "status", "detail", "code"}


@given(st.text(), st.text(), st.none() | st.text(), st.sampled_from(DIALECTS), st.none() | st.text())
def test_whatever_a_problem_says_the_answer_is_one_line_of_json(
    message: str, code: str, field: str | None, dialect: Dialect, request_id: str | None
) -> None:
    answer = render(Problem(status=400, code=code, message=message, field=field), dialect, request_id)
    json.loads(answer.body.decode())
    assert answer.body.count(b"\n") == 1


@pytest.mark.parametrize(("status", "expected"), [(404, "Not Found"), (599, "Error"), (0, "Error")])
def test_the_title_is_the_standard_phrase(status: int, expected: str) -> None:
    assert title(status) == expected
