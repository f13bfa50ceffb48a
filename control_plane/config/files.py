"""Reading the operator's files: regular, UTF-8, of bounded size, and inside the folder where that is asked for."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from control_plane.config.errors import Fault, shown

MAX_BYTES: Final = 1024 * 1024


class UnreadableFile(Exception):  # noqa: N818 (it says what happened)
    """The file cannot be read as text; ``fault`` says where and why."""

    def __init__(self, message: str, *, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.fault = Fault(line=line, column=column, message=message)


def read_text(path: Path) -> str:
    """The text of a file, without a byte order mark.

    Raises:
        UnreadableFile: it is not there, no regular file, larger than :data:`MAX_BYTES`, or not UTF-8.
    """
    try:
        # a FIFO in the folder must not hold the reader up for ever
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 (of a descriptor)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UnreadableFile("not a regular file")
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableFile(f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UnreadableFile("cannot be read: its name holds a NUL character") from error
    if len(data) > MAX_BYTES:
        raise UnreadableFile("larger than 1MiB")
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise UnreadableFile(f"not UTF-8: byte 0x{data[error.start]:02x}", line=line, column=column) from error


def inside(folder: Path, name: str) -> Path:
    """The file of a name relative to a folder.

    Raises:
        ValueError: it lies outside the folder, by its name or through a symbolic link.
    """
    if not name or not name.isprintable():
        raise ValueError(f"expected the name of a file, found {shown(name)}")
    path = folder / name
    try:
        contained = not Path(name).is_absolute() and path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{shown(name)} cannot be followed: its links form a loop, or it is too long") from error
    if not contained:
        raise ValueError(f"{shown(name)} lies outside the folder of gateway.yaml")
    return path
