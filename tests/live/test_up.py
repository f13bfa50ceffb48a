"""``isg up`` as its operator meets it: the quickstart, the real Envoy, real models, signals and kills."""

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from control_plane.preflight.envoy import find_envoy
from control_plane.processes import read_endpoints
from control_plane.up.ports import allot
from control_plane.up.probe import answers_200
from gateway.state import StateDir

ROOT = Path(__file__).parents[2]
#: The gateway promises five seconds; the machine of a test run has other things to do.
READY_WITHIN_S = 10.0

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.skipif(find_envoy() is None, reason="no Envoy on this machine"),
    pytest.mark.skipif(
        not all((ROOT / "backends" / "models" / f"{name}.npz").exists() for name in ("digits", "language")),
        reason="the demo's models are not made: python -m backends.train",
    ),
]


@dataclass(slots=True)
class Up:
    """A running ``isg up``."""

    process: asyncio.subprocess.Process
    state: StateDir
    url: str
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    ready_after_s: float = 0.0

    @property
    def key(self) -> str:
        return (self.state.root / "demo-key").read_text().strip()

    def children(self) -> dict[int, str]:
        """Processes by pid, with their command lines."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {int(pid): Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in listed}

    def pid_of(self, part: str) -> int:
        return next(pid for pid, command in self.children().items() if part in command)


def quickstart(folder: Path, *, port: int, drain: str = "10s") -> Path:
    """A copy of the quickstart on a port of its own."""
    shutil.copytree(ROOT / "examples" / "quickstart", folder, ignore=shutil.ignore_patterns(".isg"))
    config = folder / "gateway.yaml"
    text = config.read_text().replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    text = text.replace("../../backends", str(ROOT / "backends"))
    config.write_text(text + f"\nstate:\n  drain: {drain}\n")
    return config


async def until(what: str, condition, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        await asyncio.sleep(0.05)


async def collect(stream: asyncio.StreamReader, lines: list[str]) -> None:
    while line := await stream.readline():
        lines.append(line.decode().rstrip("\n"))


async def start(config: Path, state: StateDir, url: str) -> Up:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "control_plane.cli", "up", "-c", str(config), "--state", str(state.root)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    return Up(process=process, state=state, url=url)


@asynccontextmanager
async def up(config: Path, state: StateDir, url: str, *, wait: bool = True) -> AsyncIterator[Up]:
    running = await start(config, state, url)
    process = running.process
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [
        asyncio.create_task(collect(process.stdout, running.out)),
        asyncio.create_task(collect(process.stderr, running.err)),
    ]
    began = time.monotonic()
    try:
        if wait:
            try:
                await until("ready", lambda: f"ready {url}" in running.out, READY_WITHIN_S)
            except AssertionError:
                pytest.fail("\n".join(["not ready:", *running.err[-40:]]))
            running.ready_after_s = time.monotonic() - began
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await asyncio.gather(*readers)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Up]:
    port = allot()
    config = quickstart(tmp_path / "quickstart", port=port)
    async with up(config, StateDir(tmp_path / "state"), f"http://127.0.0.1:{port}") as running:
        yield running


def printed_requests(lines: list[str]) -> list[str]:
    text = "\n".join(lines)
    return re.findall(r"^curl -s (?:.*\\\n)*.*$", text, re.MULTILINE)


def top_label(answer: str) -> str:
    return str(json.loads(answer)["outputs"]["scores"][0]["label"])


async def predict(client: aiohttp.ClientSession, gateway: Up, body: dict[str, object]) -> tuple[int, str]:
    headers = {"authorization": f"Bearer {gateway.key}"}
    async with client.post(f"{gateway.url}/v1/predict", json=body, headers=headers) as answer:
        return answer.status, await answer.text()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_printed_requests_answer_right_on_the_first_start_and_on_the_next(tmp_path: Path):
    port = allot()
    config = quickstart(tmp_path / "quickstart", port=port)
    state, url = StateDir(tmp_path / "state"), f"http://127.0.0.1:{port}"
    for first in (True, False):
        async with up(config, state, url) as running:
            await until("requests printed", lambda: "metrics" in running.out[-1])
            assert running.out.count(f"ready {url}") == 1
            assert running.out[0] == f"ready {url}"
            secret_shown = any(running.key in line for line in running.out)
            assert secret_shown is first, "the secret is shown once"
            labels = []
            for request in printed_requests(running.out):
                done = await asyncio.to_thread(
                    subprocess.run, ["bash", "-c", request], capture_output=True, text=True, check=True, timeout=10
                )
                labels.append(top_label(done.stdout))
            assert labels == ["en", "three"]
            assert (state.root / "demo-key").stat().st_mode & 0o777 == 0o600
            assert not any(running.key in line for line in running.err)
            running.process.terminate()
            assert await asyncio.wait_for(running.process.wait(), 15) == 0


async def test_sigterm_loses_no_request_and_leaves_nothing_behind(gateway: Up):
    statuses: list[int] = []
    lost: list[str] = []

    async def caller() -> None:
        async with aiohttp.ClientSession() as client:
            while True:
                try:
                    statuses.append((await predict(client, gateway, {"text": "Hello, world!"}))[0])
                except aiohttp.ClientConnectorError:
                    return  # refused at the door: never accepted
                except aiohttp.ClientError as error:
                    lost.append(repr(error))

    callers = [asyncio.create_task(caller()) for _ in range(4)]
    await asyncio.sleep(0.5)
    children = list(gateway.children())
    assert len(children) == 8
    gateway.process.send_signal(signal.SIGTERM)
    code = await asyncio.wait_for(gateway.process.wait(), 20)
    await asyncio.wait_for(asyncio.gather(*callers), 5)
    assert code == 0
    assert lost == []
    assert set(statuses) == {200}
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


async def test_sigterm_waits_for_the_answer_of_a_slow_model_server(tmp_path: Path):
    port = allot()
    config = quickstart(tmp_path / "quickstart", port=port)
    backends = tmp_path / "backends"
    shutil.copytree(ROOT / "backends", backends, ignore=lambda _, names: [n for n in names if not n.endswith(".yaml")])
    descriptor = backends / "language.yaml"
    descriptor.write_text(descriptor.read_text().replace("language, --port", "language, --delay-ms, '2500', --port"))
    config.write_text(config.read_text().replace(str(ROOT / "backends"), str(backends)))
    async with (
        up(config, StateDir(tmp_path / "state"), f"http://127.0.0.1:{port}") as running,
        aiohttp.ClientSession() as client,
    ):
        answers = [asyncio.create_task(predict(client, running, {"text": "Hello, world!"})) for _ in range(4)]
        await asyncio.sleep(0.5)
        running.process.send_signal(signal.SIGTERM)
        statuses = [status for status, _ in await asyncio.gather(*answers)]
        assert statuses == [200] * 4
        assert await asyncio.wait_for(running.process.wait(), 15) == 0


async def test_every_part_that_is_killed_comes_back_and_serves(gateway: Up):
    async with aiohttp.ClientSession() as client:

        async def serves() -> bool:
            try:
                return (await predict(client, gateway, {"text": "Hello, world!"}))[0] == 200
            except aiohttp.ClientError:
                return False

        for part in ("envoy-bootstrap.json", "ext-authz", "ext-proc", "control-plane", "backends.server language"):
            pid = gateway.pid_of(part)
            os.kill(pid, signal.SIGKILL)
            await until(f"{part} runs again", lambda pid=pid, part=part: _other(gateway, part, pid), 3)
            await until(f"requests succeed after {part} died", serves, 10)
        socket_path = gateway.state.admin_socket("control_plane")
        await until(
            "the control plane is ready again",
            lambda: _is_none(answers_200("http://isg/ready", socket_path=socket_path)),
        )
    text = "\n".join(gateway.err)
    assert text.count("ended by SIGKILL; starting it again at once") == 5


def _other(gateway: Up, part: str, pid: int) -> bool:
    try:
        return any(part in command and found != pid for found, command in gateway.children().items()) and (
            pid not in gateway.children()
        )
    except (FileNotFoundError, ProcessLookupError):
        return False


async def _is_none(question) -> bool:
    return await question is None


async def test_kill_9_of_the_supervisor_ends_all_and_the_next_one_starts(tmp_path: Path):
    port = allot()
    config = quickstart(tmp_path / "quickstart", port=port)
    state, url = StateDir(tmp_path / "state"), f"http://127.0.0.1:{port}"
    async with up(config, state, url) as first:
        children = list(first.children())
        first.process.kill()
        await first.process.wait()
        await until("its parts have ended", lambda: not any(_runs(pid) for pid in children), 3)
    async with up(config, state, url), aiohttp.ClientSession() as client, client.get(f"{url}/healthz") as answer:
        assert answer.status == 200


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_second_gateway_on_the_same_state_or_port_is_refused_in_a_sentence(gateway: Up, tmp_path: Path):
    config = tmp_path / "quickstart" / "gateway.yaml"
    async with up(config, gateway.state, gateway.url, wait=False) as second:
        assert await asyncio.wait_for(second.process.wait(), 10) == 1
        await until("said why", lambda: second.err)
        assert len(second.err) == 1
        assert "a gateway runs already" in second.err[0]
    async with up(config, StateDir(tmp_path / "other"), gateway.url, wait=False) as second:
        assert await asyncio.wait_for(second.process.wait(), 10) == 1
        await until("said why", lambda: second.err)
        assert "is in use by another program" in second.err[0]
    assert await answers_200(f"{gateway.url}/healthz") is None, "the first one goes on"


async def test_more_replicas_are_a_saved_file_away(tmp_path: Path):
    port = allot()
    config = quickstart(tmp_path / "quickstart", port=port)
    backends = tmp_path / "backends"
    shutil.copytree(ROOT / "backends", backends, ignore=lambda _, names: [n for n in names if not n.endswith(".yaml")])
    config.write_text(config.read_text().replace(str(ROOT / "backends"), str(backends)))
    descriptor = backends / "digits.yaml"
    async with up(config, StateDir(tmp_path / "state"), f"http://127.0.0.1:{port}") as running:

        def count() -> int:
            return len((read_endpoints(running.state) or {}).get("digits", ()))

        assert count() == 2
        original = descriptor.read_text()
        descriptor.write_text(original.replace("replicas: 2", "replicas: 3"))
        await until("a third server", lambda: count() == 3)
        descriptor.write_text(original.replace("replicas: 2", "replicas: 1"))
        await until("only one server", lambda: count() == 1)
        await until("two have ended", lambda: sum("no longer wanted" in line for line in running.err) == 2)


async def test_a_model_moves_to_new_local_servers_without_a_failed_request(tmp_path: Path):
    port = allot()
    config = quickstart(tmp_path / "quickstart", port=port)
    backends = tmp_path / "backends"
    shutil.copytree(ROOT / "backends", backends, ignore=lambda _, names: [n for n in names if not n.endswith(".yaml")])
    original = config.read_text().replace(str(ROOT / "backends"), str(backends))
    config.write_text(original)
    async with (
        up(config, StateDir(tmp_path / "state"), f"http://127.0.0.1:{port}") as running,
        aiohttp.ClientSession() as client,
    ):
        statuses: list[int] = []

        async def caller() -> None:
            while True:
                statuses.append((await predict(client, running, {"text": "Hello, world!"}))[0])
                await asyncio.sleep(0.02)

        calling = asyncio.create_task(caller())
        descriptor = (backends / "language.yaml").read_text()
        (backends / "fresh.yaml").write_text(descriptor + "model: language\n")
        await asyncio.sleep(0.2)
        config.write_text(original.replace("backend: language", "backend: fresh"))
        await until("it is awaited", lambda: any("model_servers_awaited" in line for line in running.err))
        applied = sum("config_applied" in line for line in running.err)
        await until("it is live", lambda: sum("config_applied" in line for line in running.err) > applied)
        await asyncio.sleep(1)
        calling.cancel()
        assert set(statuses) == {200}


async def test_a_gateway_that_is_not_ready_says_what_it_waits_for(tmp_path: Path):
    port = allot()
    config = quickstart(tmp_path / "quickstart", port=port)
    backends = tmp_path / "backends"
    backends.mkdir()
    (backends / "digits.yaml").write_text((ROOT / "backends" / "digits.yaml").read_text())
    (backends / "language.yaml").write_text(
        'server: kserve\nrun:\n  command: [python, -c, \'print("no model here"); raise SystemExit(3)\', "{port}"]\n'
        "  ready_within: 1s\n"
    )
    config.write_text(config.read_text().replace(str(ROOT / "backends"), str(backends)))
    async with up(config, StateDir(tmp_path / "state"), f"http://127.0.0.1:{port}", wait=False) as running:
        await until(
            "the report",
            lambda: any(
                "not ready yet: language/1" in line and "last words: " in line and "no model here" in line
                for line in running.err
            ),
            15,
        )
        assert running.process.returncode is None, "it keeps supervising"
        assert running.out == []
        running.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(running.process.wait(), 15) == 0


async def test_a_second_signal_stops_at_once(gateway: Up):
    with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as client:
        body = b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nauthorization: Bearer "
        client.sendall(body + gateway.key.encode() + b"\r\ncontent-length: 100\r\n\r\n{")
        await asyncio.sleep(0.3)
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.3)
        gateway.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(gateway.process.wait(), 10) == 0
        assert time.monotonic() - began < 4


@pytest.mark.parametrize("streams", [">&- 2>&- <&-", "2>/dev/null | true"], ids=["closed", "readers-gone"])
async def test_a_gateway_whose_output_nobody_reads_and_whose_terminal_is_gone_serves_on(tmp_path: Path, streams: str):
    port = allot()
    config = quickstart(tmp_path / "quick start", port=port)
    state, url = StateDir(tmp_path / "state"), f"http://127.0.0.1:{port}"
    command = f"exec {shlex.quote(sys.executable)} -m control_plane.cli up -c {shlex.quote(str(config))}"
    command += f" --state {shlex.quote(str(state.root))}"
    script = f"trap '' HUP; ({command}) {streams} & wait" if "|" in streams else f"trap '' HUP; {command} {streams}"
    shell = await asyncio.create_subprocess_exec("bash", "-c", script, start_new_session=True)
    try:
        await until("it serves", lambda: _is_none(answers_200(f"{url}/healthz")), READY_WITHIN_S)
        pid = int((state.root / "up.lock").read_text())
        # a little later it has said `ready`, to nobody
        await asyncio.sleep(1)
        os.kill(pid, signal.SIGHUP)
        await asyncio.sleep(1.5)
        assert await answers_200(f"{url}/healthz") is None
        os.kill(pid, signal.SIGTERM)
        await asyncio.wait_for(shell.wait(), 15)
        await until("it has ended", lambda: not _runs(pid))
        assert (state.root / "up.lock").read_text() == "", "it stopped in order"
    finally:
        if shell.returncode is None:
            os.killpg(shell.pid, signal.SIGKILL)
            await shell.wait()
