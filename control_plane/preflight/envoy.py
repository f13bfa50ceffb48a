"""``envoy --mode validate`` in a subprocess: a configuration that would crash Envoy crashes only that."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

TIMEOUT_S: Final = 20.0
_NOISE: Final = re.compile(r"^\[[^]]*]\[[^]]*]\[(?:info|warning|debug|trace)]")
_PREFIX: Final = re.compile(r"^\[[^]]*]\[[^]]*]\[\w+]\[\w+] \[[^]]*] ")


class PreflightError(Exception):
    """This configuration must not reach an Envoy; the text says why."""


def find_envoy() -> str | None:
    """Path of the Envoy binary: ``ISG_ENVOY``, or beside this interpreter, or on PATH."""
    beside = Path(sys.executable).with_name("envoy")
    return os.environ.get("ISG_ENVOY") or (str(beside) if beside.exists() else shutil.which("envoy"))


async def validate(bootstrap: str, *, envoy: str) -> None:
    """Ask the real Envoy.

    Raises:
        PreflightError: Envoy refused, crashed or gave no answer.
    """
    with tempfile.TemporaryDirectory(prefix="isg-preflight-") as folder:
        file = Path(folder) / "bootstrap.json"
        file.write_text(bootstrap)
        command = [envoy, "--mode", "validate", "--disable-hot-restart", "-c", str(file)]
        try:
            # subprocess starts children by vfork; uvloop forks, and gRPC's fork handlers can crash such a child.
            process = await asyncio.to_thread(
                subprocess.run,
                command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PreflightError(f"envoy --mode validate gave no answer within {TIMEOUT_S:.0f} s") from None
        except OSError as error:
            raise PreflightError(f"{envoy} cannot be asked: {error.strerror or error}") from error
    if process.returncode == 0:
        return
    if process.returncode < 0:
        raise PreflightError(f"this configuration crashes Envoy (signal {-process.returncode})")
    raise PreflightError(reason(process.stderr.decode(errors="replace")))


def reason(output: str) -> str:
    """What Envoy said was wrong, without its log prefixes and its warnings."""
    lines = [_PREFIX.sub("", line) for line in output.splitlines() if line and not _NOISE.match(line)]
    return " ".join(dict.fromkeys(lines)) or "Envoy refused it without a reason"
