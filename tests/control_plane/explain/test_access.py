"""RBAC and its conditions, as isg explain evaluates them."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from control_plane.explain.access import rbac
from control_plane.explain.cel import CelError, evaluate
from control_plane.explain.exchange import Exchange
from control_plane.explain.unknown import CannotExplainError
from control_plane.translate.model_access import gate, model_access
from gateway import envoy_api as api
from gateway.messages import pool
from gateway.names import HEADER_MODELS, NS_AUTHZ, NS_ISG, may_use

ALLOW_ANY = {"permissions": [{"any": True}], "principals": [{"any": True}]}


def exchange(model: object = None, models: str | None = None, body: bytes = b"{}", **isg: str) -> Exchange:
    metadata: dict[str, dict[str, Any]] = {NS_ISG: {**isg, **({} if model is None else {"model": model})}}
    if models is not None:
        metadata[NS_AUTHZ] = {HEADER_MODELS: models}
    return Exchange(headers={":method": "POST"}, body=body, metadata=metadata)


def denied(config: api.rbac_v3.RBAC, of: Exchange) -> str | None:
    found = rbac("access", config, of)
    return None if found is None else found.details


@pytest.mark.parametrize("models", ["*", ",a,", ",a,b-1,", ",ab,", ",,"])
@pytest.mark.parametrize("model", ["a", "b-1", "b", "a,b-1", ",", "", "A", "*"])
def test_the_translated_rule_is_the_rule_of_the_contract(models: str, model: str) -> None:
    allowed = denied(model_access(), exchange(model, models)) is None
    assert allowed == may_use(models, model)


@pytest.mark.parametrize("model", [None, 5.0, True])
def test_a_body_without_a_name_passes_the_rule(model: object) -> None:
    assert denied(model_access(), exchange(model, ",a,")) is None


def test_nobody_passes_whose_models_are_not_known() -> None:
    assert denied(model_access(), exchange("a")) == "rbac_access_denied_matched_policy[none]"


def test_the_gate_opens_for_a_verdict_on_a_body_only() -> None:
    config = gate(NS_ISG, "validated", "yes")
    assert denied(config, exchange(validated="yes")) is None
    assert denied(config, exchange()) == "rbac_access_denied_matched_policy[not_validated]"
    assert denied(config, exchange(validated="yes", body=b"")) == "rbac_access_denied_matched_policy[empty_body]"


@pytest.mark.parametrize(
    "content",
    [
        {"shadow_rules": {}},
        {"rules": {"action": "LOG"}},
        {"rules": {"audit_logging_options": {"audit_condition": "ON_DENY"}}},
        {"rules": {"policies": {"a": {**ALLOW_ANY, "permissions": [{"url_path": {"path": {"exact": "/"}}}]}}}},
        {"rules": {"policies": {"a": {**ALLOW_ANY, "principals": [{"remote_ip": {"address_prefix": "10.0.0.0"}}]}}}},
        {"rules": {"policies": {"a": {**ALLOW_ANY, "condition": {"list_expr": {}}}}}},
        {"rules": {"policies": {"a": {**ALLOW_ANY, "condition": {"call_expr": {"function": "size"}}}}}},
        {"rules": {"policies": {"a": {**ALLOW_ANY, "condition": {"const_expr": {"double_value": 1}}}}}},
        {"matcher": {}},
    ],
)
def test_a_rule_that_is_not_known_is_an_error(content: dict[str, Any]) -> None:
    with pytest.raises(CannotExplainError):
        rbac("access", ParseDict(content, api.rbac_v3.RBAC(), descriptor_pool=pool()), exchange())


def test_a_condition_over_what_is_not_there_has_no_value() -> None:
    def call(function: str, *names: object) -> api.expr_v1alpha1.Expr:
        arguments = [
            {"const_expr": {"int64_value": name}} if isinstance(name, int) else {"const_expr": {"string_value": name}}
            for name in names
        ]
        content = {"call_expr": {"function": function, "args": arguments}}
        return ParseDict(content, api.expr_v1alpha1.Expr(), descriptor_pool=pool())

    assert evaluate(call("_+_", "a", "b"), {}) == "ab"
    assert evaluate(call("_==_", 1, 1), {}) is True
    for expression in (call("_+_", "a", 1), call("_+_", 1, 1), call("_==_", "1", 1), call("_[_]", "a", "b")):
        with pytest.raises(CelError):
            evaluate(expression, {})
    with pytest.raises(CelError):
        evaluate(ParseDict({"ident_expr": {"name": "x"}}, api.expr_v1alpha1.Expr(), descriptor_pool=pool()), {})
