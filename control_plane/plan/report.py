"""A plan for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from control_plane.config.model import Backend, Model
from control_plane.plan.difference import Change, Detail
from control_plane.plan.meaning import meaning
from control_plane.plan.words import shortened, written

NO_CHANGES: Final = "no changes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would change.

    Attributes:
        live: whether something is live to compare with.
        note: what there is to say of the comparison itself.
        resources: unified diffs by resource; None where nobody asked for them.
    """

    live: bool
    note: str | None
    changes: tuple[Change, ...]
    resources: Mapping[str, str] | None = None

    def as_data(self) -> dict[str, Any]:
        """For ``--json``."""
        data: dict[str, Any] = {
            "ok": True,
            "live": self.live,
            "note": self.note,
            "changes": [
                {
                    "sign": change.sign,
                    "kind": change.kind,
                    "name": change.name,
                    "details": [{"field": d.field, "before": d.before, "after": d.after} for d in change.details],
                    "meaning": meaning(change),
                }
                for change in self.changes
            ],
        }
        return data if self.resources is None else {**data, "resources": dict(self.resources)}

    def lines(self) -> Iterator[str]:
        """For people."""
        if self.note:
            yield self.note
        if not self.changes:
            yield NO_CHANGES
        yield from map(line, self.changes)
        for diff in (self.resources or {}).values():
            yield ""
            yield from diff.splitlines()


def line(change: Change) -> str:
    """One change in the operator's words."""
    subject = f"{change.sign} {change.kind}" + (f" {change.name}" if change.name else "")
    said, clause = _said(change), meaning(change)
    return subject + said + (f"  ({clause})" if clause else "")


def _said(change: Change) -> str:
    after = change.after
    if change.sign == "-":
        return ""
    if change.sign == "~":
        return f": {', '.join(_grouped(change.details))}"
    if isinstance(after, Model):
        return f" -> {_targets(after)}"
    if isinstance(after, Backend):
        where = written(after.endpoints) if after.run is None else f"{after.run.replicas} local"
        return f": {after.server}, {shortened(where)}"
    return "" if change.name else f": {shortened(written(after))}"


def _targets(model: Model) -> str:
    if len(model.targets) == 1:
        return f"backend {model.targets[0].backend}"
    return "backends " + ", ".join(f"{target.backend} (weight {target.weight})" for target in model.targets)


def _grouped(details: Iterable[Detail]) -> Iterator[str]:
    """``endpoint + a, - b``: the word of several details once."""
    for field, group in groupby(details, key=lambda detail: detail.field):
        parts = ", ".join(sorted(map(_detail, group)))
        yield f"{field} {parts}" if field else parts


def _detail(detail: Detail) -> str:
    if detail.before is None:
        return f"+ {shortened(detail.after or '')}"
    if detail.after is None:
        return f"- {shortened(detail.before)}"
    return f"{shortened(detail.before)} -> {shortened(detail.after)}"
