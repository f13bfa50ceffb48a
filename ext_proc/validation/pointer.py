"""JSON pointers (RFC 6901)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

Token = str | int

#: Stands for "there is nothing there", since null is a value.
MISSING: Final = object()


def tokens(pointer: str) -> tuple[str, ...]:
    """The reference tokens of a pointer (RFC 6901, section 4).

    Raises:
        ValueError: it does not begin with a slash, or has a tilde that escapes nothing.

    >>> tokens("/a~1b/0")
    ('a/b', '0')
    """
    if not pointer:
        return ()
    if not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} is not a JSON pointer: it must be empty or begin with a slash")
    found = pointer[1:].split("/")
    if any("~" in token.replace("~0", "").replace("~1", "") for token in found):
        raise ValueError(f"{pointer!r} is not a JSON pointer: a tilde is written ~0")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in found)


def render(path: Iterable[Token]) -> str:
    """The pointer of a path.

    >>> render(["a/b", 0])
    '/a~1b/0'
    """
    return "".join(f"/{str(token).replace('~', '~0').replace('/', '~1')}" for token in path)


def resolve(document: object, path: tuple[str, ...]) -> object:
    """The value at a path, or :data:`MISSING`."""
    value = document
    for token in path:
        if isinstance(value, dict):
            value = value.get(token, MISSING)
        elif isinstance(value, list) and _is_index(token) and int(token) < len(value):
            value = value[int(token)]
        else:
            return MISSING
    return value


def _is_index(token: str) -> bool:
    """RFC 6901: digits without a leading zero. The length is bounded because the token may be an operator's typo."""
    return len(token) < 10 and token.isascii() and token.isdigit() and (len(token) == 1 or token[0] != "0")
