"""An explanation for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from control_plane.explain.chain import Explanation
from control_plane.explain.exchange import Reply
from control_plane.explain.upstream import Destination


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What ``isg explain`` says.

    Attributes:
        notes: what there is to know beside the decision.
    """

    explanation: Explanation
    notes: tuple[str, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether the request would reach a backend, or an answer of Envoy's own that is no refusal."""
        outcome = self.explanation.outcome
        return isinstance(outcome, Destination) or outcome.status < 400

    @property
    def outcome(self) -> str:
        """The last line."""
        outcome = self.explanation.outcome
        if isinstance(outcome, Reply):
            if outcome.code is None:
                return f"{outcome.status} {outcome.detail}".rstrip()
            return " ".join(filter(None, (str(outcome.status), outcome.code, outcome.field)))
        if not outcome.has_endpoints:
            return f"200 would reach {outcome.names}, once a server of it runs"
        return f"200 would reach {outcome.names}"

    def as_data(self) -> dict[str, Any]:
        """For ``--json``."""
        outcome = self.explanation.outcome
        reached = isinstance(outcome, Destination)
        return {
            "ok": self.passes,
            "status": 200 if isinstance(outcome, Destination) else outcome.status,
            "code": None if isinstance(outcome, Destination) else outcome.code,
            "detail": None if isinstance(outcome, Destination) else outcome.detail,
            "field": None if isinstance(outcome, Destination) else outcome.field,
            "destination": outcome.as_data() if isinstance(outcome, Destination) else None,
            "reaches_backend": reached,
            "steps": [asdict(step) for step in self.explanation.steps],
            "notes": list(self.notes),
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        outcome = self.explanation.outcome
        said = [(step.name, step.what, step.why) for step in self.explanation.steps]
        if isinstance(outcome, Destination):
            said += [(name, what, "") for name, what in outcome.lines()]
        elif outcome.code is not None and outcome.detail != said[-1][2]:
            said.append(("answer", outcome.detail, ""))
        width = max(len(name) for name, _, _ in said)
        for number, (name, what, why) in enumerate(said, start=1):
            yield f"{number:>2}. {name.ljust(width)}  {what}"
            if why:
                yield f"    {' ' * width}  because: {why}"
        yield from (f"note: {note}" for note in self.notes)
        yield self.outcome
