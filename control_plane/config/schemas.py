"""JSON Schemas of requests: 2020-12, complete in themselves, with patterns and formats that can be enforced.

The options are those that requests are later checked with, so a schema that is accepted here is accepted there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import jiter
import jsonschema_rs

from control_plane.config.errors import shown
from control_plane.config.files import UnreadableFile

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_PLACE = re.compile(r" at line ([0-9]+) column ([0-9]+)\Z")
_REFERENCES = ("$ref", "$dynamicRef")
#: Keywords whose values are data, not schemas.
_DATA = frozenset({"const", "enum", "default", "examples"})

Path = tuple[str | int, ...]


def parse_json(text: str) -> Any:  # noqa: ANN401 (what JSON holds)
    """A JSON document without duplicate keys, NaN or infinity.

    Raises:
        UnreadableFile: it is not, with the place.
    """
    try:
        return jiter.from_json(text.encode(), catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        place = _PLACE.search(str(error))
        line, column = (int(place[1]), max(int(place[2]), 1)) if place else (1, 1)
        raise UnreadableFile(f"not JSON: {_PLACE.sub('', str(error))}", line=line, column=column) from error


def faults(schema: object) -> list[tuple[Path, str]]:
    """What is wrong with a schema: path into it, and the reason."""
    if not isinstance(schema, dict | bool):
        return [((), "expected a JSON Schema (a mapping)")]
    if isinstance(schema, dict) and schema.get("$schema", DIALECT) not in (DIALECT, f"{DIALECT}#"):
        return [(("$schema",), f"expected `$schema` to be {DIALECT}")]
    remote = [(path, "a `$ref` to another document: it must begin with #") for path in _remote_references(schema)]
    if remote:
        return remote
    try:
        jsonschema_rs.Draft202012Validator(
            schema,
            offline=True,
            validate_formats=True,
            ignore_unknown_formats=False,
            pattern_options=jsonschema_rs.RegexOptions(),
        )
    except jsonschema_rs.ValidationError as error:
        return [(tuple(error.instance_path), f"not a JSON Schema 2020-12: {_one_line(error.message)}")]
    except (jsonschema_rs.ReferencingError, ValueError, RecursionError) as error:
        return [((), f"not a JSON Schema 2020-12: {_one_line(str(error))}")]
    return []


def _remote_references(schema: object, path: Path = ()) -> Iterator[Path]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in _REFERENCES and isinstance(value, str) and not value.startswith("#"):
                yield (*path, key)
            elif key not in _DATA:
                yield from _remote_references(value, (*path, key))
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from _remote_references(value, (*path, index))


def _one_line(reason: str) -> str:
    first = reason.partition("\n")[0]
    return first if len(first) <= 200 and first.isprintable() else shown(first)
