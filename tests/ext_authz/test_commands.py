"""``isg keys`` on the command line."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from ext_authz.api_keys.format import public_prefix
from ext_authz.commands import keys
from gateway.state import StateDir


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    return ["--state", str(tmp_path / "state")]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(keys, arguments)


def made(places: list[str], *more: str) -> dict[str, Any]:
    result = run("create", *places, "--tenant", "acme", "--models", "digits,chat", "--json", *more)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_create_prints_the_published_json(places: list[str]) -> None:
    key = made(places, "--name", "ci", "--tier", "gold", "--expires", "30d", "--env", "demo")
    assert public_prefix(key["secret"])
    assert key["secret"].startswith("isg_demo_")
    assert (key["tenant"], key["models"], key["name"], key["tier"]) == ("acme", ["digits", "chat"], "ci", "gold")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", key["expires_at"])
    assert made(places)["expires_at"] is None


def test_create_for_people_prints_the_secret_alone_on_standard_output(places: list[str]) -> None:
    result = run("create", *places, "--tenant", "acme", "--models", "*")
    assert result.exit_code == 0
    assert public_prefix(result.stdout.strip())
    assert "shown this once" in result.stderr
    assert result.stdout.strip() not in result.stderr


def test_list_shows_every_key_with_its_status_and_no_secret(places: list[str]) -> None:
    first, second = made(places, "--name", "a b"), made(places)
    assert run("revoke", *places, second["id"]).exit_code == 0
    result = run("list", *places, "--json")
    assert {key["id"]: key["status"] for key in json.loads(result.stdout)} == {
        first["id"]: "active",
        second["id"]: "revoked",
    }
    plain = run("list", *places)
    lines = [line.split("\t") for line in plain.stdout.splitlines()]
    assert [line[0] for line in lines] == ["ID", first["id"], second["id"]]
    assert [line[-1] for line in lines] == ["NAME", "a b", ""]
    for key in (first, second):
        assert key["secret"].split("_")[2][:8] not in result.output + plain.output


def test_before_the_first_start_there_are_no_keys(places: list[str]) -> None:
    assert json.loads(run("list", *places, "--json").stdout) == []
    assert run("list", *places).exit_code == 0
    assert not Path(places[1]).exists()


def test_revoke_says_when_and_twice_is_fine(places: list[str]) -> None:
    key = made(places)
    first = run("revoke", *places, key["id"], "--json")
    second = run("revoke", *places, key["id"], "--json")
    assert first.exit_code == second.exit_code == 0
    assert json.loads(first.stdout)["revoked_at"] == json.loads(second.stdout)["revoked_at"] is not None
    assert f"{key['id']} is revoked since" in run("revoke", *places, key["id"]).stdout


def test_revoking_an_unknown_id_or_a_pasted_secret_exits_1_and_does_not_echo(places: list[str]) -> None:
    key = made(places)
    for wrong in ("key_unknown", key["secret"]):
        result = run("revoke", *places, wrong)
        assert result.exit_code == 1
        assert "no key with this id" in result.stderr
        assert wrong not in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tenant", "Acme", "--models", "*"], "--tenant"),
        (["--tenant", "acme", "--models", "a,,b"], "--models"),
        (["--tenant", "acme", "--models", "*,a"], "--models"),
        (["--tenant", "acme", "--models", "*", "--expires", "soon"], "--expires"),
        (["--tenant", "acme", "--models", "*", "--expires", "2001-01-01"], "--expires"),
        (["--tenant", "acme", "--models", "*", "--expires", "999999999w"], "--expires"),
        (["--tenant", "acme", "--models", "*", "--expires", "0d"], "--expires"),
        (["--tenant", "acme", "--models", "*", "--env", "Live"], "--env"),
        (["--tenant", "acme", "--models", "*", "--tier", ""], "--tier"),
        (["--models", "*"], "--tenant"),
        (["--tenant", "acme", "--models", "*", "--nonsense"], "--nonsense"),
    ],
)
def test_wrong_use_exits_2_and_names_the_option(places: list[str], arguments: list[str], words: str) -> None:
    result = run("create", *places, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not Path(places[1]).exists()


def test_a_store_that_cannot_be_used_is_one_sentence(places: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    made(places)
    store = StateDir(Path(places[1])).key_store
    store.write_bytes(b"garbage" * 1000)
    for arguments in (["list"], ["revoke", "key_1"], ["create", "--tenant", "a", "--models", "*"]):
        result = run(*arguments, *places)
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: ")
        assert len(result.stderr.splitlines()) == 1
        assert isinstance(result.exception, SystemExit)


def test_a_state_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("create", "--state", str(tmp_path / "file" / "state"), "--tenant", "a", "--models", "*")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert run("list", "--state", str(tmp_path / "file" / "state")).exit_code in {0, 1}


def test_a_locked_store_is_one_sentence(places: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    made(places)
    connect = sqlite3.connect
    monkeypatch.setattr(
        "ext_authz.api_keys.store.sqlite3.connect", lambda *given, **more: connect(*given, **{**more, "timeout": 0.05})
    )
    holder = connect(StateDir(Path(places[1])).key_store, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    result = run("create", *places, "--tenant", "a", "--models", "*")
    holder.execute("ROLLBACK")
    holder.close()
    assert result.exit_code == 1
    assert "is locked by another process" in result.stderr


def test_expiry_counts_from_now(places: list[str]) -> None:
    key = made(places, "--expires", "1h")
    ends = time.mktime(time.strptime(key["expires_at"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    assert 3590 < ends - time.time() <= 3600


@pytest.mark.parametrize("command", [keys, *keys.commands.values()], ids=lambda command: str(command.name))
def test_every_help_has_an_example(command: click.Command) -> None:
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    if command is not keys:
        assert re.search(r"Example:\n +isg keys ", result.output)
        assert "ISG_STATE" in result.output
