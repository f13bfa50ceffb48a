"""Strict JSON (RFC 8259), as every parser behind us would read it.

Refused beyond the grammar, because parsers differ on them: equal keys in one object, NaN and infinities, numbers that
overflow a double, a byte order mark, bad UTF-8, lone surrogates, integers beyond 4,300 digits, nesting beyond about
200 levels (the parser's own limit: 10^5 levels are refused after 200, in microseconds).
"""

from __future__ import annotations

import math
import re

import jiter

#: Only such digits can make a double overflow: below 200 digits and a two-digit exponent it stays under 1e300.
_MAY_OVERFLOW = re.compile(rb"[0-9]{200}|[eE]\+?[0-9]{3}")
_LONGEST_REASON = 200


class InvalidJson(ValueError):  # noqa: N818 - reads as what it is
    """The bytes are not JSON that we accept. The text is for the client; `code` is the Problem's."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        super().__init__(reason)


def parse(body: bytes) -> object:
    """Read a document.

    Raises:
        InvalidJson: see the head of this module.
    """
    try:
        document: object = jiter.from_json(body, catch_duplicate_keys=True, allow_inf_nan=False, cache_mode="keys")
    except ValueError as error:
        reason = str(error)
        if len(reason) > _LONGEST_REASON:
            reason = f"{reason[:_LONGEST_REASON]}…"
        code = "duplicate_key" if reason.startswith("Detected duplicate key") else "invalid_json"
        raise InvalidJson(code, reason) from None
    if _MAY_OVERFLOW.search(body) is not None and _overflows(document):
        raise InvalidJson("invalid_json", "a number is too large for a double")
    return document


def _overflows(document: object) -> bool:
    pending = [document]
    while pending:
        value = pending.pop()
        if isinstance(value, float):
            if math.isinf(value):
                return True
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, dict):
            pending.extend(value.values())
    return False
