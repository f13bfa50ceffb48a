"""One supervised program: started, listened to, started again when it dies, stopped when told."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from control_plane.up import leash
from control_plane.up.restarts import Restarts

Show = Callable[[str, str], None]
Clock = Callable[[], float]

_MAX_LINE_BYTES: Final = 64 * 1024
#: How long the output of a dead program is still waited for: its own children may hold the pipe.
_LAST_OUTPUT_S: Final = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run.

    Attributes:
        name: heads its log lines.
        environment: in addition to the supervisor's own.
        directory: working directory; None for the supervisor's.
        grace_s: time between being asked to end and being killed.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None
    grace_s: float = 10.0


class Child:
    """Keeps one program running. ``await run()`` in a task; it returns once :meth:`stop` has done its work.

    Must be used from the main thread's event loop: the leash is tied to the thread that starts the program.
    """

    def __init__(
        self,
        program: Program,
        *,
        show: Show,
        clock: Clock = time.monotonic,
        before_start: Callable[[], Program] | None = None,
    ) -> None:
        """Prepare.

        Args:
            program: what to run.
            show: takes the name and a line of its output.
            clock: seconds, monotonic.
            before_start: gives the program anew before every start.
        """
        self.program = program
        self.pid: int | None = None
        self.starts = 0
        self.last_words: deque[str] = deque(maxlen=3)
        self._show, self._clock, self._before_start = show, clock, before_start
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._running = False

    @property
    def name(self) -> str:
        """The program's name."""
        return self.program.name

    async def run(self) -> None:
        """Keep the program running until stopped."""
        self._running = True
        restarts = Restarts()
        try:
            while not self._stopping.is_set():
                began = self._clock()
                ended = await self._run_once()
                if self._stopping.is_set():
                    return
                restarts, delay_s = restarts.after_death(self._clock() - began)
                again = "at once" if delay_s == 0 else f"in {delay_s:g} s"
                self._show(self.name, f"{ended}; starting it again {again}")
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), delay_s)
        finally:
            self._signal(signal.SIGKILL)
            self._ended.set()

    async def stop(self, *, grace_s: float | None = None) -> None:
        """Ask the program to end (SIGTERM to its process group), kill it after its grace; returns when it has ended."""
        self._stopping.set()
        if not self._running:
            return
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._ended.wait(), self.program.grace_s if grace_s is None else grace_s)
        except TimeoutError:
            self._show(self.name, "did not end in time: killed")
            self._signal(signal.SIGKILL)
            await self._ended.wait()

    def kill(self) -> None:
        """End the program now; a stop that waits for it returns."""
        self._stopping.set()
        self._signal(signal.SIGKILL)

    async def _run_once(self) -> str:
        """Start, wait for the end; how it ended, in words."""
        if self._before_start is not None:
            self.program = self._before_start()
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *_leashed(self.program.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                cwd=self.program.directory,
                env={**os.environ, **self.program.environment},
                # Ctrl-C on the terminal is for the supervisor, who ends its parts in order.
                start_new_session=True,
            )
        except (OSError, ValueError) as error:  # ValueError: words that no program can be given
            os.close(reading)
            self.last_words.append(f"cannot be started: {error}")
            return f"cannot be started: {error}"
        finally:
            os.close(writing)
        self.pid = process.pid
        self.starts += 1
        if self._stopping.is_set():
            self._signal(signal.SIGTERM)
        listening = asyncio.create_task(self._listen(reading))
        try:
            code = await process.wait()
        finally:
            # What it started itself ends with it: a left-over would hold the port.
            self._signal(signal.SIGKILL)
            self.pid = None
            await asyncio.wait({listening}, timeout=_LAST_OUTPUT_S)
            listening.cancel()
        return f"ended with code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}"

    async def _listen(self, descriptor: int) -> None:
        """Pass the output on, line by line."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor))
        rest = b""
        try:
            while chunk := await reader.read(_MAX_LINE_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > _MAX_LINE_BYTES:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    self._said(line)
        finally:
            if rest:
                self._said(rest)
            transport.close()

    def _said(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        if text:
            self.last_words.append(text)
            self._show(self.name, text)

    def _signal(self, number: signal.Signals) -> None:
        """To the program and all that it started."""
        if self.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)


def _leashed(command: tuple[str, ...]) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", str(leash.__file__), str(os.getpid()), *command)
