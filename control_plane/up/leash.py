"""Start a program that cannot outlive its starter: ``python -I -S leash.py PARENT_PID PROGRAM [ARGUMENT...]``.

The kernel is asked to kill this process when its parent ends (prctl(2), PR_SET_PDEATHSIG), which also holds for the
program that takes its place. So not even ``kill -9`` of the supervisor leaves a part of the gateway behind.

Run as a script, with the standard library only: it is on the way of every start.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Tie, then become the program."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    # The parent may have ended before the kernel was asked.
    if os.getppid() != parent:
        sys.exit("the supervisor has ended")
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming the program is the point; no shell is wanted
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
