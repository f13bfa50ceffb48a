"""The last good policy on disk, so that a service can start while the control plane is down."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec


class CacheError(ValueError):
    """The file is not a policy cache. The text names it."""


class _Entry(msgspec.Struct, frozen=True):
    version: str
    document: msgspec.Raw


_decoder = msgspec.json.Decoder(dict[str, _Entry])


def read(path: Path) -> dict[str, tuple[str, bytes]]:
    """Versions and documents by resource name; empty where there is no file yet.

    Raises:
        CacheError: the file cannot be read, or is not one that :func:`write` wrote.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CacheError(f"{path}: {error.strerror}") from error
    try:
        return {name: (entry.version, bytes(entry.document)) for name, entry in _decoder.decode(data).items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CacheError(f"{path}: {error}") from error


def write(path: Path, documents: Mapping[str, tuple[str, bytes]]) -> None:
    """Replace the file as a whole, mode 0600.

    Raises:
        OSError: it could not be written; the old one stays.
    """
    entries = {name: _Entry(version, msgspec.Raw(document)) for name, (version, document) in documents.items()}
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(entries))
        Path(temporary).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
