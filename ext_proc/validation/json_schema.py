"""JSON Schema 2020-12, compiled once per policy.

Patterns run on a linear-time engine (look-around and back references are refused at load), nothing is ever fetched,
and a format that the validator does not know is refused rather than ignored.
"""

from __future__ import annotations

from typing import Any

import jsonschema_rs
from jsonschema_rs import ValidationErrorKind

from ext_proc.refusal import unprocessable
from ext_proc.validation import pointer
from gateway.policy import PolicyError

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_LONGEST_REASON = 300


class SchemaCheck:
    """One compiled schema."""

    __slots__ = ("_validator",)

    def __init__(self, schema: dict[str, Any] | bool) -> None:
        """Compile.

        Raises:
            PolicyError: it is not a 2020-12 schema, refers to another document, or has a pattern or format that
                cannot be enforced.
        """
        declared = schema.get("$schema", _DIALECT) if isinstance(schema, dict) else _DIALECT
        if not isinstance(declared, str) or declared.rstrip("#") != _DIALECT:
            raise PolicyError(f"input schema: `$schema` must be {_DIALECT}")
        try:
            self._validator = jsonschema_rs.Draft202012Validator(
                schema,
                offline=True,
                validate_formats=True,
                ignore_unknown_formats=False,
                pattern_options=jsonschema_rs.RegexOptions(),
                mask="the value",  # what a client sent has no place in answers and logs
            )
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
            raise PolicyError(f"input schema: {str(error).partition(chr(10))[0]}") from error

    def check(self, document: object) -> None:
        """Check a request.

        Raises:
            Refused: 422; `field` is the first violation's value, or the member that is missing or not wanted.
        """
        try:
            self._validator.validate(document)
        except jsonschema_rs.ValidationError as error:
            raise unprocessable("schema_violation", _reason(error), _field(error)) from None


def _reason(error: jsonschema_rs.ValidationError) -> str:
    reason = error.message
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}…"


def _field(error: jsonschema_rs.ValidationError) -> str:
    path = list(error.instance_path)
    kind = error.kind
    if isinstance(kind, ValidationErrorKind.Required):
        path.append(kind.property)
    elif isinstance(kind, (ValidationErrorKind.AdditionalProperties, ValidationErrorKind.UnevaluatedProperties)):
        path.extend(kind.unexpected[:1])
    return pointer.render(path)
