"""One request on its way through Envoy: what is known of it, and what was found at each step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway import envoy_api as api


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the decision.

    Attributes:
        name: which step.
        what: what happens at it.
        why: the reason; empty where there is nothing to say.
    """

    name: str
    what: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the client gets instead of a model server's answer.

    Attributes:
        code: the Problem's; None for an answer that is no refusal.
        field: JSON pointer of the offending value, where there is one.
    """

    status: int
    code: str | None
    detail: str
    field: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalReply:
    """A reply that Envoy makes itself; its reply mappers turn it into a :class:`Reply`.

    Attributes:
        details: ``response.code_details``.
    """

    status: int
    details: str


@dataclass(slots=True, kw_only=True)
class Exchange:
    """A request as Envoy's filters see it.

    Attributes:
        headers: by lower-case name, pseudo-headers among them; repeated ones are joined by commas, as Envoy does.
        first: the route that was matched before any metadata was there: it decides which filters run.
        route: the route now.
    """

    headers: dict[str, str]
    body: bytes
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    first: api.route_v3.Route | None = None
    route: api.route_v3.Route | None = None
    steps: list[Step] = field(default_factory=list)

    @property
    def method(self) -> str:
        """The method."""
        return self.headers[":method"]

    @property
    def path(self) -> str:
        """Path with query; empty for CONNECT."""
        return self.headers.get(":path", "")

    @property
    def ends_with_headers(self) -> bool:
        """Whether there is nothing after the headers; a chunked body may be empty, and is a body nevertheless."""
        return not self.body and "transfer-encoding" not in self.headers

    @property
    def wants_upgrade(self) -> bool:
        """Whether it asks to leave HTTP: CONNECT, or an upgrade of the connection."""
        connection = {token.strip().lower() for token in self.headers.get("connection", "").split(",")}
        return self.method == "CONNECT" or ("upgrade" in connection and "upgrade" in self.headers)

    def say(self, name: str, what: str, why: str = "") -> None:
        """Note a step."""
        self.steps.append(Step(name=name, what=what, why=why))
