"""Envoy's matchers of strings, values and metadata (envoy.type.matcher.v3), evaluated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from control_plane.explain.unknown import CannotExplainError, only
from gateway import envoy_api as api

#: Dynamic metadata: namespace → key → value.
Metadata = Mapping[str, Mapping[str, Any]]


def regex_matches(matcher: api.matcher_v3.RegexMatcher, value: str) -> bool:
    """A full match. Our patterns mean the same to RE2 and to Python, once ``\\d`` and its kin are ASCII."""
    only(matcher, {"regex", "google_re2"}, "a regular expression")
    return re.fullmatch(matcher.regex, value, re.ASCII) is not None


def string_matches(matcher: api.matcher_v3.StringMatcher, value: str) -> bool:
    """Whether a string matches.

    Raises:
        CannotExplainError: a kind of match that is not known here.
    """
    only(matcher, {"exact", "prefix", "suffix", "contains", "safe_regex", "ignore_case"}, "a string matcher")
    kind = matcher.WhichOneof("match_pattern")
    if kind == "safe_regex":
        return regex_matches(matcher.safe_regex, value)
    if kind is None:
        raise CannotExplainError("a string matcher says nothing")
    wanted: str = getattr(matcher, kind)
    if matcher.ignore_case:
        wanted, value = wanted.lower(), value.lower()
    if kind == "exact":
        return value == wanted
    if kind == "prefix":
        return value.startswith(wanted)
    return value.endswith(wanted) if kind == "suffix" else wanted in value


def value_matches(matcher: api.matcher_v3.ValueMatcher, value: object) -> bool:
    """Whether a metadata value matches; None stands for a value that is not there.

    Raises:
        CannotExplainError: a kind of match that is not known here.
    """
    only(matcher, {"string_match", "bool_match", "present_match"}, "a value matcher")
    kind = matcher.WhichOneof("match_pattern")
    if kind == "string_match":
        return isinstance(value, str) and string_matches(matcher.string_match, value)
    if kind == "bool_match":
        return isinstance(value, bool) and value == matcher.bool_match
    if kind == "present_match":
        return matcher.present_match and value is not None
    raise CannotExplainError("a value matcher says nothing")


def metadata_matches(matcher: api.matcher_v3.MetadataMatcher, metadata: Metadata) -> bool:
    """Whether dynamic metadata matches.

    Raises:
        CannotExplainError: a kind of match that is not known here.
    """
    only(matcher, {"filter", "path", "value", "invert"}, "a metadata matcher")
    value: Any = metadata.get(matcher.filter)
    for segment in matcher.path:
        value = value.get(segment.key) if isinstance(value, Mapping) else None
    return value_matches(matcher.value, value) != matcher.invert
