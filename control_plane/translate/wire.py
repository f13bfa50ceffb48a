"""Short spellings for what Envoy's API wraps: Any, UInt32Value, Struct, matchers."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from gateway import envoy_api as api
from gateway.messages import TYPE_URL_PREFIX

INT64_MAX = 2**63 - 1


def any_of(message: Message) -> api.protobuf.Any:
    """A message as ``google.protobuf.Any``, with deterministic bytes."""
    return api.protobuf.Any(
        type_url=TYPE_URL_PREFIX + message.DESCRIPTOR.full_name, value=message.SerializeToString(deterministic=True)
    )


def extension(name: str, message: Message) -> api.core_v3.TypedExtensionConfig:
    """A named extension."""
    return api.core_v3.TypedExtensionConfig(name=name, typed_config=any_of(message))


def uint32(value: int) -> api.protobuf.UInt32Value:
    """A wrapped unsigned integer."""
    return api.protobuf.UInt32Value(value=value)


def true() -> api.protobuf.BoolValue:
    """A wrapped ``true``."""
    return api.protobuf.BoolValue(value=True)


def struct(members: Mapping[str, object]) -> api.protobuf.Struct:
    """A JSON object."""
    return ParseDict(dict(members), api.protobuf.Struct())


def seconds(value: float) -> api.protobuf.Duration:
    """A duration, to the nanosecond."""
    nanos = round(value * 1e9)
    return api.protobuf.Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)


def regex(pattern: str) -> api.matcher_v3.RegexMatcher:
    """A full match by RE2."""
    return api.matcher_v3.RegexMatcher(regex=pattern)


def exact(value: str) -> api.matcher_v3.StringMatcher:
    """An exact string match."""
    return api.matcher_v3.StringMatcher(exact=value)


def full_match(pattern: str) -> api.matcher_v3.StringMatcher:
    """A string that a regular expression matches whole."""
    return api.matcher_v3.StringMatcher(safe_regex=regex(pattern))


def strings(*, exact_values: tuple[str, ...] = (), prefixes: tuple[str, ...] = ()) -> api.matcher_v3.ListStringMatcher:
    """Any of some strings or prefixes."""
    return api.matcher_v3.ListStringMatcher(
        patterns=[
            *(exact(value) for value in exact_values),
            *(api.matcher_v3.StringMatcher(prefix=prefix) for prefix in prefixes),
        ]
    )


def metadata(namespace: str, key: str, value: api.matcher_v3.ValueMatcher) -> api.matcher_v3.MetadataMatcher:
    """One member of a request's dynamic metadata."""
    return api.matcher_v3.MetadataMatcher(
        filter=namespace, path=[api.matcher_v3.MetadataMatcher.PathSegment(key=key)], value=value
    )


def metadata_string(namespace: str, key: str, matcher: api.matcher_v3.StringMatcher) -> api.matcher_v3.MetadataMatcher:
    """A member of dynamic metadata that is a string and matches."""
    return metadata(namespace, key, api.matcher_v3.ValueMatcher(string_match=matcher))


def set_header(key: str, value: str) -> api.core_v3.HeaderValueOption:
    """A header that is set, whatever was there."""
    return api.core_v3.HeaderValueOption(
        header=api.core_v3.HeaderValue(key=key, value=value), append_action="OVERWRITE_IF_EXISTS_OR_ADD"
    )
