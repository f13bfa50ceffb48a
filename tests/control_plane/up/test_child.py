import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from control_plane.up.child import Child, Program

PRINT_AND_WAIT = "import time; print('up', flush=True); time.sleep(60)"


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __call__(self, name: str, line: str) -> None:
        self.lines.append((name, line))

    def count(self, text: str) -> int:
        return sum(text in line for _, line in self.lines)


async def until(condition, timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "took too long"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def running(code: str, log: Log, *, grace_s: float = 5.0, command: tuple[str, ...] | None = None):
    program = Program(name="child", command=command or (sys.executable, "-S", "-c", code), grace_s=grace_s)
    child = Child(program, show=log)
    task = asyncio.create_task(child.run())
    try:
        yield child
    finally:
        await child.stop(grace_s=0.5)
        await task


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_its_lines_are_passed_on_under_its_name():
    log = Log()
    async with running("import sys; print('one'); print('two', file=sys.stderr); import time; time.sleep(60)", log):
        await until(lambda: ("child", "two") in log.lines)


async def test_a_killed_program_is_started_again_at_once():
    log = Log()
    async with running(PRINT_AND_WAIT, log) as child:
        await until(lambda: log.count("up") == 1)
        first = child.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: log.count("up") == 2)
        assert child.pid != first
        assert ("child", "ended by SIGKILL; starting it again at once") in log.lines


async def test_a_program_that_keeps_dying_is_started_ever_less_often_and_its_last_words_are_kept():
    log = Log()
    async with running("print('no model here'); raise SystemExit(3)", log) as child:
        await until(lambda: log.count("ended with code 3; starting it again in 0.25 s") == 1)
        await asyncio.sleep(0.1)
        assert child.starts == 2
        assert child.last_words[-1] == "no model here"


async def test_a_program_that_does_not_exist_is_reported_and_tried_again():
    log = Log()
    async with running("", log, command=("/no/such/program",)):
        await until(lambda: log.count("/no/such/program cannot be started: No such file") >= 2)


async def test_stopping_lets_a_program_finish_within_its_grace():
    log = Log()
    code = (
        "import signal, time, sys\n"
        "def end(*_): time.sleep(0.2); print('finished', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True); time.sleep(60)"
    )
    async with running(code, log) as child:
        await until(lambda: log.count("up") == 1)
        await child.stop()
        assert log.count("finished") == 1
        assert log.count("starting it again") == 0


async def test_a_program_that_ignores_sigterm_is_killed_after_its_grace():
    log = Log()
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    async with running(code, log, grace_s=0.3) as child:
        await until(lambda: log.count("up") == 1)
        pid = child.pid
        await child.stop()
        assert not alive(pid)
        assert log.count("killed") == 1


async def test_what_a_program_started_itself_ends_with_it():
    log = Log()
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])\n"
        "print('grandchild', p.pid, flush=True); time.sleep(60)"
    )
    async with running(code, log) as child:
        await until(lambda: log.count("grandchild") == 1)
        grandchild = int(log.lines[-1][1].split()[1])
        os.kill(child.pid, signal.SIGKILL)
        await until(lambda: not alive(grandchild))


async def test_a_line_without_end_does_not_fill_the_memory():
    log = Log()
    code = "import sys, time\nfor _ in range(40): sys.stdout.write('x' * 10_000)\nsys.stdout.flush(); time.sleep(60)"
    async with running(code, log):
        await until(lambda: sum(len(line) for _, line in log.lines) >= 300_000)
        assert max(len(line) for _, line in log.lines) < 200_000


async def test_a_stop_while_it_waits_to_start_again_returns_at_once():
    log = Log()
    async with running("raise SystemExit(1)", log) as child:
        await until(lambda: log.count("in 0.5 s") == 1)
        began = time.monotonic()
        await child.stop()
        assert time.monotonic() - began < 0.3


def test_kill_9_of_the_supervisor_leaves_nothing_behind(tmp_path: Path):
    code = (
        "import asyncio, sys\n"
        "from control_plane.up.child import Child, Program\n"
        "program = Program(name='child', command=(sys.executable, '-S', '-c', 'import os, time; '"
        "'print(os.getpid(), flush=True); time.sleep(60)'))\n"
        "asyncio.run(Child(program, show=lambda n, line: print(line, flush=True)).run())\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    try:
        pid = int(supervisor.stdout.readline())
        assert alive(pid)
    finally:
        supervisor.kill()
        supervisor.wait()
        supervisor.stdout.close()
    deadline = time.monotonic() + 2
    while alive(pid):
        assert time.monotonic() < deadline, "the child outlived its supervisor"
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
async def test_the_leash_is_gone_from_the_process_once_it_holds():
    log = Log()
    async with running(PRINT_AND_WAIT, log) as child:
        await until(lambda: log.count("up") == 1)
        assert b"leash" not in Path(f"/proc/{child.pid}/cmdline").read_bytes()


@pytest.mark.parametrize("command", [("no such program",), ("sh", "a\0b"), ("",)], ids=["missing", "nul", "empty"])
async def test_what_cannot_be_started_is_said_and_ends_nobody_else(command: tuple[str, ...]):
    log = Log()
    async with running("", log, command=command):
        await until(lambda: log.count("starting it again") >= 2)
    assert log.count("cannot be started") or log.count("ended with code")
