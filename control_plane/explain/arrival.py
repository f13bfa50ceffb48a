"""A request before any route is looked for: what the connection manager refuses, normalises, removes and adds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from control_plane.explain.exchange import Exchange, LocalReply
from control_plane.explain.unknown import CannotExplainError, only
from control_plane.explain.values import string_matches
from gateway import envoy_api as api
from gateway.names import HEADER_REQUEST_ID

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT")
#: What every explained request is called.
REQUEST_ID: Final = "explained"
_NO_BODY_BY_NATURE: Final = {"GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
_PEER: Final = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"
_PEER_ADDRESS: Final = "127.0.0.1"
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
#: Characters of RFC 3986, section 3.3, which Envoy leaves alone; a query may hold any visible ASCII but a fragment.
_TARGET: Final = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*(?:\?[!\"$-~]*)?\Z")
_AUTHORITY: Final = re.compile(r"[!-~]+:[0-9]{1,5}\Z")


def request(method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes | None) -> Exchange:
    """What a client sends for these; what clients add by themselves is added.

    Args:
        target: path with query; HOST:PORT for CONNECT.
        body: None where there is none.

    Raises:
        CannotExplainError: it is no request that can be followed here.
    """
    if method not in METHODS:
        raise CannotExplainError(f"the method is one of {', '.join(METHODS)}")
    found = {":method": method, **_target(method, target)}
    for name, value in headers:
        _add(found, name, value)
    _refuse_hop_by_hop(found)
    chunked = "transfer-encoding" in found
    if body is not None:
        found.setdefault("content-type", "application/json")
    if not chunked and (body is not None or method not in _NO_BODY_BY_NATURE):
        found.setdefault("content-length", str(len(body or b"")))
    return Exchange(headers=found, body=body or b"")


def _target(method: str, target: str) -> dict[str, str]:
    if method == "CONNECT":
        if not _AUTHORITY.match(target):
            raise CannotExplainError("CONNECT takes HOST:PORT in place of a path")
        return {":authority": target}
    if not _TARGET.match(target):
        raise CannotExplainError("the path begins with /, and has characters that a URL may have, without escapes")
    return {":authority": "gateway.example", ":path": target}


def _add(headers: dict[str, str], name: str, value: str) -> None:
    key = name.lower()
    if not _NAME.match(name):
        raise CannotExplainError(f"{name!r} is no header's name")
    if key == "host":
        headers[":authority"] = value
    else:
        headers[key] = f"{headers[key]},{value}" if key in headers else value


def _refuse_hop_by_hop(headers: dict[str, str]) -> None:
    if headers.get("transfer-encoding", "chunked").lower() != "chunked":
        raise CannotExplainError("isg explain follows no transfer encoding but chunked")
    named = {token.strip().lower() for token in headers.get("connection", "").split(",")}
    if named - {"", "close", "keep-alive", "upgrade"} or headers.get("upgrade", "").lower() == "h2c":
        raise CannotExplainError("isg explain follows no headers that `connection` names, and no upgrade to h2c")


def arrive(exchange: Exchange, manager: api.hcm_v3.HttpConnectionManager) -> LocalReply | None:
    """Refuse, normalise and clean a request as the connection manager does.

    Raises:
        CannotExplainError: something of it cannot be followed here.
    """
    rejects = api.core_v3.HttpProtocolOptions.REJECT_REQUEST
    if manager.common_http_protocol_options.headers_with_underscores_action == rejects:
        named = [name for name in exchange.headers if "_" in name]
        if named:
            exchange.say("arrival", f"the header {named[0]} is refused", "names with underscores are taken for others")
            return LocalReply(status=400, details="http1.unexpected_underscore")
    if ":path" in exchange.headers:
        path, separator, query = exchange.path.partition("?")
        if re.search("%2f|%5c", path, re.IGNORECASE):
            exchange.say("arrival", "the path is refused", "escaped slashes are read differently by different servers")
            return LocalReply(status=400, details="path_normalization_failed")
        exchange.headers[":path"] = _normalised(path, manager) + separator + query
    exchange.headers[HEADER_REQUEST_ID] = REQUEST_ID
    _early(exchange, manager)
    length = f", {len(exchange.body)} bytes" if exchange.body else ""
    kind = f" of {exchange.headers['content-type']}" if length and "content-type" in exchange.headers else ""
    exchange.say("arrival", f"{exchange.method} {exchange.path or exchange.headers[':authority']}{length}{kind}")
    return None


def _normalised(path: str, manager: api.hcm_v3.HttpConnectionManager) -> str:
    escaped = api.hcm_v3.HttpConnectionManager.REJECT_REQUEST
    if not manager.normalize_path.value or manager.path_with_escaped_slashes_action != escaped:
        raise CannotExplainError("the listener normalises paths in a way that isg explain does not know")
    if "%" in path:
        raise CannotExplainError(
            "isg explain does not follow percent escapes in a path: write the characters themselves"
        )
    segments: list[str] = []
    parts = path.split("/")[1:]
    for part in parts:
        if part == "..":
            segments = segments[:-1]
        elif part != ".":
            segments.append(part)
    if parts[-1] in {".", ".."}:
        segments.append("")
    result = "/" + "/".join(segments)
    return re.sub("/+", "/", result) if manager.merge_slashes else result


def _early(exchange: Exchange, manager: api.hcm_v3.HttpConnectionManager) -> None:
    """Header mutations before routing."""
    for extension in manager.early_header_mutation_extensions:
        if not extension.typed_config.type_url.endswith(".early_header_mutation.header_mutation.v3.HeaderMutation"):
            raise CannotExplainError(f"early header mutation {extension.name!r} is not known to isg explain")
        for mutation in api.early_header_v3.HeaderMutation.FromString(extension.typed_config.value).mutations:
            _mutate(exchange.headers, mutation)


def _mutate(headers: dict[str, str], mutation: api.mutation_rules_v3.HeaderMutation) -> None:
    kind = mutation.WhichOneof("action")
    if kind == "remove":
        headers.pop(mutation.remove.lower(), None)
    elif kind == "remove_on_match":
        only(mutation.remove_on_match, {"key_matcher"}, "a header mutation")
        for name in [name for name in headers if string_matches(mutation.remove_on_match.key_matcher, name)]:
            del headers[name]
    elif kind == "append" and mutation.append.header.value == _PEER:
        headers[mutation.append.header.key] = _PEER_ADDRESS
    else:
        raise CannotExplainError("an early header mutation does what isg explain does not know")
