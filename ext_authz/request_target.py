"""What may be judged at all: origin-form request targets (RFC 9112, section 3.2.1), and the dialect of their path.

Envoy has normalised the path and matched an entry route before it asks; this is the second pair of eyes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gateway.names import CHECK_PREFIX
from gateway.problem import Dialect

_OPENAI: Final = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models"})
_METHOD: Final = re.compile(r"[A-Z]{1,32}\Z")
#: Absolute path (RFC 3986, section 3.3) and a query that may hold any visible ASCII but a fragment.
_ORIGIN_FORM: Final = re.compile(r"(/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*)(?:\?[!\"$-~]*)?\Z")
_DOT_SEGMENT: Final = re.compile(r"/\.{1,2}(?:/|\Z)")
#: Methods whose target is no path, or that make the gateway repeat what it was sent.
_REFUSED_METHODS: Final = frozenset({"CONNECT", "TRACE"})


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What the decision needs to know of a request.

    Attributes:
        path: the original path without its query; None when the method or target is not one that may be judged.
    """

    method: str
    path: str | None


def read_target(method: str, check_target: str) -> RequestFacts | None:
    """The original request behind Envoy's question ``<METHOD> /check<target>``; None when it is not such a question."""
    if not check_target.startswith(CHECK_PREFIX):
        return None
    match = _ORIGIN_FORM.match(check_target, len(CHECK_PREFIX))
    if match is None or not _METHOD.match(method) or method in _REFUSED_METHODS:
        return RequestFacts(method, None)
    path = match[1]
    if path.startswith("//") or ("/." in path and _DOT_SEGMENT.search(path)):
        return RequestFacts(method, None)
    return RequestFacts(method, path)


def dialect_of(path: str | None) -> Dialect:
    """The dialect that errors for a path are written in."""
    if path is None:
        return "predict"
    if path in _OPENAI:
        return "openai"
    return "open-inference" if path == "/v2" or path.startswith("/v2/") else "predict"
