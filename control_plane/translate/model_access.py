"""Row 4: the model that the body names must be one of the key's models (RBAC).

ext_authz has put the key's models into metadata as ``,a,b,`` or ``*``; json_to_metadata has put the body's model there.
A body without a usable model name passes: no model route can match it, and ext_proc tells the client what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.translate.wire import exact, full_match, metadata_string
from gateway import envoy_api as api
from gateway.names import ANY_MODEL, HEADER_MODELS, META_MODEL, MODEL_CHARACTERS, NS_AUTHZ, NS_ISG


def model_access() -> api.rbac_v3.RBAC:
    """The filter's configuration: allow if any policy matches, else deny with policy ``none``."""
    permission = api.rbac_config_v3.Permission
    named = _holds(NS_ISG, META_MODEL, full_match(MODEL_CHARACTERS))
    policies = {
        # `contains` needs these two CEL options, or the filter validates and then denies everything.
        "model_of_key": api.rbac_config_v3.Policy(
            permissions=[named],
            principals=[api.rbac_config_v3.Principal(any=True)],
            condition=_listed(),
            cel_config=api.core_v3.CelExpressionConfig(enable_string_concat=True, enable_string_functions=True),
        ),
        "any_model": _policy(_holds(NS_AUTHZ, HEADER_MODELS, exact(ANY_MODEL))),
        # A string outside the grammar is still a name: only the absence of a string passes here.
        "no_model": _policy(permission(not_rule=_holds(NS_ISG, META_MODEL, full_match("(?s).*")))),
    }
    return api.rbac_v3.RBAC(rules=api.rbac_config_v3.RBAC(action="ALLOW", policies=policies))


def gate(namespace: str, key: str, value: str) -> api.rbac_v3.RBAC:
    """Row 7: deny what carries no verdict of ext_proc.

    DENY with a policy of its own name makes this reply distinguishable from row 4's in ``response.code_details``.
    """
    policies = {
        # An empty body opens no ext_proc stream, and only here is it known to be empty however it was framed.
        # Policies are tried in the order of their names.
        "empty_body": api.rbac_config_v3.Policy(
            permissions=[api.rbac_config_v3.Permission(any=True)],
            principals=[api.rbac_config_v3.Principal(any=True)],
            condition=_call("_==_", [_select("request", "size"), _integer(0)]),
        ),
        "not_validated": _policy(api.rbac_config_v3.Permission(not_rule=_holds(namespace, key, exact(value)))),
    }
    return api.rbac_v3.RBAC(rules=api.rbac_config_v3.RBAC(action="DENY", policies=policies))


def _policy(permission: api.rbac_config_v3.Permission) -> api.rbac_config_v3.Policy:
    return api.rbac_config_v3.Policy(permissions=[permission], principals=[api.rbac_config_v3.Principal(any=True)])


def _holds(namespace: str, key: str, matcher: api.matcher_v3.StringMatcher) -> api.rbac_config_v3.Permission:
    return api.rbac_config_v3.Permission(
        sourced_metadata=api.rbac_config_v3.SourcedMetadata(metadata_matcher=metadata_string(namespace, key, matcher))
    )


# -- metadata.filter_metadata['…authz']['x-isg-models'].contains(',' + metadata.filter_metadata['isg']['model'] + ',')


def _listed() -> api.expr_v1alpha1.Expr:
    models = _index(_index(_select("metadata", "filter_metadata"), NS_AUTHZ), HEADER_MODELS)
    model = _index(_index(_select("metadata", "filter_metadata"), NS_ISG), META_MODEL)
    item = _call("_+_", [_call("_+_", [_text(","), model]), _text(",")])
    return _call("contains", [item], target=models)


def _select(name: str, field: str) -> api.expr_v1alpha1.Expr:
    result = api.expr_v1alpha1.Expr()
    result.select_expr.operand.ident_expr.name = name
    result.select_expr.field = field
    return result


def _integer(value: int) -> api.expr_v1alpha1.Expr:
    result = api.expr_v1alpha1.Expr()
    result.const_expr.int64_value = value
    return result


def _text(value: str) -> api.expr_v1alpha1.Expr:
    result = api.expr_v1alpha1.Expr()
    result.const_expr.string_value = value
    return result


def _index(of: api.expr_v1alpha1.Expr, key: str) -> api.expr_v1alpha1.Expr:
    return _call("_[_]", [of, _text(key)])


def _call(
    function: str, args: Sequence[api.expr_v1alpha1.Expr], target: api.expr_v1alpha1.Expr | None = None
) -> api.expr_v1alpha1.Expr:
    return api.expr_v1alpha1.Expr(call_expr=api.expr_v1alpha1.Expr.Call(function=function, args=args, target=target))
