"""When a key ends, as people write it: a duration from now (``30d``) or a date (``2027-01-31``)."""

from __future__ import annotations

import datetime
import re
from typing import Final

from ext_authz.api_keys.errors import InvalidKeyError

_DURATION: Final = re.compile(r"([1-9][0-9]{0,8})([smhdw])\Z")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def parse_expiry(text: str, now: float) -> int:
    """The Unix second in which a key ends. Dates without a time begin at midnight; times without a zone are UTC.

    Raises:
        InvalidKeyError: it is neither a duration nor a date.

    >>> parse_expiry("30d", 1_000_000)
    3592000
    >>> parse_expiry("2027-01-31", 0)
    1801353600
    """
    duration = _DURATION.match(text)
    if duration is not None:
        return int(now) + int(duration[1]) * _UNIT_S[duration[2]]
    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return int(moment.timestamp())
    except (ValueError, OverflowError):
        raise InvalidKeyError("expires", "the expiry is a duration (12h, 30d, 8w) or a date (2027-01-31)") from None


def iso(moment: int | None) -> str | None:
    """A Unix second as RFC 3339 text in UTC.

    >>> iso(0)
    '1970-01-01T00:00:00Z'
    """
    if moment is None:
        return None
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
