"""RBAC filters (envoy.config.rbac.v3), evaluated: which policy of them matches, and what follows."""

from __future__ import annotations

from control_plane.explain.cel import CelError, evaluate
from control_plane.explain.exchange import Exchange, LocalReply
from control_plane.explain.unknown import CannotExplainError, only
from control_plane.explain.values import metadata_matches
from gateway import envoy_api as api


def rbac(name: str, config: api.rbac_v3.RBAC, exchange: Exchange) -> LocalReply | None:
    """Run the filter.

    Raises:
        CannotExplainError: it holds rules that are not known here.
    """
    only(config, {"rules"}, f"filter {name}")
    only(config.rules, {"action", "policies"}, f"filter {name}")
    allows = config.rules.action == api.rbac_config_v3.RBAC.ALLOW
    if not allows and config.rules.action != api.rbac_config_v3.RBAC.DENY:
        raise CannotExplainError(f"filter {name} only logs, which isg explain does not know")
    # Envoy tries policies in the order of their names; all are evaluated, so that what is not known is met.
    matched = [policy for policy, rule in sorted(config.rules.policies.items()) if _matches(rule, exchange)]
    policy = matched[0] if matched else "none"
    if allows == bool(matched):
        why = f"its policy {policy} matches" if matched else "none of its policies matches"
        exchange.say(name, "passed", why)
        return None
    exchange.say(name, "refused", f"its policy {policy} matches" if matched else "none of its policies allows it")
    return LocalReply(status=403, details=f"rbac_access_denied_matched_policy[{policy}]")


def _matches(policy: api.rbac_config_v3.Policy, exchange: Exchange) -> bool:
    only(policy, {"permissions", "principals", "condition", "cel_config"}, "an access policy")
    permitted = [_permits(permission, exchange) for permission in policy.permissions]
    for principal in policy.principals:
        only(principal, {"any"}, "an access policy's principal")
    return any(permitted) and bool(policy.principals) and _condition(policy, exchange)


def _permits(permission: api.rbac_config_v3.Permission, exchange: Exchange) -> bool:
    kind = permission.WhichOneof("rule")
    if kind == "any":
        return permission.any
    if kind == "not_rule":
        return not _permits(permission.not_rule, exchange)
    if kind == "sourced_metadata":
        only(permission.sourced_metadata, {"metadata_matcher"}, "an access policy's metadata")
        return metadata_matches(permission.sourced_metadata.metadata_matcher, exchange.metadata)
    raise CannotExplainError(f"an access policy has a rule {kind}, which isg explain does not know")


def _condition(policy: api.rbac_config_v3.Policy, exchange: Exchange) -> bool:
    if not policy.HasField("condition"):
        return True
    variables = {"metadata": {"filter_metadata": exchange.metadata}, "request": {"size": len(exchange.body)}}
    try:
        return evaluate(policy.condition, variables) is True
    except CelError:
        return False
