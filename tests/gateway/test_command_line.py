"""The options that every command takes."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gateway.command_line import Places, places_options


@click.command()
@click.option("--more", is_flag=True)
@places_options
def show(places: Places, *, more: bool) -> None:
    """Print the places.

    Example: show
    """
    click.echo(f"{places.config} {places.state.root} {more}")


@pytest.mark.parametrize(
    ("arguments", "environment", "printed"),
    [
        ([], {}, "gateway.yaml .isg False"),
        (["--more", "-c", "/etc/isg/g.yaml"], {}, "/etc/isg/g.yaml /etc/isg/.isg True"),
        (["--config", "a/g.yaml", "--state", "s"], {}, "a/g.yaml s False"),
        ([], {"ISG_CONFIG": "/x/g.yaml"}, "/x/g.yaml /x/.isg False"),
        ([], {"ISG_CONFIG": "/x/g.yaml", "ISG_STATE": "/run/isg"}, "/x/g.yaml /run/isg False"),
        (["--state", "s", "-c", "c"], {"ISG_CONFIG": "/x/g.yaml", "ISG_STATE": "/run/isg"}, "c s False"),
    ],
)
def test_options_win_over_the_environment_and_the_environment_over_defaults(
    arguments: list[str], environment: dict[str, str], printed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ISG_CONFIG", "ISG_STATE"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(show, arguments, env=environment)
    assert result.output == f"{printed}\n"


def test_the_configuration_need_not_exist(tmp_path: Path) -> None:
    assert CliRunner().invoke(show, ["-c", str(tmp_path / "nowhere.yaml")]).exit_code == 0


def test_help_keeps_the_commands_own_words() -> None:
    result = CliRunner().invoke(show, ["--help"])
    assert "Print the places." in result.output
    assert "ISG_CONFIG" in result.output
