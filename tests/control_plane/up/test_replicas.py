import asyncio
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from control_plane.processes import Process, read_endpoints, write_processes
from control_plane.up.plan import Replica
from control_plane.up.probe import accepts
from control_plane.up.replicas import ModelServers
from gateway.state import StateDir

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(WORD)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def server(word: str = "one", replicas: int = 1) -> Process:
    code = SERVER.replace("WORD", repr(word.encode()))
    return Process(command=("python", "-c", code, "{port}"), replicas=replicas, directory="/", ready_within_s=5)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path)


async def probe(replica: Replica) -> str | None:
    return await accepts("127.0.0.1", replica.port)


@asynccontextmanager
async def model_servers(state: StateDir, lines: list[str], out_of_use_s: float = 0.2):
    servers = ModelServers(
        state, show=lambda name, line: lines.append(f"{name}: {line}"), probe=probe, out_of_use_s=out_of_use_s
    )
    task = asyncio.create_task(servers.run())
    try:
        yield servers
    finally:
        servers.stop()
        await task


def says(address: str) -> str | None:
    try:
        with urllib.request.urlopen(f"http://{address}/", timeout=1) as answer:
            return str(answer.read(), "utf-8")
    except (OSError, urllib.error.URLError):
        return None


async def until(condition, timeout_s: float = 8.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "took too long"
        await asyncio.sleep(0.02)


def addresses(state: StateDir, backend: str = "m") -> tuple[str, ...]:
    return (read_endpoints(state) or {}).get(backend, ())


def all_say(state: StateDir, *words: str) -> bool:
    return [says(address) for address in addresses(state)] == list(words)


async def test_wanted_servers_run_on_the_addresses_that_are_published(state: StateDir):
    write_processes(state, {"m": server(replicas=2)})
    async with model_servers(state, []):
        await until(lambda: all_say(state, "one", "one"))
    assert not any(says(address) for address in addresses(state)), "they end with their supervisor"


async def test_a_killed_server_comes_back_on_the_same_port(state: StateDir):
    write_processes(state, {"m": server()})
    async with model_servers(state, []) as servers:
        await until(lambda: all_say(state, "one"))
        before = addresses(state)
        [(_, child)] = servers
        os.kill(child.pid, signal.SIGKILL)
        await until(lambda: child.starts == 2 and all_say(state, "one"))
        assert addresses(state) == before


async def test_a_server_that_is_no_longer_wanted_leaves_the_addresses_before_it_ends(state: StateDir):
    lines: list[str] = []
    write_processes(state, {"m": server(replicas=2)})
    async with model_servers(state, lines, out_of_use_s=0.5):
        await until(lambda: all_say(state, "one", "one"))
        kept, going = addresses(state)
        write_processes(state, {"m": server()})
        await until(lambda: addresses(state) == (kept,))
        assert says(going) == "one", "still serving what Envoy may send"
        await until(lambda: says(going) is None)
        assert says(kept) == "one"
    assert "m/2: ended: it is no longer wanted" in lines


async def test_a_changed_command_takes_over_without_a_moment_of_nobody(state: StateDir):
    write_processes(state, {"m": server("one")})
    async with model_servers(state, []):
        await until(lambda: all_say(state, "one"))
        write_processes(state, {"m": server("two")})
        gaps = 0

        def taken_over() -> bool:
            nonlocal gaps
            answers = [says(address) for address in addresses(state)]
            gaps += not any(answers)
            return answers == ["two"]

        await until(taken_over)
        assert gaps == 0


async def test_a_damaged_file_changes_nothing_and_is_complained_of_once(state: StateDir):
    lines: list[str] = []
    write_processes(state, {"m": server()})
    async with model_servers(state, lines):
        await until(lambda: all_say(state, "one"))
        state.processes.write_text("{")
        await until(lambda: any("stay as they are" in line for line in lines))
        await asyncio.sleep(0.3)
        assert all_say(state, "one")
    assert sum("stay as they are" in line for line in lines) == 1


async def test_no_wanted_servers_is_an_answer_too(state: StateDir):
    write_processes(state, {})
    async with model_servers(state, []) as servers:
        await until(lambda: servers.wanted == {})
        assert read_endpoints(state) == {}


async def test_python_in_a_command_is_the_interpreter_of_the_gateway(state: StateDir):
    code = "import sys, time; print('runs on', sys.executable, flush=True); time.sleep(60)"
    lines: list[str] = []
    write_processes(state, {"m": Process(command=("python", "-c", code), directory="/")})
    async with model_servers(state, lines):
        await until(lambda: f"m/1: runs on {sys.executable}" in lines)


async def test_a_state_directory_that_is_out_of_reach_for_a_while_ends_no_server(state: StateDir, monkeypatch):
    lines: list[str] = []
    write_processes(state, {"m": server()})
    async with model_servers(state, lines) as servers:
        await until(lambda: (read_endpoints(state) or {}).get("m"))
        stat = Path.stat

        def denied(path: Path, **kwargs):
            if path == state.processes:
                raise PermissionError(13, "Permission denied", str(path))
            return stat(path, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "stat", denied)
            await asyncio.sleep(0.3)
        write_processes(state, {"m": server(replicas=2)})
        await until(lambda: len((read_endpoints(state) or {}).get("m", ())) == 2)
        assert len(list(servers)) == 2


@pytest.mark.parametrize("damage", [lambda file: file.write_text("{"), lambda file: file.unlink()], ids=["cut", "gone"])
async def test_a_damaged_list_of_endpoints_is_written_anew(state: StateDir, damage):
    lines: list[str] = []
    write_processes(state, {"m": server()})
    async with model_servers(state, lines):
        await until(lambda: addresses(state))
        before = addresses(state)
        damage(state.endpoints)
        await until(lambda: "written anew" in "".join(lines))
        assert addresses(state) == before
