"""Row 3: the body's ``model``, read natively. Envoy then selects the route again, by the model's metadata."""

from __future__ import annotations

from control_plane.translate.wire import regex
from gateway import envoy_api as api
from gateway.names import META_BODY_READ, META_MODEL, NS_ISG

#: Media types of a JSON body. RE2, full match. The type travels on, and model servers decode by its charset: in UTF-7
#: the bytes that were judged would be another document. Any other parameter could hide a second type behind a comma.
JSON_CONTENT_TYPE = r"""(?i)application/json[ \t]*(;[ \t]*(charset="?utf-8"?)?[ \t]*)?"""


def model_name(default: str | None = None) -> api.json_to_metadata_v3.JsonToMetadata:
    """The filter's configuration.

    Args:
        default: the model of a body that names none; only entry routes that serve JSON may give one, since the
            filter writes it for every content type that is not its own.
    """
    pair = api.json_to_metadata_v3.JsonToMetadata.KeyValuePair
    rule = api.json_to_metadata_v3.JsonToMetadata.Rule(
        selectors=[api.json_to_metadata_v3.JsonToMetadata.Selector(key="model")],
        on_present=pair(metadata_namespace=NS_ISG, key=META_MODEL),
    )
    if default is not None:
        value = api.protobuf.Value(string_value=default)
        rule.on_missing.CopyFrom(pair(metadata_namespace=NS_ISG, key=META_MODEL, value=value))
    return _filter(rule)


def model_of_path() -> api.json_to_metadata_v3.JsonToMetadata:
    """For paths that name the model: whatever the body is, something is written, and Envoy selects the route again.

    (ext_authz clears the route cache only when it has changed a request header, and it changes none.)
    """
    said = api.json_to_metadata_v3.JsonToMetadata.KeyValuePair(
        metadata_namespace=NS_ISG, key=META_BODY_READ, value=api.protobuf.Value(string_value="yes")
    )
    return _filter(
        api.json_to_metadata_v3.JsonToMetadata.Rule(
            selectors=[api.json_to_metadata_v3.JsonToMetadata.Selector(key="model")],
            on_present=said,
            on_missing=said,
            on_error=said,
        )
    )


def _filter(rule: api.json_to_metadata_v3.JsonToMetadata.Rule) -> api.json_to_metadata_v3.JsonToMetadata:
    return api.json_to_metadata_v3.JsonToMetadata(
        request_rules=api.json_to_metadata_v3.JsonToMetadata.MatchRules(
            rules=[rule], allow_content_types_regex=regex(JSON_CONTENT_TYPE)
        )
    )
