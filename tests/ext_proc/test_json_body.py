"""JSON is read strictly, measured against nst/JSONTestSuite."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.validation.json_body import InvalidJson, parse
from ext_proc.validation.pointer import MISSING, render, resolve, tokens

ROOT = Path(__file__).parents[2]
SUITE = Path(os.environ.get("ISG_CORPORA", ROOT.parent / "shared" / "corpora")) / "json-test-suite" / "test_parsing"
#: Valid by the grammar; refused because parsers differ on which of two equal keys counts.
DUPLICATES = {"y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"}

needs_suite = pytest.mark.skipif(not SUITE.is_dir(), reason="JSONTestSuite is not here: set ISG_CORPORA")


def accepts(body: bytes) -> bool:
    try:
        parse(body)
    except InvalidJson:
        return False
    return True


@needs_suite
def test_the_test_suites_valid_files_are_accepted_and_the_invalid_ones_refused() -> None:
    files = sorted(SUITE.glob("[yn]_*.json"))
    assert len(files) > 250
    wrong = [file.name for file in files if accepts(file.read_bytes()) != (file.name[0] == "y")]
    assert set(wrong) == DUPLICATES


@needs_suite
def test_what_is_the_parsers_choice_is_chosen_once() -> None:
    accepted = {file.name for file in SUITE.glob("i_*.json") if accepts(file.read_bytes())}
    assert accepted == {
        "i_number_double_huge_neg_exp.json",
        "i_number_real_underflow.json",
        "i_number_too_big_neg_int.json",
        "i_number_too_big_pos_int.json",
        "i_number_very_big_negative_int.json",
    }


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000, b"[" * 250 + b"]" * 250],
)
def test_deep_nesting_is_refused_at_once(body: bytes) -> None:
    started = time.perf_counter()
    assert not accepts(body)
    assert time.perf_counter() - started < 0.05


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "a": 1}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"x": {"a": 1, "a": 2}}',
        b"[NaN]",
        b"[Infinity]",
        b"[1e999]",
        b"[-1e0400]",
        b"[" + b"9" * 310 + b".0]",
        b"[" + b"9" * 250 + b"e99]",
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        b'["\\ud800"]',
        "{}".encode("utf-16"),
        b"",
        b" ",
        b"{} {}",
        b"[1,]",
        b"['a']",
    ],
)
def test_what_parsers_read_differently_is_refused(body: bytes) -> None:
    assert not accepts(body)


@pytest.mark.parametrize(
    "body", [b'["e123e999"]', b"[1e-999]", b"[1e308]", b'{"a": "' + b"1" * 400 + b'"}', b"[1E+10]"]
)
def test_what_only_looks_too_large_is_accepted(body: bytes) -> None:
    assert accepts(body)


def test_a_reason_is_short_whatever_was_sent() -> None:
    with pytest.raises(InvalidJson) as caught:
        parse(b'{"%s":1,"%s":1}' % (b"k" * 5000, b"k" * 5000))
    assert caught.value.code == "duplicate_key"
    assert len(str(caught.value)) < 250


@given(body=st.binary())
def test_bytes_are_json_to_us_only_if_they_are_to_the_standard_library(body: bytes) -> None:
    if accepts(body):
        json.loads(body.decode())


VALUES = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=4), x, max_size=3),
)


@given(document=VALUES)
def test_what_is_accepted_is_what_was_written(document: object) -> None:
    assert parse(json.dumps(document).encode()) == document


@given(path=st.lists(st.text(max_size=5)))
def test_pointers_come_back(path: list[str]) -> None:
    assert list(tokens(render(path))) == path


@pytest.mark.parametrize("pointer", ["a", "/~", "/~2", "/a~"])
def test_what_is_no_pointer_is_refused(pointer: str) -> None:
    with pytest.raises(ValueError, match="is not a JSON pointer"):
        tokens(pointer)


@pytest.mark.parametrize(
    ("pointer", "value"),
    [("", {"a": [1, None]}), ("/a/0", 1), ("/a/1", None), ("/a/2", MISSING), ("/a/00", MISSING), ("/a/-1", MISSING),
     ("/a/x", MISSING), ("/b", MISSING), ("/a/0/0", MISSING), ("/a/²", MISSING)],
)  # fmt: skip
def test_a_pointer_is_resolved(pointer: str, value: object) -> None:
    assert resolve({"a": [1, None]}, tokens(pointer)) == value
