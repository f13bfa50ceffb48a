"""The format of API keys."""

from __future__ import annotations

import re
import string
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_authz.api_keys import format as key_format

ENVS = st.text(string.ascii_lowercase, min_size=1, max_size=16)
EXAMPLE = "isg_live_" + "0" * 30


@given(ENVS)
def test_a_drawn_key_has_the_published_form_and_is_accepted(env: str) -> None:
    drawn = key_format.draw(env)
    assert re.fullmatch(rf"isg_{env}_[0-9A-Za-z]{{30}}_[0-9A-Za-z]{{6}}", drawn.text)
    assert key_format.public_prefix(drawn.text) == drawn.prefix == drawn.text.split("_")[2][:8]
    assert len(drawn.text) <= key_format.MAX_LENGTH


@given(ENVS, st.data())
def test_any_one_changed_character_is_noticed(env: str, data: st.DataObject) -> None:
    text = key_format.draw(env).text
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda character: character != text[place]))
    assert key_format.public_prefix(text[:place] + other + text[place + 1 :]) is None


@given(st.text())
def test_no_text_makes_the_reader_fail(text: str) -> None:
    assert key_format.public_prefix(text) is None


@given(st.binary(max_size=60))
def test_the_checksum_is_the_crc_32_in_base62(data: bytes) -> None:
    body = data.hex()
    value = 0
    for digit in key_format.checksum(body):
        value = value * 62 + key_format.ALPHABET.index(digit)
    assert value == zlib.crc32(body.encode())


def test_the_checksum_does_not_change_between_versions() -> None:
    assert key_format.checksum(EXAMPLE) == "1AW1n1"
    assert key_format.public_prefix(f"{EXAMPLE}_1AW1n1") == "00000000"


@pytest.mark.parametrize("end", ["\n", " ", "\0", "x"])
def test_nothing_may_follow_a_key(end: str) -> None:
    assert key_format.public_prefix(key_format.draw().text + end) is None


@pytest.mark.parametrize("env", ["", "LIVE", "a" * 17, "a_b", "a\n", "ä", "1"])
def test_an_environment_outside_the_grammar_is_refused(env: str) -> None:
    with pytest.raises(ValueError, match="1 to 16 letters"):
        key_format.draw(env)


def test_a_secret_does_not_show_in_its_repr() -> None:
    drawn = key_format.draw()
    assert drawn.text not in repr(drawn)
    assert drawn.text[20:] not in repr(drawn)


def test_keys_do_not_repeat() -> None:
    assert len({key_format.draw().prefix for _ in range(1000)}) == 1000
