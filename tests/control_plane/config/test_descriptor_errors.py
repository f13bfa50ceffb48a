"""Every fault of backends/NAME.yaml: its place and its words."""

import pytest

MODEL = "models: {digits: {backend: digits}}\n"
HERE = "endpoints: [10.0.0.1:8000]\n"

FAULTS = {
    "no server": (HERE, "1:1: missing key `server`"),
    "a later server": (
        "server: vllm\n" + HERE,
        "1:9: `server: vllm` is not in this version, expected triton, kserve or http",
    ),
    "an unknown server": (
        "server: tritn\n" + HERE,
        "1:9: expected triton, kserve or http, found `tritn`, did you mean `triton`?",
    ),
    "an unknown key": (
        "server: kserve\nendpionts: []\nrun: {command: ['{port}']}\n",
        (
            "2:1: unknown key `endpionts`, did you mean `endpoints`? "
            "expected server, path, model, endpoints, balance, max_in_flight, health or run"
        ),
    ),
    "a later key": ("server: kserve\ncredential: {}\n" + HERE, "2:1: `credential` is not in this version"),
    "discovery": ("server: kserve\ndiscover: {dns: 'a:1'}\n", "2:1: `discover` is not in this version"),
    "a region": (
        "server: kserve\nendpoints: [{address: '10.0.0.1:80', region: eu}]\n",
        "2:38: `region` is not in this version",
    ),
    "a later balance": (
        "server: kserve\nbalance: sticky\n" + HERE,
        "2:10: `balance: sticky` is not in this version, expected least_busy, round_robin or random",
    ),
    "no source": ("server: kserve\n", "1:1: expected `endpoints` (at least one) or `run`"),
    "empty endpoints": ("server: kserve\nendpoints: []\n", "1:1: expected `endpoints` (at least one) or `run`"),
    "two sources": (
        "server: kserve\nrun: {command: ['{port}']}\n" + HERE,
        "2:1: `endpoints` and `run` both say where it runs: keep one",
    ),
    "a port of 0": (
        "server: kserve\nendpoints: [10.0.0.1:0]\n",
        "2:13: expected a port from 1 to 65535, found `10.0.0.1:0`",
    ),
    "no host": (
        "server: kserve\nendpoints: [':80']\n",
        "2:13: expected a host before the port, found `:80`",
    ),
    "a wrong IP address": (
        "server: kserve\nendpoints: [10.0.0.256:80]\n",
        "2:13: `10.0.0.256` is neither an IP address nor a DNS name",
    ),
    "an endpoint twice": (
        "server: kserve\nendpoints: [10.0.0.1:80, 10.0.0.1:80]\n",
        "2:26: endpoint `10.0.0.1:80` is there twice",
    ),
    "an endpoint's weight": (
        "server: kserve\nendpoints: [{address: '10.0.0.1:80', weight: 0}]\n",
        "2:46: expected at least 1, found `0`",
    ),
    "an endpoint that is a list": (
        "server: kserve\nendpoints: [[10.0.0.1:80]]\n",
        "2:13: expected a mapping of keys to values, found a list",
    ),
    "http without path": ("server: http\n" + HERE, "1:9: server http needs a `path` that bodies are posted to"),
    "a path without http": (
        "server: kserve\npath: /x\n" + HERE,
        "2:1: `path` is for server http only, not kserve",
    ),
    "a relative path": (
        "server: http\npath: predict\n" + HERE,
        "2:7: expected a path that begins with / such as /predict, found `predict`",
    ),
    "a path with a query": (
        "server: http\npath: /predict?x=1\n" + HERE,
        "2:7: expected a path that begins with / such as /predict, found `/predict?x=1`",
    ),
    "a health path": (
        "server: kserve\nhealth: {path: ready}\n" + HERE,
        "2:16: expected a path that begins with / such as /predict, found `ready`",
    ),
    "a health interval": ("server: kserve\nhealth: {interval: 0s}\n" + HERE, "2:20: expected more than 0, found `0s`"),
    "a model's name": (
        "server: kserve\nmodel: a/b\n" + HERE,
        "2:8: expected a name of letters, digits and . _ ~ : @ + -, found `a/b`",
    ),
    "a command that is text": ("server: kserve\nrun: {command: x}\n", "2:16: expected a list, found `x`"),
    "a command without port": (
        "server: kserve\nrun: {command: [x]}\n",
        "2:16: the command must contain {port}, or nobody can reach it",
    ),
    "a command with a NUL": (
        "server: kserve\nrun: {command: [x, \"a\\0\", '{port}']}\n",
        "2:20: no program can be started with `a\\x00`",
    ),
    "a command without a program": (
        "server: kserve\nrun: {command: ['', '{port}']}\n",
        "2:17: expected a program, found nothing",
    ),
    "no replicas": (
        "server: kserve\nrun: {command: ['{port}'], replicas: 0}\n",
        "2:38: expected at least 1, found `0`",
    ),
    "an empty file": ("", "1:1: the file is empty: expected at least `server:`"),
}


@pytest.mark.parametrize(("text", "expected"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_a_descriptor_has_its_place_and_its_words(folder, text, expected):
    assert folder.errors(MODEL, {"backends/broken.yaml": text}) == [f"backends/broken.yaml:{expected}"]


def test_a_descriptor_is_named_like_a_model(folder):
    assert folder.errors(MODEL, {"backends/My Server.yaml": "server: kserve\n"}) == [
        (
            "backends/My Server.yaml:1:1: backend name `My Server`: "
            "expected 1 to 64 of a-z, 0-9 and . _ -, beginning with a letter or digit"
        )
    ]


def test_a_descriptor_with_the_other_ending_is_not_ignored(folder):
    assert folder.errors(MODEL, {"backends/a.yml": "server: kserve\n"}) == [
        "backends/a.yml:1:1: a descriptor's name ends in .yaml: rename it"
    ]


def test_other_files_and_hidden_files_in_the_folder_are_no_descriptors(folder):
    assert folder.errors(MODEL, {"backends/README.md": "x: [", "backends/.digits.yaml.swp.yaml": "x: ["}) == []


def test_a_folder_with_a_descriptors_name_is_an_error(folder):
    (folder.root / "backends" / "dir.yaml").mkdir()
    assert folder.errors(MODEL) == ["backends/dir.yaml:1:1: cannot be read: Is a directory"]
