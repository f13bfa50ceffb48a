"""What the payload service answers to one message of Envoy."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.problem import RenderedProblem


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """The request is right. `body` replaces its body, None leaves it."""

    model: str
    body: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """The answer's body is replaced; it is JSON."""

    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """The client gets this instead. `code` is the Problem's, for logs and metrics."""

    code: str
    answer: RenderedProblem


@dataclass(frozen=True, slots=True, kw_only=True)
class Proceed:
    """Nothing to say: on as it is."""


PROCEED = Proceed()

Verdict = Accept | Rewrite | Refuse | Proceed
