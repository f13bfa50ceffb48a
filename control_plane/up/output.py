"""What the parts of the gateway say, on one stream: each line headed by who said it.

On a terminal the JSON lines of our services become readable; piped, they pass as they are, since they name their
process themselves. Writing has a thread of its own: a stalled terminal (Ctrl-S) must not stall supervision.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import zlib
from contextlib import suppress
from typing import Final, TextIO

#: Lines that wait for a slow reader; past that they are dropped and counted.
QUEUE_LINES: Final = 10_000
_NAME_WIDTH: Final = 14
_BRIEF: Final = 160
_COLOURS: Final = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
_LEVEL_COLOURS: Final = {"warning": 33, "error": 31, "critical": 31}
_PLAIN_KEYS: Final = frozenset({"event", "level", "timestamp", "process", "exception"})


def render(name: str, line: str, *, terminal: bool) -> str:
    """A line as it is shown.

    >>> render("envoy", "starting", terminal=False)
    'envoy          | starting'
    >>> render("ext_authz", '{"event": "ready"}', terminal=False)
    '{"event": "ready"}'
    """
    record = _record(line)
    if not terminal:
        return line if record is not None else f"{name:<{_NAME_WIDTH}} | {line}"
    colour = _COLOURS[zlib.crc32(name.encode()) % len(_COLOURS)]
    return f"\x1b[{colour}m{name:<{_NAME_WIDTH}}\x1b[0m | {_printable(line) if record is None else _readable(record)}"


def brief(line: str) -> str:
    """A line as a remark in another one: what happened and why, cut short.

    >>> brief('{"event": "failed", "reason": "no disk", "timestamp": "..."}')
    'failed: no disk'
    """
    record = _record(line)
    if record is not None:
        line = ": ".join(str(record[key]) for key in ("event", "reason") if key in record)
    return line if len(line) <= _BRIEF else line[:_BRIEF] + "…"


def _record(line: str) -> dict[str, object] | None:
    """The fields of a JSON log line, or None for any other line."""
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and "event" in record else None


def _readable(record: dict[str, object]) -> str:
    clock = str(record.get("timestamp", ""))[11:19]
    level = str(record.get("level", "info"))
    event = _printable(str(record["event"]))
    if level in _LEVEL_COLOURS:
        event = f"\x1b[{_LEVEL_COLOURS[level]}m{level}: {event}\x1b[0m"
    fields = " ".join(f"{key}={_printable(str(value))}" for key, value in record.items() if key not in _PLAIN_KEYS)
    exception = record.get("exception")
    trace = "" if exception is None else "".join(f"\n    {_printable(part)}" for part in str(exception).splitlines())
    return " ".join(part for part in (clock, event, fields) if part) + trace


def _printable(text: str) -> str:
    """Without control characters: what a client sent must not drive the operator's terminal."""
    return "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in text)


def fill_closed_streams() -> None:
    """Give this process the standard streams that its starter closed; what is written to them is lost.

    Else a file of ours would get the number of one of them, and a child would write its output into that.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def announce(text: str) -> None:
    """Write to standard output at once; a reader that has gone is no reason to stop."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())


class Console:
    """Writes lines to a stream, in order, from a thread of its own."""

    def __init__(self, stream: TextIO, *, terminal: bool) -> None:
        self._stream, self._terminal = stream, terminal
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="console", daemon=True)
        self._thread.start()

    def show(self, name: str, line: str) -> None:
        """Show one line of a process; never blocks."""
        try:
            self._lines.put_nowait(render(name, line, terminal=self._terminal))
        except queue.Full:
            self._dropped += 1

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what still waits, as far as the reader takes it in time."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=timeout_s)
        self._thread.join(timeout_s)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            if self._dropped:
                line = f"{line}\n({self._dropped} lines were not shown: the reader was too slow)"
                self._dropped = 0
            try:
                self._stream.write(line + "\n")
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):
                # The reader has gone; the gateway goes on.
                continue
        with suppress(OSError, ValueError):
            self._stream.flush()
