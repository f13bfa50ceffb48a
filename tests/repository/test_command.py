"""The command ``isg``: help, exit codes, and what it does not load."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from control_plane.cli import CONTRIBUTED, main

COMMANDS = [*main.commands, *CONTRIBUTED]


def isg(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "control_plane.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **environment},
    )


def leaves(command: click.Command, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        return [path]
    context = click.Context(command)
    found = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
    return [leaf for name, child in found if child is not None for leaf in leaves(child, (*path, name))]


@pytest.mark.parametrize("path", leaves(main, ()), ids=" ".join)
def test_every_command_helps_with_an_example(path: tuple[str, ...]):
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"isg {' '.join(path)}" in result.output
    assert "--state" in result.output


def test_wrong_use_is_exit_code_2_without_a_traceback():
    for arguments in (["nosuch"], ["up", "--nosuch"], ["up", "--concurrency", "0"], ["keys", "create"]):
        result = isg(*arguments)
        assert result.returncode == 2, arguments
        assert "Traceback" not in result.stderr


def test_the_version_is_the_distributions():
    result = isg("--version")
    assert result.returncode == 0
    assert result.stdout.startswith("isg ")


@pytest.mark.parametrize("command", ["--version", "keys"])
def test_a_small_command_does_not_load_the_large_libraries(command: str):
    code = (
        "import sys\nfrom control_plane.cli import main\n"
        f"main(['{command}', '--help'], standalone_mode=False)\n"
        "print(sorted({'grpc', 'pydantic', 'google.protobuf', 'aiohttp', 'uvloop'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_wrong_configuration_is_printed_one_fault_per_line_and_nothing_is_started(tmp_path: Path):
    config = tmp_path / "gateway.yaml"
    config.write_text("version: 1\nbackend: x\nmodels: 5\n")
    result = isg("up", "-c", str(config))
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert f"{config}:2:1: " in result.stderr
    assert f"{config}:3:" in result.stderr
    assert not (tmp_path / ".isg").exists()


def test_a_missing_configuration_is_one_line_and_exit_code_1(tmp_path: Path):
    result = isg("up", "-c", str(tmp_path / "none.yaml"))
    assert result.returncode == 1
    assert "none.yaml" in result.stderr
    assert len(result.stderr.splitlines()) == 1
