"""isg plan and isg explain without a gateway: exit codes and words, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from control_plane import check as checking
from control_plane.cli import main
from ext_authz.commands import create_key, revoke_key
from gateway.state import StateDir

GATEWAY = """\
version: 1
backends: .
default_model: m
models:
  m: {backend: b, input: {schema: {type: object, required: [text]}}}
"""
BACKEND = "server: http\npath: /\nhealth: {path: /ready}\nendpoints: [10.0.0.1:80]\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "gateway.yaml").write_text(GATEWAY.replace("backends: .", "backends: ../backends"))
    (tmp_path / "backends").mkdir()
    (tmp_path / "backends" / "b.yaml").write_text(BACKEND)
    monkeypatch.setattr(checking, "find_envoy", lambda: None)
    return tmp_path


def isg(folder: Path, *arguments: str) -> Result:
    places = ("-c", str(folder / "config" / "gateway.yaml"), "--state", str(folder / "state"))
    return CliRunner().invoke(main, [*arguments, *places])


def key(folder: Path, models: str = "*") -> str:
    return create_key(StateDir(folder / "state"), tenant="acme", models=models.split(","), env="test").id


def test_without_a_gateway_everything_is_new(folder: Path) -> None:
    result = isg(folder, "plan")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"no gateway runs for {folder / 'state'}: everything is new"
    assert "+ model m -> backend b" in lines
    assert "+ backend b: http, [10.0.0.1:80]" in lines
    data = json.loads(isg(folder, "plan", "--json", "--resources").stdout)
    assert data["ok"]
    assert not data["live"]
    assert {change["sign"] for change in data["changes"]} == {"+"}
    assert "routes public" in data["resources"]


def test_a_plan_of_bad_files_is_their_errors(folder: Path) -> None:
    (folder / "config" / "gateway.yaml").write_text("version: 1\nbackends: ../backends\nmodels: {m: {backend: x}}\n")
    for command in (["plan"], ["check"], ["explain", "GET", "/"]):
        result = isg(folder, *command)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert "gateway.yaml:3:23: " in result.stderr
    data = json.loads(isg(folder, "plan", "--json").stdout)
    assert not data["ok"]
    assert len(data["errors"]) == 1


def test_exit_codes_and_the_last_line(folder: Path) -> None:
    every, other = key(folder), key(folder, "other")
    for arguments, code, outcome in (
        (("--key-id", every, "-d", '{"text": 1}'), 0, "200 would reach backend b"),
        (("--key-id", every, "-d", "{}"), 1, "422 schema_violation"),
        (("--key-id", other, "-d", '{"text": 1}'), 1, "403 model_not_allowed"),
        (("-d", "{}"), 1, "401 no_credential"),
        (("-d", "{}", "-H", "authorization: Bearer x"), 1, "401 invalid_credential"),
    ):
        result = isg(folder, "explain", "post", "/v1/predict", *arguments)
        assert result.exit_code == code, result.output
        assert result.stdout.splitlines()[-1].startswith(outcome)


def test_the_operator_is_told_what_clients_are_not(folder: Path) -> None:
    revoked = key(folder)
    revoke_key(StateDir(folder / "state"), revoked)
    result = isg(folder, "explain", "POST", "/v1/predict", "-d", "{}", "--key-id", revoked)
    assert f"because: key {revoked} of tenant acme, tier standard, is revoked" in result.stdout
    assert result.stdout.splitlines()[-1] == "401 invalid_credential"


@pytest.mark.parametrize(
    "arguments",
    [
        ("GET",),
        ("PURGE", "/"),
        ("GET", "v1"),
        ("GET", "/%41"),
        ("GET", "/", "-H", "nocolon"),
        ("GET", "/", "-H", "a b: c"),
        ("POST", "/", "-d", "@/does/not/exist"),
        ("POST", "/", "-d", "@\0"),
        ("GET", "/", "--key-id", "key_nobody"),
    ],
)
def test_wrong_use_is_exit_code_2_with_a_reason(folder: Path, arguments: tuple[str, ...]) -> None:
    result = isg(folder, "explain", *arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_a_key_and_a_credential_are_not_both_taken(folder: Path) -> None:
    for header in ("authorization: Bearer x", "X-Api-Key: x"):
        result = isg(folder, "explain", "GET", "/", "--key-id", key(folder), "-H", header)
        assert result.exit_code == 2
        assert "not both" in result.stderr


def test_a_body_is_read_from_a_file_byte_by_byte(folder: Path) -> None:
    (folder / "body").write_bytes(b'{"text": "\xff"}')
    result = isg(folder, "explain", "POST", "/v1/predict", "-d", f"@{folder / 'body'}", "--key-id", key(folder))
    assert result.stdout.splitlines()[-1] == "400 invalid_json"


def test_a_key_store_that_cannot_be_read_is_one_line_and_exit_code_1(folder: Path) -> None:
    key(folder)
    StateDir(folder / "state").key_store.write_bytes(b"no database at all" * 100)
    result = isg(folder, "explain", "GET", "/")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "keys.db" in result.stderr


def test_explaining_writes_nothing(folder: Path) -> None:
    isg(folder, "explain", "POST", "/v1/predict", "-d", "{}", "-H", "x-api-key: x")
    isg(folder, "plan")
    assert not (folder / "state").exists()
