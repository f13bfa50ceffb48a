"""One Problem for every refusal, rendered in the caller's dialect.

Renderings: RFC 9457 ``application/problem+json`` for the predict dialect and the admin API, ``{"error": {...}}`` for
OpenAI, ``{"error": "..."}`` for Open Inference (KServe OIP v2). A Problem's text is written for the client: never
a stack trace, an internal name, a backend's raw words or a secret.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal

Dialect = Literal["predict", "open-inference", "openai"]

PROBLEM_JSON: Final = "application/problem+json"
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a request was refused.

    Attributes:
        status: HTTP status code.
        code: stable word for programs, in snake_case (``invalid_json``).
        message: one sentence for a person.
        field: JSON pointer (RFC 6901) of the offending value, where there is one.
        headers: further response headers (``www-authenticate``, ``retry-after``, ``allow``).
    """

    status: int
    code: str
    message: str
    field: str | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedProblem:
    """A Problem as an HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def render(problem: Problem, dialect: Dialect, request_id: str | None) -> RenderedProblem:
    """The answer for a Problem; always valid JSON, with the request id where it is known."""
    if dialect == "openai":
        content_type, document = _JSON, _openai(problem, request_id)
    elif dialect == "open-inference":
        content_type, document = _JSON, {"error": sentence(problem.message)}
    else:
        content_type, document = PROBLEM_JSON, _rfc9457(problem, request_id)
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
    return RenderedProblem(status=problem.status, headers={"content-type": content_type, **problem.headers}, body=body)


def sentence(message: str) -> str:
    """A message as clients read it: it begins with a capital and ends with a full stop, whoever wrote it."""
    return message[:1].upper() + message[1:] + ("" if message.endswith((".", "!", "?")) else ".")


def title(status: int) -> str:
    """The standard phrase of a status code, or ``Error`` for one without."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _rfc9457(problem: Problem, request_id: str | None) -> dict[str, object]:
    document: dict[str, object] = {
        "type": "about:blank",
        "title": title(problem.status),
        "status": problem.status,
        "detail": sentence(problem.message),
        "code": problem.code,
    }
    if problem.field is not None:
        document["field"] = problem.field
    if request_id:
        document["request_id"] = request_id
    return document


def _openai(problem: Problem, request_id: str | None) -> dict[str, object]:
    kind = "invalid_request_error" if problem.status < 500 else "server_error"
    error: dict[str, object] = {
        "message": sentence(problem.message),
        "type": kind,
        "param": problem.field,
        "code": problem.code,
    }
    if request_id:
        error["request_id"] = request_id
    return {"error": error}
