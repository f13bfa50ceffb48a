"""What is not understood is said: an explanation that leaves something out would be a wrong one."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from google.protobuf.message import Message


class CannotExplainError(Exception):
    """The request, or a resource that decides over it, has something that this program cannot follow."""


def only(message: Message, known: AbstractSet[str], what: str) -> None:
    """Make sure that a message sets no field but these.

    Raises:
        CannotExplainError: it does; the text names the field.
    """
    unknown = sorted(field.name for field, _ in message.ListFields() if field.name not in known)
    if unknown:
        raise CannotExplainError(f"{what} has {', '.join(unknown)}, which isg explain does not know")
