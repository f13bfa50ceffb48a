"""Values in a request's JSON become tensors of the declared shape, or the offender is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.session import Session
from ext_proc.validation.tensors import DATATYPES, TensorError, nest, read
from ext_proc.verdict import Accept, Refuse
from gateway.policy import InputRule, TensorRule
from tests.ext_proc.policies import facts, model, rules


@pytest.mark.parametrize(
    ("value", "datatype", "shape", "actual", "data"),
    [
        (5, "INT64", (1,), (1,), [5]),
        (5, "INT64", (), (), [5]),
        (5, "INT64", (-1, 1), (1, 1), [5]),
        ("a", "BYTES", (1, 1), (1, 1), ["a"]),
        (list(range(64)), "FP32", (-1, 64), (1, 64), list(range(64))),
        ([list(range(64))] * 2, "FP32", (-1, 64), (2, 64), list(range(64)) * 2),
        ([[[1, 2], [3, 4]]], "INT8", (1, 2, 2), (1, 2, 2), [1, 2, 3, 4]),
        ([[1, 2], [3, 4]], "INT8", (-1, 2, 2), (1, 2, 2), [1, 2, 3, 4]),
        ([True], "BOOL", (-1,), (1,), [True]),
        ([65504.0], "FP16", (1,), (1,), [65504.0]),
        ([2**64 - 1], "UINT64", (1,), (1,), [2**64 - 1]),
        ([10**300], "FP64", (1,), (1,), [10**300]),
    ],
)
def test_a_value_becomes_a_tensor(value: Any, datatype: str, shape: Any, actual: Any, data: Any) -> None:
    tensor = read(value, name="x", datatype=datatype, shape=shape)
    assert (tensor.shape, list(tensor.data)) == (actual, data)


@pytest.mark.parametrize(
    ("value", "datatype", "shape", "code", "path"),
    [
        ([1, 2, 3], "FP32", (-1, 64), "wrong_shape", ()),
        (5, "FP32", (64,), "wrong_shape", ()),
        ([1] * 4, "FP32", (2, 2), "wrong_shape", ()),
        ([[1], [1, 2]], "FP32", (-1, -1), "wrong_shape", (1,)),
        ([[1], 2], "FP32", (-1, -1), "wrong_shape", (1,)),
        ([1, [2]], "FP32", (-1,), "wrong_type", (1,)),
        ([[1]], "FP32", (1,), "wrong_shape", ()),
        ([], "FP32", (-1,), "empty_tensor", ()),
        ([[], []], "FP32", (-1, -1), "empty_tensor", ()),
        ([[1, 2], [3, "x"]], "FP32", (2, 2), "wrong_type", (1, 1)),
        ([1, None], "FP32", (-1,), "wrong_type", (1,)),
        ([1, True], "FP32", (-1,), "wrong_type", (1,)),
        ([1, 1.0], "INT8", (-1,), "wrong_type", (1,)),
        ([0, 128], "INT8", (-1,), "out_of_range", (1,)),
        ([0, -1], "UINT8", (-1,), "out_of_range", (1,)),
        ([0, 2**64], "UINT64", (-1,), "out_of_range", (1,)),
        ([0, 65520], "FP16", (-1,), "out_of_range", (1,)),
        ([0, 1e39], "FP32", (-1,), "out_of_range", (1,)),
        ([0, 10**4000], "FP64", (-1,), "out_of_range", (1,)),
        ({"a": 1}, "BYTES", (1,), "wrong_type", ()),
        (["a", 1], "BYTES", (-1,), "wrong_type", (1,)),
        ([True, 1], "BOOL", (-1,), "wrong_type", (1,)),
    ],
)
def test_what_does_not_fit_is_named(value: Any, datatype: str, shape: Any, code: str, path: Any) -> None:
    with pytest.raises(TensorError) as caught:
        read(value, name="x", datatype=datatype, shape=shape)
    assert (caught.value.code, caught.value.path) == (code, path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda x: st.lists(x, max_size=3),
    max_leaves=15,
)


@given(value=JSON, datatype=st.sampled_from(sorted(DATATYPES)), shape=st.lists(st.integers(-1, 3), max_size=4))
def test_reading_raises_nothing_else_and_nesting_undoes_it(value: Any, datatype: str, shape: list[int]) -> None:
    try:
        tensor = read(value, name="x", datatype=datatype, shape=shape)
    except TensorError:
        return
    again = read(nest(tensor.data, tensor.shape), name="x", datatype=datatype, shape=tensor.shape)
    assert again == tensor


def judged(body: dict[str, Any], *tensors: TensorRule) -> Any:
    policy = model("m", input=InputRule(tensors=tensors))
    return Session(rules(policy)).request_body(facts(policy), json.dumps({"model": "m", **body}).encode())


def test_a_pointer_leads_to_the_value_and_to_its_offender() -> None:
    rule = TensorRule(name="x", datatype="FP32", shape=(-1,), source="/a~1b/1/values")
    assert isinstance(judged({"a/b": [0, {"values": [1, 2]}]}, rule), Accept)
    for body, field in (
        ({"a/b": [0, {"values": [1, "2"]}]}, "/a~1b/1/values/1"),
        ({"a/b": [0]}, "/a~1b/1/values"),
        ({}, "/a~1b/1/values"),
    ):
        verdict = judged(body, rule)
        assert isinstance(verdict, Refuse)
        assert (verdict.answer.status, json.loads(verdict.answer.body)["field"]) == (422, field)


def test_integers_beyond_64_bits_reach_a_floating_tensor() -> None:
    verdict = judged({"x": [10**25, 1]}, TensorRule(name="x", datatype="FP64", shape=(-1,), source="/x"))
    assert isinstance(verdict, Accept)
    assert verdict.body is not None
    assert json.loads(verdict.body)["inputs"][0]["data"] == [10**25, 1]


GOOD = {"name": "x", "shape": [2], "datatype": "INT8", "data": [1, 2]}


@pytest.mark.parametrize(
    ("inputs", "code", "field"),
    [
        (None, "wrong_type", "/inputs"),
        ([], "wrong_type", "/inputs"),
        ([5], "wrong_type", "/inputs/0"),
        ([GOOD, GOOD], "duplicate_input", "/inputs/1/name"),
        ([{**GOOD, "parameters": {}}], "unknown_member", "/inputs/0/parameters"),
        ([{**GOOD, "data": [1]}], "wrong_shape", "/inputs/0/data"),
        ([{**GOOD, "data": [1, 300]}], "out_of_range", "/inputs/0/data/1"),
        ([{**GOOD, "shape": [-1]}], "wrong_shape", "/inputs/0/shape"),
        ([{**GOOD, "shape": [0], "data": []}], "empty_tensor", "/inputs/0/data"),
        ([{**GOOD, "datatype": "INT9"}], "unknown_datatype", "/inputs/0/datatype"),
        ([{**GOOD, "datatype": []}], "unknown_datatype", "/inputs/0/datatype"),
        ([{**GOOD, "name": ""}], "wrong_type", "/inputs/0/name"),
        ([{"name": "x"}], "missing_member", "/inputs/0/datatype"),
    ],
)
def test_open_inference_inputs_are_checked(inputs: Any, code: str, field: str) -> None:
    verdict = judged({"inputs": inputs})
    assert isinstance(verdict, Refuse)
    assert (verdict.code, json.loads(verdict.answer.body)["field"]) == (code, field)


def test_members_that_nothing_reads_are_refused() -> None:
    verdict = judged({"inputs": [GOOD], "outputs": []})
    assert isinstance(verdict, Refuse)
    assert json.loads(verdict.answer.body)["field"] == "/outputs"
