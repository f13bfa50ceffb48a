"""When a key ends, as people write it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_authz.api_keys.errors import InvalidKeyError
from ext_authz.expiry import iso, parse_expiry

NOW = 1_800_000_000.7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1s", 1_800_000_001),
        ("10m", 1_800_000_600),
        ("12h", 1_800_043_200),
        ("30d", 1_802_592_000),
        ("2w", 1_801_209_600),
        ("2027-01-31", 1_801_353_600),
        ("2027-01-31T12:00:00", 1_801_396_800),
        ("2027-01-31T12:00:00Z", 1_801_396_800),
        ("2027-01-31T12:00:00+02:00", 1_801_389_600),
    ],
)
def test_durations_and_dates(text: str, expected: int) -> None:
    assert parse_expiry(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "0d", "-1d", "1", "1.5d", "1y", "30 d", "tomorrow", "2027-02-30", "1d\n", "٣d"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidKeyError, match="a duration"):
        parse_expiry(text, NOW)


@given(st.text())
def test_no_text_fails_in_another_way(text: str) -> None:
    with suppress(InvalidKeyError):
        parse_expiry(text, NOW)


@given(st.integers(0, 253_402_300_799))
def test_what_is_printed_is_read_back(moment: int) -> None:
    assert parse_expiry(str(iso(moment)), NOW) == moment
