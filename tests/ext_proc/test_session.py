"""One exchange, from the request's body to the answer's."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.facts import RequestFacts, ResponseFacts
from ext_proc.rules import compile_rules
from ext_proc.session import Session
from ext_proc.verdict import PROCEED, Accept, Refuse, Rewrite, Verdict
from gateway.policy import GatewayPolicy, InputRule, OutputRule, PolicyError, TensorRule
from gateway.policy_client import PolicySet
from tests.ext_proc.policies import LIMIT, facts, model, route, rules, text_model

LANGUAGE = text_model()
RAW = model("raw", server="http")
NUMBERS = model("numbers")
RULES = rules(LANGUAGE, RAW, NUMBERS, default="language")
UPSTREAM = ResponseFacts(status=200, details="via_upstream")
TEXT = b'{"text": "Hello"}'


def judge(body: bytes, about: RequestFacts | None = None) -> Verdict:
    return Session(RULES).request_body(about or facts(LANGUAGE), body)


def refusal(verdict: Verdict) -> tuple[int, str, str | None]:
    assert isinstance(verdict, Refuse), verdict
    problem = json.loads(verdict.answer.body)
    assert problem["status"] == verdict.answer.status
    assert problem["code"] == verdict.code
    return verdict.answer.status, verdict.code, problem.get("field")


def accepted() -> Session:
    session = Session(RULES)
    assert isinstance(session.request_body(facts(LANGUAGE), TEXT), Accept)
    return session


def answered(body: bytes, policy: Any = LANGUAGE, request: bytes = TEXT) -> Verdict:
    session = Session(rules(policy, default=policy.model))
    assert isinstance(session.request_body(facts(policy), request), Accept)
    assert session.response_headers(UPSTREAM) == PROCEED
    return session.response_body(body)


def outputs(*tensors: tuple[str, str, list[int], list[Any]], **members: Any) -> bytes:
    listed = [{"name": n, "datatype": d, "shape": s, "data": x} for n, d, s, x in tensors]
    return json.dumps({"model_name": "m", "outputs": listed, **members}).encode()


@pytest.mark.parametrize(
    ("body", "about", "expected"),
    [
        (TEXT, facts(LANGUAGE, models=",language,"), None),
        (b'{"model": "language", "text": "a"}', facts(LANGUAGE), None),
        (TEXT, facts(LANGUAGE, path="/v1/models/language:predict?x=1"), None),
        (TEXT, facts("model/language/2"), (503, "no_policy", None)),
        (TEXT, facts(LANGUAGE, tenant=None), (503, "no_identity", None)),
        (TEXT, facts(LANGUAGE, key_id=None), (503, "no_identity", None)),
        (TEXT, facts(LANGUAGE, models=None), (503, "no_identity", None)),
        (TEXT, facts(LANGUAGE, models=",digits,"), (403, "model_not_allowed", None)),
        (TEXT, facts(LANGUAGE, models=",language-2,"), (403, "model_not_allowed", None)),
        (TEXT, facts(LANGUAGE, path="/v2/models"), (404, "unknown_path", None)),
        (TEXT, facts(LANGUAGE, path=""), (404, "unknown_path", None)),
        (TEXT, facts(LANGUAGE, path="/v1/models/raw:predict"), (400, "model_mismatch", "/model")),
        (b'{"model": "raw"}', facts(LANGUAGE), (400, "model_mismatch", "/model")),
        (b'{"model": null, "text": "a"}', facts(LANGUAGE), (400, "invalid_model", "/model")),
        (b'{"model": 5}', facts(LANGUAGE), (400, "invalid_model", "/model")),
        (b'{"model": "raw"}', facts(LANGUAGE, path="/v1/models/language:predict"), (400, "model_mismatch", "/model")),
        (b"{}", facts(RAW), (400, "model_mismatch", "/model")),
        (b'"text"', facts(LANGUAGE), (400, "not_an_object", None)),
        (b"{", facts(LANGUAGE), (400, "invalid_json", None)),
        (b'{"text": "a", "text": "b"}', facts(LANGUAGE), (400, "duplicate_key", None)),
        (b'{"text": NaN}', facts(LANGUAGE), (400, "invalid_json", None)),
        (b'{"text": "' + b"x" * LIMIT + b'"}', facts(LANGUAGE), (413, "body_too_large", None)),
        (b"{}", facts(LANGUAGE), (422, "schema_violation", "/text")),
        (b'{"text": ""}', facts(LANGUAGE), (422, "schema_violation", "/text")),
        # no model's route matched
        (b"{", facts(unparsed=True), (400, "invalid_json", None)),
        (TEXT, facts(unparsed=True), (400, "invalid_json", None)),
        (b"{}", facts(), (400, "no_model", "/model")),
        (b'{"model": "nothing"}', facts(), (404, "unknown_model", "/model")),
        (b"{}", facts(path="/v1/models/nothing:predict"), (404, "unknown_model", "/model")),
        (b'{"model": "nothing"}', facts(models=",language,"), (403, "model_not_allowed", None)),
        (b'{"model": "nothing"}', facts(models=None), (503, "no_identity", None)),
        (b'{"model": "a,b"}', facts(models=",a,b,"), (403, "model_not_allowed", None)),
        (b'{"model": ["language"]}', facts(), (400, "invalid_model", "/model")),
    ],
)
def test_a_request_is_judged_by_the_policy_of_its_route(
    body: bytes, about: RequestFacts, expected: tuple[int, str, str | None] | None
) -> None:
    verdict = judge(body, about)
    if expected is None:
        assert isinstance(verdict, Accept)
    else:
        assert refusal(verdict) == expected


def test_without_any_policy_nothing_passes() -> None:
    verdict = Session(None).request_body(facts(LANGUAGE), TEXT)
    assert refusal(verdict) == (503, "no_policy", None)
    assert isinstance(verdict, Refuse)
    assert verdict.answer.headers["retry-after"] == "1"


def test_the_limit_itself_is_still_accepted() -> None:
    frame = len(b'{"text": ""}')
    assert isinstance(judge(b'{"text": "' + b"x" * (LIMIT - frame) + b'"}'), Accept)
    assert refusal(judge(b'{"text": "' + b"x" * (LIMIT - frame + 1) + b'"}'))[0] == 413


def test_the_default_model_before_a_change_is_still_good_while_the_change_rolls_out() -> None:
    policies = {route(p): p for p in (LANGUAGE, RAW)}
    after = compile_rules(PolicySet(gateway=GatewayPolicy(default_model="raw"), models=policies), RULES)
    again = compile_rules(PolicySet(gateway=GatewayPolicy(default_model="raw"), models=policies), after)
    for now in (after, again):
        assert isinstance(Session(now).request_body(facts(LANGUAGE), TEXT), Accept)
        assert isinstance(Session(now).request_body(facts(RAW), b"{}"), Accept)


def test_rules_of_equal_policies_are_compiled_once() -> None:
    again = compile_rules(PolicySet(gateway=GatewayPolicy(), models={route(LANGUAGE): LANGUAGE}), RULES)
    assert again.models[route(LANGUAGE)] is RULES.models[route(LANGUAGE)]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "objct"},
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#/nowhere"},
        {"pattern": "(?=a)"},
        {"pattern": "(a)\\1"},
        {"format": "no-such-format"},
        {"$schema": "http://json-schema.org/draft-07/schema#"},
    ],
)
def test_a_schema_that_cannot_be_enforced_is_refused_at_load(schema: dict[str, Any]) -> None:
    with pytest.raises(PolicyError, match="model odd: input schema"):
        rules(model("odd", input=InputRule(schema=schema)))


def test_a_pointer_that_is_none_is_refused_at_load() -> None:
    tensor = TensorRule(name="x", datatype="FP32", shape=(1,), source="pixels")
    with pytest.raises(PolicyError, match="is not a JSON pointer"):
        rules(model("odd", input=InputRule(tensors=(tensor,))))


def test_a_pattern_that_explodes_elsewhere_is_judged_at_once() -> None:
    odd = model("odd", server="http", input=InputRule(schema={"properties": {"a": {"pattern": "^(a+)+$"}}}))
    body = json.dumps({"model": "odd", "a": "a" * 20_000 + "b"}).encode()
    verdict = Session(rules(odd)).request_body(facts(odd), body)
    assert refusal(verdict) == (422, "schema_violation", "/a")
    assert isinstance(verdict, Refuse)
    assert len(verdict.answer.body) < 1000, "what a client sent is not echoed"


def test_a_member_that_is_not_wanted_is_named() -> None:
    odd = model(
        "odd", server="http", input=InputRule(schema={"properties": {"model": {}}, "additionalProperties": False})
    )
    verdict = Session(rules(odd)).request_body(facts(odd), b'{"model": "odd", "a/b": 1}')
    assert refusal(verdict) == (422, "schema_violation", "/a~1b")


def test_an_http_model_gets_the_body_as_it_is() -> None:
    assert judge(b'{"model":  "raw"}', facts(RAW)) == Accept(model="raw", body=None)


def test_a_problem_speaks_the_dialect_of_the_model() -> None:
    chat = model("chat", dialect="openai", server="http")
    verdict = Session(rules(chat)).request_body(facts(chat), b"[]")
    assert isinstance(verdict, Refuse)
    assert json.loads(verdict.answer.body)["error"]["code"] == "not_an_object"


# -- answers -------------------------------------------------------------------------------------------------------


def test_an_answer_is_labelled_sorted_and_cut() -> None:
    verdict = answered(outputs(("p", "FP32", [1, 3], [0.2, 0.2, 0.6]), model_version="3"))
    assert isinstance(verdict, Rewrite)
    assert json.loads(verdict.body) == {
        "model": "language",
        "version": "3",
        "outputs": {"p": [{"label": "fr", "score": 0.6}, {"label": "de", "score": 0.2}]},
        "request_id": "r-1",
    }


@pytest.mark.parametrize(
    ("rule", "tensor", "expected"),
    [
        (OutputRule(), ("o", "FP32", [1, 2], [1, 2.5]), [1, 2.5]),
        (OutputRule(), ("o", "BYTES", [1], ["en"]), "en"),
        (OutputRule(), ("o", "BOOL", [2], [True, False]), [True, False]),
        (OutputRule(), ("o", "INT64", [2, 1, 2], [1, 2, 3, 4]), [[[1, 2]], [[3, 4]]]),
        (OutputRule(), ("o", "INT64", [2, 2], [[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (
            OutputRule(labels=("a", "b")),
            ("o", "FP32", [2], [1, 2]),
            [{"label": "b", "score": 2}, {"label": "a", "score": 1}],
        ),
        (
            OutputRule(labels=("a", "b"), top_k=1),
            ("o", "FP32", [2, 2], [1, 2, 4, 3]),
            [[{"label": "b", "score": 2}], [{"label": "a", "score": 4}]],
        ),
        (OutputRule(labels=("a",)), ("o", "FP32", [1], [1]), [{"label": "a", "score": 1}]),
        (OutputRule(top_k=1), ("o", "FP32", [1, 3], [1, 3, 3]), [{"index": 1, "score": 3}]),
    ],
)
def test_outputs_are_nested_by_shape_and_labelled(rule: OutputRule, tensor: Any, expected: Any) -> None:
    policy = text_model(output=rule)
    verdict = answered(outputs(tensor), policy)
    assert isinstance(verdict, Rewrite), verdict
    assert json.loads(verdict.body)["outputs"] == {"o": expected}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"outputs": []}',
        b'{"outputs": [5]}',
        outputs(("p", "FP32", [1, 3], [0.1, 0.2])),
        outputs(("p", "FP32", [1, 3], [0.1, 0.2, None])),
        outputs(("p", "FP32", [1, 3], [0.1, 0.2, "x"])),
        outputs(("p", "FP99", [1, 3], [0.1, 0.2, 0.3])),
        outputs(("p", "FP32", [-1, 3], [0.1, 0.2, 0.3])),
        outputs(("p", "FP32", [1, 3], [0.1, 0.2, float("nan")])),
        outputs(("p", "FP32", [1, 3], [0.1, 0.2, 0.3])).replace(b"0.3", b"1e999"),
        outputs(("p", "FP32", [1, 2], [0.1, 0.2])),
        outputs(("p", "BYTES", [1, 3], ["a", "b", "c"])),
        outputs(("p", "FP32", [1, 3], [1, 2, 3]), ("p", "FP32", [1, 3], [1, 2, 3])),
        outputs(("p", "FP32", [1, 3], [1, 2, 3]), model_version=3),
        outputs(("p", "FP64", [1, 3], [1, 2, 10**400])),
        b'{"outputs": "' + b"x" * LIMIT + b'"}',
    ],
)
def test_an_answer_that_cannot_be_trusted_is_a_bad_gateway(body: bytes) -> None:
    assert refusal(answered(body)) == (502, "upstream_invalid", None)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (ResponseFacts(status=500, details="via_upstream"), (502, "upstream_error", None)),
        (ResponseFacts(status=400, details="via_upstream"), (502, "upstream_error", None)),
        (ResponseFacts(status=301, details=None), (502, "upstream_error", None)),
        (ResponseFacts(status=504, details="via_upstream"), (504, "upstream_timeout", None)),
        (ResponseFacts(status=429, details="via_upstream"), (503, "upstream_busy", None)),
        (ResponseFacts(status=503, details="via_upstream"), (503, "upstream_busy", None)),
        (ResponseFacts(status=None, details="via_upstream"), (502, "upstream_invalid", None)),
        (ResponseFacts(status=200, details="via_upstream", end_of_stream=True), (502, "upstream_invalid", None)),
    ],
)
def test_the_head_of_an_answer_may_be_enough_to_refuse_it(head: ResponseFacts, expected: Any) -> None:
    assert refusal(accepted().response_headers(head)) == expected


@pytest.mark.parametrize(("said", "told"), [("7", "7"), ("0", "1"), ("soon", "1"), (None, "1"), ("9" * 30, "1")])
def test_a_busy_server_says_how_long_to_wait_within_reason(said: str | None, told: str) -> None:
    verdict = accepted().response_headers(ResponseFacts(status=503, details="via_upstream", retry_after=said))
    assert isinstance(verdict, Refuse)
    assert verdict.answer.headers["retry-after"] == told


def test_replies_of_the_gateway_itself_pass_unchanged() -> None:
    for session in (accepted(), Session(RULES), Session(None)):
        assert session.response_headers(ResponseFacts(status=503, details="no_healthy_upstream")) == PROCEED
        assert session.response_body(b"whatever") == PROCEED


def test_an_answer_to_a_request_that_was_never_validated_is_refused() -> None:
    assert refusal(Session(RULES).response_headers(UPSTREAM)) == (503, "not_validated", None)
    refused = Session(RULES)
    assert isinstance(refused.request_body(facts(LANGUAGE), b"{}"), Refuse)
    assert refusal(refused.response_body(b"{}")) == (503, "not_validated", None)


def test_an_answer_that_needs_no_rewriting_passes() -> None:
    session = Session(RULES)
    assert isinstance(session.request_body(facts(RAW), b'{"model": "raw"}'), Accept)
    assert session.response_headers(ResponseFacts(status=500, details="via_upstream")) == PROCEED
    assert session.response_body(b"boom") == PROCEED


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{"a": 1, "outputs": {"p": [0.1, 0.9], "n": "x"}}',
            {"a": 1, "outputs": {"p": [{"label": "y", "score": 0.9}], "n": "x"}},
        ),
        (outputs(("p", "FP32", [1, 2], [1, 0])), {"model_name": "m", "outputs": {"p": [{"label": "x", "score": 1}]}}),
    ],
)
def test_an_http_servers_outputs_are_labelled_where_they_fit(body: bytes, expected: Any) -> None:
    policy = model("web", server="http", output=OutputRule(labels=("x", "y"), top_k=1))
    verdict = answered(body, policy, b"{}")
    assert isinstance(verdict, Rewrite)
    assert json.loads(verdict.body) == expected


def test_an_http_servers_answer_without_the_scores_is_a_bad_gateway() -> None:
    policy = model("web", server="http", output=OutputRule(labels=("x", "y")))
    assert refusal(answered(b'{"outputs": {"p": [1]}}', policy, b"{}")) == (502, "upstream_invalid", None)
    assert refusal(answered(b'{"outputs": null}', policy, b"{}")) == (502, "upstream_invalid", None)


# -- whatever comes ------------------------------------------------------------------------------------------------

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FACTS = st.builds(
    RequestFacts,
    route=st.sampled_from([route(LANGUAGE), route(RAW), route(NUMBERS), "entry/predict", ""]) | st.text(),
    path=st.sampled_from(["/v1/predict", "/v1/models/language:predict"]) | st.text(),
    request_id=st.none() | st.text(),
    tenant=st.none() | st.text(),
    key_id=st.just("k"),
    models=st.none() | st.just("*") | st.text(),
)


@given(about=FACTS, body=st.binary() | ANY_JSON.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_make_the_session_raise(about: RequestFacts, body: bytes) -> None:
    session = Session(RULES)
    verdict = session.request_body(about, body)
    assert isinstance(verdict, Accept | Refuse)
    if isinstance(verdict, Refuse):
        json.loads(verdict.answer.body)


@given(body=st.binary() | ANY_JSON.map(lambda value: json.dumps({"outputs": value}).encode()))
def test_no_answer_makes_the_session_raise(body: bytes) -> None:
    session = accepted()
    session.response_headers(UPSTREAM)
    assert isinstance(session.response_body(body), Rewrite | Refuse)


@given(text=st.text(min_size=1))
def test_a_text_arrives_as_it_was_sent(text: str) -> None:
    verdict = judge(json.dumps({"text": text}).encode())
    assert isinstance(verdict, Accept)
    assert verdict.body is not None
    sent = msgspec.json.decode(verdict.body)
    assert sent == {"id": "r-1", "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]}


@given(
    rows=st.lists(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3), min_size=1
    )
)
def test_open_inference_inputs_go_through_and_come_back(rows: list[list[float]]) -> None:
    flat = [x for row in rows for x in row]
    tensor = {"name": "x", "shape": [len(rows), 3], "datatype": "FP32", "data": rows}
    session = Session(RULES)
    about = facts(NUMBERS, path="/v1/models/numbers:predict")
    verdict = session.request_body(about, json.dumps({"model": "numbers", "inputs": [tensor]}).encode())
    assert isinstance(verdict, Accept)
    assert verdict.body is not None
    sent = msgspec.json.decode(verdict.body)["inputs"]
    assert sent == [{**tensor, "data": flat}]
    session.response_headers(UPSTREAM)
    answer = session.response_body(json.dumps({"outputs": sent}).encode())
    assert isinstance(answer, Rewrite)
    assert json.loads(answer.body)["outputs"]["x"] == (rows if len(rows) > 1 else rows[0])
