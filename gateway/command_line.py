"""The two options that every command takes: which configuration, and which state directory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import click

from gateway.state import StateDir

DEFAULT_CONFIG: Final = "gateway.yaml"
DEFAULT_STATE: Final = ".isg"

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a command finds things. The configuration need not exist: not every command reads it."""

    config: Path
    state: StateDir


def places_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a click command ``-c/--config`` and ``--state``; the function receives them as one argument ``places``."""

    @click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path),
        envvar="ISG_CONFIG",
        default=DEFAULT_CONFIG,
        show_default=True,
        show_envvar=True,
        help="The gateway's configuration.",
    )
    @click.option(
        "--state",
        type=click.Path(path_type=Path),
        envvar="ISG_STATE",
        show_envvar=True,
        help=f"The state directory.  [default: {DEFAULT_STATE} beside the configuration]",
    )
    @functools.wraps(command)
    def with_places(*args: object, config: Path, state: Path | None, **options: object) -> Result:
        root = state if state is not None else config.parent / DEFAULT_STATE
        return command(*args, places=Places(config=config, state=StateDir(root)), **options)

    return with_places
