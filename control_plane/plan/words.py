"""Values as the operator writes them: the inverse of :mod:`control_plane.config.values`.

The model's field names carry the unit (``timeout_s``, ``max_body_bytes``); their aliases are the operator's words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel

from control_plane.config.model import Address

_SIZES: Final = (
    ("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024), ("GB", 1000**3), ("MB", 1000**2), ("KB", 1000),
)  # fmt: skip
_LONGEST: Final = 60
#: Parts that are written as this one value where nothing else of them differs from its default.
_SHORT: Final = (["address"], ["backend"])


def size(number: int) -> str:
    """Bytes, in the largest unit that divides them.

    >>> size(2 * 1024 * 1024), size(1500)
    ('2MiB', '1500B')
    """
    for unit, factor in _SIZES:
        if number and number % factor == 0:
            return f"{number // factor}{unit}"
    return f"{number}B"


def duration(seconds: float) -> str:
    """Seconds, in the unit that a person would take.

    >>> duration(30), duration(0.25), duration(5400), duration(90)
    ('30s', '250ms', '90m', '90s')
    """
    if 0 < seconds < 1:
        return f"{_plain(round(seconds * 1000, 6))}ms"
    for unit, factor in (("h", 3600), ("m", 60)):
        if seconds and seconds % factor == 0 and (seconds > factor or unit == "h"):
            return f"{_plain(seconds / factor)}{unit}"
    return f"{_plain(seconds)}s"


def word(model: type[BaseModel], name: str) -> str:
    """What the operator calls a field."""
    return model.model_fields[name].alias or name


def written(value: object, field: str = "") -> str:
    """A value in one line.

    Args:
        field: the model's own name of the field, which carries its unit.
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int) and field.endswith("_bytes"):
        return size(value)
    if isinstance(value, int | float):
        return duration(value) if field.endswith("_s") else _plain(value)
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, BaseModel):
        return _part(value)
    if isinstance(value, Mapping):
        return json.dumps(dict(value), sort_keys=True, ensure_ascii=False, default=str)
    if isinstance(value, tuple | list):
        return f"[{', '.join(written(item) for item in value)}]"
    return str(value)


def shortened(text: str) -> str:
    """At most a line's worth of a value."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _part(value: BaseModel) -> str:
    """The fields that differ from their defaults: what an operator would write."""
    fields = type(value).model_fields
    said = [name for name, field in fields.items() if field.is_required() or getattr(value, name) != field.default]
    if said in _SHORT:
        return written(getattr(value, said[0]))
    if not said:
        return "by default"
    return f"{{{', '.join(f'{word(type(value), name)}: {written(getattr(value, name), name)}' for name in said)}}}"


def _plain(number: float) -> str:
    """A number without an exponent or a superfluous fraction."""
    return f"{number:.6f}".rstrip("0").rstrip(".") if number != int(number) else str(int(number))
