"""The pepper: a secret file that key hashes are keyed with, so that a stolen database alone is worthless.

It is created on first need. Several processes may need it first at the same moment: each writes a file of its own and
links it to the final name, which succeeds for exactly one of them and never shows a half-written file.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Final

from ext_authz.api_keys.errors import PepperError

LENGTH: Final = 32
_DIGEST_SIZE: Final = 32


def read(path: Path) -> bytes:
    """The pepper.

    Raises:
        PepperError: it is missing, unreadable, of the wrong size, or readable by other users.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            value = file.read(LENGTH + 1)
    except FileNotFoundError:
        raise PepperError(f"{path} is missing: without it no stored key can be checked") from None
    except OSError as error:
        raise PepperError(f"{path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise PepperError(f"{path} is open to other users: run chmod 600 on it")
    if len(value) != LENGTH:
        raise PepperError(f"{path} is damaged: it must hold exactly {LENGTH} bytes")
    return value


def read_or_create(path: Path) -> bytes:
    """The pepper, drawn anew where there is none yet.

    Raises:
        PepperError: as :func:`read`, or it cannot be written.
    """
    own = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        if path.exists():
            return read(path)
        descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(LENGTH))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(own, path)
            except FileExistsError:
                pass  # another process was first: its pepper is the one
            else:
                _sync_directory(path.parent)
        finally:
            own.unlink(missing_ok=True)
    except OSError as error:
        raise PepperError(f"{path} cannot be written: {error.strerror}") from error
    return read(path)


def digest(pepper: bytes, secret: str) -> bytes:
    """The keyed hash that is stored for a key (BLAKE2b, RFC 7693)."""
    return hashlib.blake2b(secret.encode("ascii"), key=pepper, digest_size=_DIGEST_SIZE).digest()


def fingerprint(pepper: bytes) -> bytes:
    """Tells whether a store was made with this pepper; reveals nothing about it."""
    return hashlib.blake2b(b"fingerprint", key=pepper, digest_size=16, person=b"isg pepper").digest()


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
