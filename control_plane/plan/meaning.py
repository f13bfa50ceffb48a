"""What a change means for requests and connections, where that is not plain from the change itself."""

from __future__ import annotations

from typing import Final

from control_plane.config.model import Backend
from control_plane.plan.difference import Change

_UNDER_WAY: Final = "requests under way keep the old policy"
_DRAINED: Final = "its connections are drained"
_AT_START: Final = "takes effect at the next start"


def meaning(change: Change) -> str | None:
    """One clause, or None."""
    if change.kind == "model":
        return _model(change)
    if change.kind == "backend":
        return _backend(change)
    if change.sign == "+":
        return None
    if change.kind == "listener":
        return _DRAINED
    if change.kind == "default_model":
        if change.after is None:
            return "bodies of /v1/predict that name no model are answered 400"
        return "bodies of /v1/predict that name no model go there"
    return _AT_START if change.kind in {"state", "admin"} else None


def _model(change: Change) -> str | None:
    if change.sign == "+":
        return None
    return f"it answers 404; {_UNDER_WAY}" if change.sign == "-" else _UNDER_WAY


def _backend(change: Change) -> str | None:
    before, after = change.before, change.after
    old = before.run if isinstance(before, Backend) else None
    new = after.run if isinstance(after, Backend) else None
    if old is None:
        return None if new is None else "its local servers are started"
    if new is None:
        return "its local servers are ended when nothing uses them"
    if old.command != new.command:
        return "its local servers are replaced when the new ones are ready"
    return None
