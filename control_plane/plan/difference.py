"""What differs between two configurations. Pure, and generic over the model: a field that is added to it is compared.

Nothing can be missed: every part that is not the same gives a difference, if need be the two values as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from control_plane.config.model import Config
from control_plane.config.sameness import same
from control_plane.plan.words import word, written

Sign = Literal["+", "-", "~"]

#: How one of a mapping or list of the top level is called; a field that is not here is called by its own word.
_ONE: Final = {"models": "model", "backends": "backend", "listen": "listener"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """One value that differs, as the operator writes it.

    Attributes:
        field: path of the operator's words (``input.schema.type``).
        before, after: None where there is nothing.
    """

    field: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One part that comes, goes or changes.

    Attributes:
        kind: ``model``, ``backend``, ``listener``, or the word of a top-level key.
        name: which one; empty where there is only one.
        before, after: the part itself; None where there is none.
    """

    sign: Sign
    kind: str
    name: str
    before: Any
    after: Any
    details: tuple[Detail, ...] = ()


class _Missing:
    """A member that is not there, which is not a member that is null."""


_MISSING: Final = _Missing()
#: In place of a field's name: the value is a member of a JSON document, where text has quotes.
_JSON_MEMBER: Final = "{}"


def difference(live: Config | None, wanted: Config) -> tuple[Change, ...]:
    """Every change from what is live (None: nothing) to what is wanted; empty where they are the same."""
    changes: list[Change] = []
    for name in type(wanted).model_fields:
        before, after = None if live is None else getattr(live, name), getattr(wanted, name)
        if live is None or not same(before, after):
            changes += _part(name, word(type(wanted), name), before, after, new=live is None)
    return tuple(changes)


def _part(name: str, said: str, before: object, after: object, *, new: bool) -> Iterator[Change]:
    """The changes of one top-level field.

    Args:
        said: the operator's word for it.
    """
    kind = _ONE.get(name, said)
    if name in _ONE and (found := _members(kind, before, after)):
        yield from found
    elif new:
        if after is not None:
            yield Change(sign="+", kind=kind, name="", before=None, after=after)
    else:
        details = tuple(_details("", name, before, after))
        yield Change(sign="~", kind=kind, name="", before=before, after=after, details=details)


def _members(kind: str, before: object, after: object) -> list[Change]:
    """What comes, goes and changes among named parts; nothing where only their order differs."""
    old, new = _named(before), _named(after)
    if old is None or new is None:
        return []
    changes: list[Change] = []
    for name in sorted(old.keys() | new.keys()):
        one, other = old.get(name), new.get(name)
        if name not in old:
            changes.append(Change(sign="+", kind=kind, name=name, before=None, after=other))
        elif name not in new:
            changes.append(Change(sign="-", kind=kind, name=name, before=one, after=None))
        elif not same(one, other):
            details = tuple(_details("", "", one, other))
            changes.append(Change(sign="~", kind=kind, name=name, before=one, after=other, details=details))
    return changes


def _details(path: str, field: str, before: object, after: object) -> Iterator[Detail]:
    """What differs inside two values that are not the same.

    Args:
        path: the operator's words on the way here.
        field: the model's own name of the value, for its unit.
    """
    if isinstance(before, BaseModel) and type(before) is type(after):
        for name in type(before).model_fields:
            one, other = getattr(before, name), getattr(after, name)
            if not same(one, other):
                yield from _details(_joined(path, word(type(before), name)), name, one, other)
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted(before.keys() | after.keys(), key=str):
            one, other = before.get(key, _MISSING), after.get(key, _MISSING)
            if not same(one, other):
                yield from _details(_joined(path, str(key)), _JSON_MEMBER, one, other)
    elif (items := _items(path, before, after)) is not None:
        yield from items
    else:
        yield Detail(field=path, before=_shown(before, field), after=_shown(after, field))


def _items(path: str, before: object, after: object) -> list[Detail] | None:
    """What comes, goes and changes in a list whose items have names; None where that does not tell the difference."""
    if not isinstance(before, tuple | list) or not isinstance(after, tuple | list):
        return None
    old, new = _named(before), _named(after)
    if old is None or new is None:
        return None
    found: list[Detail] = []
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in old:
            found.append(Detail(field=_one_of(path), before=None, after=written(new[name])))
        elif name not in new:
            found.append(Detail(field=_one_of(path), before=written(old[name]), after=None))
        elif not same(old[name], new[name]):
            found += _details(f"{_one_of(path)} {name}", "", old[name], new[name])
    return found or None


def _named(value: object) -> dict[str, Any] | None:
    """Parts by name: of a mapping, or of a list of parts with names; None where names are not unique."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return dict(value)
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    named = {name: item for item in value if (name := _name(item)) is not None}
    return named if len(named) == len(value) else None


def _name(item: object) -> str | None:
    """What an item of a list is known by."""
    if not isinstance(item, BaseModel):
        return None
    for field in ("address", "backend", "name"):
        if field in type(item).model_fields:
            return str(getattr(item, field))
    return str(item) if type(item).__str__ is not BaseModel.__str__ else None


def _one_of(path: str) -> str:
    return path.removesuffix("s")


def _joined(path: str, step: str) -> str:
    return f"{path}.{step}" if path else step


def _shown(value: object, field: str) -> str | None:
    if value is _MISSING:
        return None
    if field == _JSON_MEMBER and not isinstance(value, BaseModel):
        return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return written(value, field)
