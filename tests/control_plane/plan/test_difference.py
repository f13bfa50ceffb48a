"""Two configurations that differ have a plan, whatever they differ in; two that do not have none."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from control_plane.config.model import (
    Address,
    Backend,
    Config,
    Endpoint,
    Health,
    Image,
    Input,
    Mirror,
    Model,
    Output,
    Run,
    State,
    Target,
    Tensor,
)
from control_plane.config.sameness import same
from control_plane.live_config import document, read
from control_plane.plan.difference import Change, difference
from control_plane.plan.report import line

SCHEMA = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
FULL = Config(
    listen=(Address(host="127.0.0.1", port=8080), Address(host="::", port=8081)),
    admin=Address(host="127.0.0.1", port=9900),
    default_model="digits",
    models={
        "digits": Model(
            targets=(Target(backend="a", weight=9), Target(backend="b")),
            mirror=Mirror(backend="b", percent=5),
            input=Input(
                json_schema=SCHEMA,
                tensors=(Tensor(name="x", datatype="FP32", shape=(-1, 64), source="/x"),),
                image=Image(source="/image"),
            ),
            output=Output(labels=("zero", "one"), top_k=1),
        ),
        "language": Model(targets=(Target(backend="b"),)),
    },
    backends={
        "a": Backend(
            server="kserve",
            model="m",
            endpoints=(
                Endpoint(address=Address(host="10.0.0.1", port=8000)),
                Endpoint(address=Address(host="10.0.0.2", port=8000), weight=2),
            ),
            max_in_flight=4,
            health=Health(path="/ready"),
        ),
        "b": Backend(server="http", path="/p", model="m", run=Run(command=("serve", "{port}"))),
    },
    state=State(drain_s=5),
)


def altered(value: object) -> Iterator[Any]:
    """Every value that differs from this one in one place."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from (value.model_copy(update={name: other}) for other in altered(getattr(value, name)))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield {name: part for name, part in value.items() if name != key}
            yield from ({**value, key: other} for other in altered(item))
    elif isinstance(value, tuple | list):
        yield from altered_list(value)
    elif isinstance(value, bool):
        yield from (not value, int(value))
    elif isinstance(value, int | float):
        yield value + 1
    else:
        yield Path(value, "x") if isinstance(value, Path) else f"{value}x"


def altered_list(value: tuple[Any, ...] | list[Any]) -> Iterator[Any]:
    kind: type[Any] = type(value)
    for index, item in enumerate(value):
        yield kind([*value[:index], *value[index + 1 :]])
        yield kind([*value, item])
        yield from (kind([*value[:index], other, *value[index + 1 :]]) for other in altered(item))
    if len(value) > 1:
        yield kind(reversed(value))


def check(live: Config, wanted: Config) -> tuple[Change, ...]:
    changes = difference(live, wanted)
    assert bool(changes) == (not same(live, wanted))
    for change in changes:
        assert change.sign != "~" or change.details
        assert "\n" not in line(change)
    return changes


def test_every_place_in_which_two_configurations_can_differ_is_in_the_plan() -> None:
    others = list(altered(FULL))
    assert len(others) > 100
    for other in others:
        assert check(FULL, other), other
        assert check(other, FULL), other


def test_a_field_that_the_model_has_tomorrow_is_compared() -> None:
    class Tomorrow(Config):
        regions: tuple[str, ...] = ()
        access: Mapping[str, Health] = {}

    today = Tomorrow(**dict(FULL))
    for update, expected in (
        ({"regions": ("eu",)}, "~ regions: [] -> [eu]"),
        ({"access": {"a": Health(interval_s=3)}}, "~ access: a + {interval: 3s}"),
    ):
        changes = check(today, today.model_copy(update=update))
        assert [line(change) for change in changes] == [expected]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "a", "1", "true"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=2),
    max_leaves=4,
)
names = st.sampled_from(["a", "b", "c"])
endpoints = st.builds(
    Endpoint, address=st.builds(Address, host=names, port=st.integers(1, 3)), weight=st.integers(1, 2)
)
targets = st.builds(Target, backend=names, weight=st.integers(0, 2))
models = st.builds(
    Model,
    targets=st.lists(targets, min_size=1, max_size=3).map(tuple),
    mirror=st.none() | st.builds(Mirror, backend=names),
    input=st.builds(Input, json_schema=st.none() | st.booleans() | st.dictionaries(names, json_values, max_size=2)),
    timeout_s=st.sampled_from([0.5, 1, 30]),
)
backends = st.builds(
    Backend,
    server=st.just("kserve"),
    model=names,
    endpoints=st.lists(endpoints, max_size=3).map(tuple),
    health=st.builds(Health, path=st.sampled_from([None, "/a"])),
    run=st.none() | st.builds(Run, command=st.lists(names, max_size=2).map(tuple)),
)
configs = st.builds(
    Config,
    listen=st.lists(st.builds(Address, host=names, port=st.integers(0, 2)), min_size=1, max_size=3).map(tuple),
    admin=st.just(Address(host="127.0.0.1", port=9900)),
    default_model=st.none() | names,
    models=st.dictionaries(names, models, max_size=2),
    backends=st.dictionaries(names, backends, max_size=2),
    state=st.builds(State, drain_s=st.sampled_from([1, 30])),
)


@given(configs, configs)
@settings(max_examples=150, deadline=None)
def test_a_plan_is_empty_for_the_same_and_only_for_the_same(one: Config, other: Config) -> None:
    check(one, other)
    assert difference(one, copy.deepcopy(one)) == ()
    assert difference(None, one)


@given(configs)
@settings(max_examples=100, deadline=None)
def test_what_the_control_plane_tells_of_the_live_configuration_is_the_configuration(config: Config) -> None:
    assert difference(read(json.dumps(document(config)).encode()), config) == ()
    assert document(config)["version"] == document(copy.deepcopy(config))["version"]


def digits(**update: object) -> Config:
    return FULL.model_copy(
        update={"models": {**FULL.models, "digits": FULL.models["digits"].model_copy(update=update)}}
    )


def backend(**update: object) -> Config:
    return FULL.model_copy(update={"backends": {**FULL.backends, "a": FULL.backends["a"].model_copy(update=update)}})


KEPT = "  (requests under way keep the old policy)"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (
            digits(timeout_s=10, max_body_bytes=2 * 1024**2),
            f"~ model digits: max_body 1MiB -> 2MiB, timeout 30s -> 10s{KEPT}",
        ),
        (digits(retries=0, mirror=None),
         f"~ model digits: mirror {{backend: b, percent: 5}} -> none, retries 3 -> 0{KEPT}"),
        (digits(targets=(Target(backend="a", weight=8), Target(backend="c"))),
         f"~ model digits: target a.weight 9 -> 8, target + c, - b{KEPT}"),
        (digits(input=FULL.models["digits"].input.model_copy(update={"json_schema": {**SCHEMA, "type": 1, "x": True}})),
         f'~ model digits: input.schema.type "object" -> 1, input.schema.x + true{KEPT}'),
        (FULL.model_copy(update={"models": {"digits": FULL.models["digits"]}}),
         "- model language  (it answers 404; requests under way keep the old policy)"),
        (FULL.model_copy(update={"models": {**FULL.models, "x": Model(targets=(Target(backend="b"),))}}),
         "+ model x -> backend b"),
        (backend(endpoints=(FULL.backends["a"].endpoints[1], Endpoint(address=Address(host="10.0.0.3", port=8000)))),
         "~ backend a: endpoint + 10.0.0.3:8000, - 10.0.0.1:8000"),
        (backend(max_in_flight=None, balance="random"),
         "~ backend a: balance least_busy -> random, max_in_flight 4 -> none"),
        (FULL.model_copy(update={"listen": FULL.listen[:1]}), "- listener [::]:8081  (its connections are drained)"),
        (FULL.model_copy(update={"default_model": "language"}),
         "~ default_model: digits -> language  (bodies of /v1/predict that name no model go there)"),
        (FULL.model_copy(update={"state": State(drain_s=60)}),
         "~ state: drain 5s -> 60s  (takes effect at the next start)"),
    ],
)  # fmt: skip
def test_a_change_is_said_in_the_operators_words(wanted: Config, expected: str) -> None:
    assert [line(change) for change in check(FULL, wanted)] == [expected]


def test_a_number_that_becomes_a_truth_value_is_a_change() -> None:
    one, other = (digits(input=Input(json_schema={"const": value})) for value in (1, True))
    assert one == other, "for Python"
    assert [line(change) for change in check(one, other)] == [f"~ model digits: input.schema.const 1 -> true{KEPT}"]


def test_a_folder_that_moves_is_a_change() -> None:
    assert check(FULL, FULL.model_copy(update={"backends_folder": Path("elsewhere")}))
