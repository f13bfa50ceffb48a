"""What is read of YAML, what is refused, and that nothing hostile costs time."""

import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.config import load_with_sources
from control_plane.config.nodes import json_value
from control_plane.config.yaml_reader import parse

MODEL = "models: {digits: {backend: digits}}\n"

REFUSED = {
    "a syntax error": ("models: [\n", "2:1: not YAML: did not find expected node content"),
    "an open quote": ('listen: "x\n', "2:1: not YAML: found unexpected end of stream"),
    "a duplicate key": (MODEL + MODEL, "2:1: duplicate key `models`: it is already on line 1"),
    "a tag": ("models: !!map {}\n", "1:9: tag `tag:yaml.org,2002:map`: tags are not supported"),
    "a hostile tag": ("models: !os.system {}\n", "1:9: tag `!os.system`: tags are not supported"),
    "a tag on a key": ("!!str models: {}\n", "1:1: tag `tag:yaml.org,2002:str`: tags are not supported"),
    "a merge key": ("a: &a {}\nb: {<<: *a}\n", "2:5: merge keys (`<<`) are not supported: write the keys out"),
    "an unknown alias": ("models: *a\n", "1:9: alias `a` has no anchor before it"),
    "an alias of itself": ("models: &a [*a]\n", "1:13: alias `a` contains itself"),
    "a second document": (MODEL + "---\n" + MODEL, "2:1: a second YAML document: one file holds one"),
    "a key that is a list": ("[a]: b\n", "1:1: a key must be text, not a list or a mapping"),
    "a missing key": ("? \n: b\n", "1:2: a key is missing before `:`"),
    "a tab": ("models:\n\tdigits: x\n", "2:1: a tab cannot indent YAML: use spaces"),
    "a NUL": ("models: x\n  \0: x\n", "2:3: control character U+0000"),
    "an escape": ("models: \x1b[31m\n", "1:9: control character U+001B"),
    "deep nesting": ("a: " + "[" * 500, "1:67: nested deeper than 64 levels"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_plain_yaml_is_refused_at_its_place(folder, text, expected):
    assert folder.errors(text) == [f"gateway.yaml:{expected}"]


def test_bytes_that_are_no_utf8_are_refused_at_their_place(folder):
    assert folder.errors(b"version: 1\nmodels: \xff\n") == ["gateway.yaml:2:9: not UTF-8: byte 0xff"]
    assert folder.errors(MODEL.encode("utf-16")) == ["gateway.yaml:1:1: not UTF-8: byte 0xff"]


def test_a_byte_order_mark_is_not_part_of_the_text(folder):
    assert folder.errors(b"\xef\xbb\xbf" + MODEL.encode()) == []


def test_a_file_of_a_mebibyte_is_read_and_a_larger_one_is_not(folder):
    padding = "#" * (1024 * 1024 - len(MODEL))
    assert folder.errors(MODEL + padding) == []
    assert folder.errors(MODEL + padding + "#") == ["gateway.yaml:1:1: larger than 1MiB"]


def test_a_missing_file_and_a_fifo_are_errors_at_once(folder):
    assert [str(error) for error in load_with_sources(folder.root / "no.yaml").errors] == [
        f"{folder.root}/no.yaml:1:1: cannot be read: No such file or directory"
    ]
    os.mkfifo(folder.root / "fifo.yaml")
    assert [str(error) for error in load_with_sources(folder.root / "fifo.yaml").errors] == [
        f"{folder.root}/fifo.yaml:1:1: not a regular file"
    ]


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
)
HOSTILE = {
    "a bomb of aliases": (BOMB, "more than 100,000 values, aliases written out"),
    "a list without end": ("a: [" + "x, " * 340_000, "more than 100,000 values, aliases written out"),
    "brackets": ("[" * 1_000_000, "not YAML: exceeded maximum nesting depth"),
    "braces": ("{" * 1_000_000, "not YAML: exceeded maximum nesting depth"),
    "block sequences": ("- " * 500_000, "nested deeper than 64 levels"),
    "anchors": ("a: [" + "&a x, " * 170_000, "more than 100,000 values, aliases written out"),
    "question marks": ("? " * 500_000, "nested deeper than 64 levels"),
    "duplicate keys": ("a: 1\n" * 200_000, "duplicate key `a`: it is already on line 1"),
    "unknown keys": ("".join(f"k{n}: 1\n" for n in range(45_000)), None),
    "models without end": ("models:\n" + "".join(f"  m{n}: {{backend: x}}\n" for n in range(24_000)), None),
    "a long key": ("a" * 1_000_000 + ": x\n", None),
    "a long word": ("models: " + "a" * 1_000_000, None),
}


@pytest.mark.parametrize(("text", "expected"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_within_a_second(folder, text, expected):
    path = folder.write(text)
    began = time.process_time()
    errors = load_with_sources(path).errors
    assert time.process_time() - began < 1
    assert errors
    assert all(len(str(error)) < 1000 and "\n" not in error.message for error in errors)
    assert expected is None or errors[0].message == expected


WORDS = ["no", "yes", "on", "off", "y", "08", "12", "1.10", "2024-01-01", "true", "1e3", "0x10", "1_000"]


@pytest.mark.parametrize("word", WORDS)
def test_a_name_is_the_text_that_was_written(folder, word):
    text = f"default_model: {word}\nmodels:\n  {word}: {{backend: {word}}}\n"
    path = folder.write(text, {f"backends/{word}.yaml": "server: kserve\nendpoints: [a:1]\n"})
    loaded = load_with_sources(path)
    assert loaded.errors == ()
    assert loaded.config is not None
    assert loaded.config.default_model == word
    assert loaded.config.models[word].targets[0].backend == word
    assert loaded.config.backends[word].model == word


def test_labels_keep_their_text(folder):
    path = folder.write("models: {d: {backend: digits, output: {labels: [yes, no, 08:00, 1.0]}}}\n")
    config = load_with_sources(path).config
    assert config is not None
    assert config.models["d"].output.labels == ("yes", "no", "08:00", "1.0")


def test_a_schema_has_the_types_of_yaml_1_2(folder):
    root = parse("[no, true, null, ~, 1, -2, 1.5, 1e3, .5, 08:00, 0x10, 2024-01-01, '1', 1_000, .inf]")
    assert root is not None
    assert json_value(root) == [
        "no", True, None, None, 1, -2, 1.5, 1000.0, 0.5, "08:00", "0x10", "2024-01-01", "1", "1_000", ".inf",
    ]  # fmt: skip


PIECES = st.sampled_from(
    ["models", "backend", "targets", "input", "schema", "tensors", "output", "labels", "listen", "version", "digits",
     ": ", ":", "\n", "\n  ", "\n    ", "- ", "[", "]", "{", "}", ", ", "&a ", "*a", "!!x ", "'", '"', "|", ">", "#",
     "~", "null", "1", "1e999", "no", "/x", "$ref", "type", "object", "\t", "%", "---", "...", "\u00e9", "\U0001f600"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | PIECES
KEYS = st.text(max_size=4) | st.sampled_from(
    ["version", "listen", "admin", "backends", "default_model", "models", "state", "digits", "backend", "targets",
     "weight", "mirror", "percent", "input", "schema", "tensors", "name", "datatype", "shape", "from", "image",
     "formats", "output", "labels", "top_k", "max_body", "timeout", "retries", "type", "properties", "$ref",
     "pattern", "address"]
)  # fmt: skip
TREES = st.dictionaries(
    KEYS, st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))
)
FILES = st.binary(max_size=300) | st.lists(PIECES, max_size=40).map(lambda parts: "".join(parts).encode())


def check(folder, data: bytes) -> None:
    path = folder.write(data)
    began = time.process_time()
    loaded = load_with_sources(path)
    assert time.process_time() - began < 1
    assert (loaded.config is None) == bool(loaded.errors)
    assert path in loaded.sources
    for error in loaded.errors:
        assert error.line >= 1
        assert error.column >= 1
        assert "\n" not in error.message


relaxed = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@relaxed
@given(data=FILES)
def test_any_bytes_give_a_configuration_or_errors(folder, data):
    check(folder, data)


@relaxed
@given(tree=TREES)
def test_any_tree_gives_a_configuration_or_errors(folder, tree):
    import yaml

    check(folder, yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "replace"))


@relaxed
@given(tree=TREES)
def test_any_model_gives_a_configuration_or_errors(folder, tree):
    import yaml

    check(folder, yaml.safe_dump({"models": {"x": tree}}).encode())
