"""Load by wrk, a generator that costs little enough to leave the two cores to what is measured."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One measurement: requests done, how fast, how long each took."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int


def available() -> bool:
    """Whether wrk is installed (Debian package `wrk`)."""
    return shutil.which("wrk") is not None


def post(url: str, body: bytes, headers: dict[str, str], *, connections: int, seconds: int) -> Load:
    """POST one body over and over.

    Raises:
        RuntimeError: wrk failed or said nothing that can be read.
    """
    lines = ['wrk.method = "POST"', f"wrk.body = {json.dumps(body.decode())}"]
    lines += [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text("\n".join(lines) + "\n")
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), url]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"wrk failed: {result.stdout}{result.stderr}")
    return read(result.stdout)


def read(text: str) -> Load:
    """What wrk printed."""
    requests = int(_find(r"(\d+) requests in", text)[0])
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    failed = int(errors[1]) if errors else 0
    failed += sum(int(number) for number in sockets.groups()) if sockets else 0
    return Load(
        requests=requests,
        per_second=float(_find(r"Requests/sec:\s+([\d.]+)", text)[0]),
        p50_ms=_milliseconds(*_find(r"50%\s+([\d.]+)(us|ms|s)", text)),
        p99_ms=_milliseconds(*_find(r"99%\s+([\d.]+)(us|ms|s)", text)),
        failed=failed,
    )


def _find(pattern: str, text: str) -> tuple[str, ...]:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"wrk's output has no {pattern!r}:\n{text}")
    return found.groups()


def _milliseconds(number: str, unit: str) -> float:
    return float(number) * _UNITS[unit]
