import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from backends.train import main as train


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    document: Any
    headers: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A model server that runs."""

    url: str
    process: subprocess.Popen[bytes]

    def call(self, path: str, document: Any = None, *, method: str | None = None, headers: Any = None) -> Answer:
        data = document if isinstance(document, bytes | None) else json.dumps(document).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers or {})
        try:
            response = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            text = response.read().decode()
            is_json = response.headers["content-type"].startswith("application/json")
            return Answer(
                status=response.status,
                document=json.loads(text) if is_json else text,
                headers={name.lower(): value for name, value in response.headers.items()},
            )

    def infer(self, model: str, name: str, *items: str, **more: Any) -> Answer:
        tensor = {"name": name, "datatype": "BYTES", "shape": [len(items)], "data": list(items)}
        return self.call(f"/v2/models/{model}/infer", {"inputs": [tensor], **more})

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(model: str, *options: str) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "backends.server", model, "--port", str(port), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = Server(url=f"http://127.0.0.1:{port}", process=process)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                assert server.call("/v2/health/ready").status == 200
                break
            except urllib.error.URLError:
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < deadline, "the server did not become ready"
                time.sleep(0.02)
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


@pytest.fixture(scope="session")
def models() -> None:
    """The models' files, made once per checkout."""
    result = CliRunner().invoke(train, [])
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def digits(models: None) -> Iterator[Server]:
    with running("digits") as server:
        yield server


@pytest.fixture(scope="module")
def language(models: None) -> Iterator[Server]:
    with running("language") as server:
        yield server
