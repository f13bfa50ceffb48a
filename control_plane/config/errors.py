"""What is wrong with a configuration: every fault with its place, all of them at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Longest piece of an operator's text that a message repeats.
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True, order=True)
class ConfigError:
    """One fault.

    Attributes:
        line: counted from 1.
        column: counted from 1, in characters.
    """

    file: Path
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something wrong at a place of a file that the caller knows; line and column count from 1."""

    line: int
    column: int
    message: str


class ConfigErrors(Exception):  # noqa: N818 (it is several)
    """The configuration cannot be used. ``errors`` is sorted by file, line and column."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self.errors = tuple(sorted(set(errors)))
        super().__init__("\n".join(map(str, self.errors)))


def shown(text: str) -> str:
    """An operator's text inside a one-line message: in backticks, shortened, without control characters."""
    visible = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: _SHOWN + 1])
    return f"`{visible[:_SHOWN]}…`" if len(visible) > _SHOWN else f"`{visible}`"


def listed(names: Iterable[str], last: str = "or") -> str:
    """``a, b or c``."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def hint(name: str, known: Iterable[str]) -> str:
    """``, did you mean `x`?`` where something known is near, else nothing."""
    near = difflib.get_close_matches(name, known, n=1) if len(name) <= _SHOWN else []
    return f", did you mean `{near[0]}`?" if near else ""
