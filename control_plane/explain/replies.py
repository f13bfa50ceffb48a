"""What the client is told: direct responses, Envoy's own replies through the reply mappers, and the services' answers.

The mappers' conditions are CEL texts of three shapes, made by :mod:`control_plane.translate.local_replies`.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from google.protobuf.json_format import MessageToDict

from control_plane.explain.exchange import LocalReply, Reply
from control_plane.explain.unknown import CannotExplainError
from gateway import envoy_api as api

_BEGINS: Final = r"response\.code_details\.startsWith\('[^']*'\)"
_ANY_OF: Final = re.compile(rf"{_BEGINS}(?: \|\| {_BEGINS})*\Z")
_ANY_OF_AND_CODE: Final = re.compile(rf"\(({_BEGINS}(?: \|\| {_BEGINS})*)\) && response\.code == ([0-9]+)\Z")
_CODE: Final = re.compile(
    r"response\.code (==|>=) ([0-9]+) && !\(response\.code_details in \[((?:'[^']*'(?:, )?)*)\]\)\Z"
)
_ROUTE_METADATA: Final = re.compile(r"%METADATA\(ROUTE:([^:)]+):([^:)]+)\)%")
_COMMAND: Final = re.compile(r"%[A-Z_]+[(%]")
_QUOTED: Final = re.compile(r"'([^']*)'")


def direct(action: api.route_v3.DirectResponseAction) -> Reply:
    """What a route answers by itself."""
    if action.HasField("body_format"):
        return _problem(action.status, _members(action.body_format))
    return Reply(status=action.status, code=None, detail=action.body.inline_string.strip())


def local(reply: LocalReply, manager: api.hcm_v3.HttpConnectionManager, route: api.route_v3.Route | None) -> Reply:
    """What becomes of a reply that Envoy makes itself: the first mapper that matches writes it.

    Args:
        route: whose metadata the mapper's text may quote.

    Raises:
        CannotExplainError: a mapper's condition or text is not of a known shape, or none matches.
    """
    for mapper in manager.local_reply_config.mappers:
        config = mapper.filter.extension_filter.typed_config
        if not config.type_url.endswith(".ExpressionFilter"):
            raise CannotExplainError("a reply mapper has a condition that isg explain does not know")
        if _holds(api.als_filters_cel_v3.ExpressionFilter.FromString(config.value).expression, reply):
            status = mapper.status_code.value or reply.status
            document = _members(mapper.body_format_override)
            return _problem(status, {**document, "detail": _filled(document.get("detail", ""), route)})
    raise CannotExplainError(f"no reply mapper writes the reply {reply.details}")


def answered(status: int, body: bytes) -> Reply:
    """The answer of one of our services, in whatever dialect."""
    try:
        document = json.loads(body)
    except ValueError:
        document = {}
    return _problem(status, document if isinstance(document, dict) else {})


def _filled(text: str, route: api.route_v3.Route | None) -> str:
    """Envoy's format commands in a text: metadata of the route only."""

    def value(command: re.Match[str]) -> str:
        members = {} if route is None else route.metadata.filter_metadata[command[1]].fields
        return members[command[2]].string_value if command[2] in members else "-"

    filled = _ROUTE_METADATA.sub(value, text)
    if _COMMAND.search(filled):
        raise CannotExplainError(f"a reply quotes what isg explain does not know: {filled}")
    return filled


def _holds(condition: str, reply: LocalReply) -> bool:
    if _ANY_OF.match(condition):
        return reply.details.startswith(tuple(_QUOTED.findall(condition)))
    if found := _ANY_OF_AND_CODE.match(condition):
        return reply.status == int(found[2]) and reply.details.startswith(tuple(_QUOTED.findall(found[1])))
    if found := _CODE.match(condition):
        code = int(found[2])
        right = reply.status == code if found[1] == "==" else reply.status >= code
        return right and reply.details not in _QUOTED.findall(found[3])
    raise CannotExplainError(f"a reply mapper's condition is not known to isg explain: {condition}")


def _members(body_format: api.core_v3.SubstitutionFormatString) -> dict[str, Any]:
    return MessageToDict(body_format.json_format)


def _problem(status: int, document: dict[str, Any]) -> Reply:
    """From RFC 9457, OpenAI's or Open Inference's form."""
    error = document.get("error")
    if isinstance(error, dict):
        document = {"code": error.get("code"), "detail": error.get("message"), "field": error.get("param")}
    elif isinstance(error, str):
        document = {"detail": error}
    return Reply(
        status=status, code=document.get("code"), detail=document.get("detail") or "", field=document.get("field")
    )
