"""json_to_metadata, evaluated: which model a body names, as Envoy reads it."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from control_plane.explain.exchange import Exchange
from control_plane.explain.unknown import CannotExplainError, only
from control_plane.explain.values import regex_matches
from gateway import envoy_api as api
from gateway.names import META_MODEL, NS_ISG, PATH_MODEL_PREDICT

Rule = api.json_to_metadata_v3.JsonToMetadata.Rule
Found = Literal["on_present", "on_missing", "on_error"]

_REASONS: Final = {
    "on_present": "the body names it",
    "on_missing": "the default, since the body names none",
    "on_error": "the body cannot be read as JSON",
}


def json_to_metadata(name: str, config: api.json_to_metadata_v3.JsonToMetadata, exchange: Exchange) -> bool:
    """Run the filter; whether it wrote something, so that the route is selected again.

    Raises:
        CannotExplainError: it holds rules that are not known here.
    """
    only(config, {"request_rules"}, f"filter {name}")
    only(config.request_rules, {"rules", "allow_content_types_regex"}, f"filter {name}")
    reason, wrote = "the body names none", False
    for rule in config.request_rules.rules:
        found, value = _read(name, rule, config.request_rules, exchange)
        if _write(rule, found, value, exchange):
            reason, wrote = _REASONS[found], True
        elif found == "on_error":
            reason = _REASONS[found]
    named = PATH_MODEL_PREDICT.match(exchange.path)
    model = exchange.metadata.get(NS_ISG, {}).get(META_MODEL)
    if named is not None:
        exchange.say("model", named[1], "the path names it")
    elif model is not None:
        exchange.say("model", model if isinstance(model, str) else json.dumps(model), reason)
    else:
        exchange.say("model", "none", reason)
    return wrote


def _read(
    name: str, rule: Rule, rules: api.json_to_metadata_v3.JsonToMetadata.MatchRules, exchange: Exchange
) -> tuple[Found, Any]:
    only(rule, {"selectors", "on_present", "on_missing", "on_error"}, f"filter {name}")
    if len(rule.selectors) != 1:
        raise CannotExplainError(f"filter {name} selects deep members, which isg explain does not know")
    content_type = exchange.headers.get("content-type", "")
    if not regex_matches(rules.allow_content_types_regex, content_type) or not exchange.body:
        return "on_missing", None
    try:
        document = json.loads(exchange.body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return "on_error", None
    value = document.get(rule.selectors[0].key) if isinstance(document, dict) else None
    return ("on_missing" if value is None else "on_present"), value


def _no_constant(text: str) -> None:
    """NaN and Infinity, which only Python takes for JSON."""
    raise ValueError(text)


def _write(rule: Rule, found: Found, value: Any, exchange: Exchange) -> bool:  # noqa: ANN401 - whatever JSON holds
    if not rule.HasField(found):
        return False
    pair: api.json_to_metadata_v3.JsonToMetadata.KeyValuePair = getattr(rule, found)
    only(pair, {"metadata_namespace", "key", "value"}, "a rule of json_to_metadata")
    if pair.HasField("value"):
        if pair.value.WhichOneof("kind") != "string_value":
            raise CannotExplainError("a rule of json_to_metadata writes what is no string")
        value = pair.value.string_value
    elif isinstance(value, dict | list):
        # Envoy writes such a value as its JSON text.
        value = json.dumps(value, separators=(",", ":"))
    exchange.metadata.setdefault(pair.metadata_namespace, {})[pair.key] = value
    return True
