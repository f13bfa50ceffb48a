"""`isg up` of the quickstart: how long until `ready`, and how much memory our services take."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import memory
from tests.support.stack import free_port

ROOT = Path(__file__).parents[1]
SERVICES = ("control-plane", "ext-authz", "ext-proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """One start of everything: seconds to `ready`, and MiB of proportional memory by service."""

    ready_s: float
    pss_mib: dict[str, float]


def measure() -> Startup:
    """Start the quickstart in a folder of its own, on a free port, and stop it again.

    Raises:
        RuntimeError: it ended, or said nothing, before it was ready.
    """
    with tempfile.TemporaryDirectory(prefix="isg-bench-") as scratch:
        folder = Path(scratch) / "quickstart"
        shutil.copytree(ROOT / "examples" / "quickstart", folder, ignore=shutil.ignore_patterns(".isg"))
        config = folder / "gateway.yaml"
        text = config.read_text().replace("../../backends", str(ROOT / "backends"))
        config.write_text(text.replace(":8080", f":{free_port()}"))
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "control_plane.cli", "up", "-c", str(config)], stdout=subprocess.PIPE, text=True
        )
        try:
            ready_s = _ready(process, started)
            return Startup(ready_s=ready_s, pss_mib=_pss(process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def _ready(process: subprocess.Popen[str], started: float) -> float:
    for line in process.stdout or ():
        if line.startswith("ready "):
            return time.monotonic() - started
    raise RuntimeError(f"isg up ended with {process.wait()} before it was ready")


def _pss(parent: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_text().split("\0")
            ancestors = _ancestors(int(folder.name))
        except OSError:
            continue
        service = next((name for name in SERVICES if name in words), None)
        if service and parent in ancestors:
            found[service] = found.get(service, 0) + memory(int(folder.name)).pss_mib
    return found


def _ancestors(pid: int) -> set[int]:
    result: set[int] = set()
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        result.add(pid)
    return result
