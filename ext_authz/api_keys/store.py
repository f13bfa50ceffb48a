"""The key store: one SQLite file that commands write and every ext_authz process follows."""

from __future__ import annotations

import json
import os
import sqlite3
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from ext_authz.api_keys import pepper as pepper_file
from ext_authz.api_keys import schema
from ext_authz.api_keys.errors import KeyStoreError
from ext_authz.api_keys.record import KeyRecord, check_models, check_word
from gateway.state import StateDir

#: Last use is kept to the minute.
USE_RESOLUTION_S: Final = 60

_COLUMNS: Final = "id, tenant, name, models, tier, expires_at, created_at, created_by, revoked_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A key with what it is recognised by."""

    record: KeyRecord
    prefix: str
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a reader has followed a store."""

    store: str
    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What changed since a position.

    Attributes:
        complete: `keys` are all keys, and others are gone.
        damaged: ids of keys whose row makes no sense: nobody may use them.
    """

    position: Position
    complete: bool
    keys: tuple[StoredKey, ...]
    damaged: tuple[str, ...] = ()


class KeyStore:
    """An open key store. Not for use by two threads at once."""

    def __init__(self, connection: sqlite3.Connection, path: Path, pepper: bytes) -> None:
        self._connection, self._path, self.pepper = connection, path, pepper

    @classmethod
    def open(cls, state: StateDir, *, create: bool, wait_s: float = 5.0) -> Self:
        """Open the store of a state directory.

        Args:
            state: where the store and its pepper are.
            create: make what is missing; else a missing file is an error.
            wait_s: how long to wait for other processes' locks.

        Raises:
            KeyStoreError: the file is missing, locked, damaged, of a newer version, or of another pepper.
        """
        path = state.key_store
        with _in_words(path):
            exists = path.exists() and path.stat().st_size > 0
            if not exists and not create:
                raise KeyStoreError(f"{path} is missing" if not path.exists() else f"{path} is empty")
            pepper = pepper_file.read(state.pepper) if exists else pepper_file.read_or_create(state.pepper)
            if create and not path.exists():
                _create_file(path)
            connection = sqlite3.connect(
                f"file:{urllib.parse.quote(str(path.absolute()))}?mode=rw",
                uri=True,
                timeout=wait_s,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                schema.prepare(connection, path, pepper_file.fingerprint(pepper), create=create)
            except BaseException:
                connection.close()
                raise
        return cls(connection, path, pepper)

    def close(self) -> None:
        """Close the file."""
        with _in_words(self._path):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, key: StoredKey) -> None:
        """Store a new key.

        Raises:
            KeyStoreError: it could not be written.
        """
        record = key.record
        with _in_words(self._path), self._transaction("IMMEDIATE"):
            self._connection.execute(
                f"INSERT INTO keys ({_COLUMNS}, prefix, digest) VALUES (?,?,?,?,?,?,?,?,?,?,?)",  # noqa: S608 - constants
                (
                    record.id,
                    record.tenant,
                    record.name,
                    json.dumps(record.models),
                    record.tier,
                    record.expires_at,
                    record.created_at,
                    record.created_by,
                    record.revoked_at,
                    key.prefix,
                    key.digest,
                ),
            )

    def revoke(self, key_id: str, now: int) -> KeyRecord | None:
        """Revoke a key; a revoked one stays as it is. None when there is no such key.

        Raises:
            KeyStoreError: it could not be written.
        """
        with _in_words(self._path), self._transaction("IMMEDIATE"):
            self._connection.execute(
                "UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (now, key_id)
            )
            return next(self._records("WHERE keys.id = ?", (key_id,)), None)

    def records(self) -> list[KeyRecord]:
        """All keys, oldest first.

        Raises:
            KeyStoreError: they cannot be read.
        """
        with _in_words(self._path):
            return list(self._records("ORDER BY created_at, keys.rowid", ()))

    def version(self) -> int:
        """A number that differs as soon as another connection has committed anything (``PRAGMA data_version``).

        Raises:
            KeyStoreError: the file cannot be read.
        """
        with _in_words(self._path):
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def changes(self, since: Position | None) -> Changes:
        """What changed since a position, read as of one moment; everything if it is of another store or epoch.

        Raises:
            KeyStoreError: the file cannot be read.
        """
        with _in_words(self._path), self._transaction("DEFERRED"):
            position = Position(
                **dict(
                    zip(
                        ("store", "epoch", "sequence"),
                        self._connection.execute("SELECT id, epoch, sequence FROM store").fetchone(),
                        strict=True,
                    )
                )
            )
            follows = (
                since is not None
                and (since.store, since.epoch) == (position.store, position.epoch)
                and since.sequence <= position.sequence
            )
            rows = self._connection.execute(
                f"SELECT {_COLUMNS}, prefix, digest FROM keys WHERE changed > ?",  # noqa: S608 - constants
                (since.sequence if since is not None and follows else -1,),
            )
            keys, damaged = [], []
            for row in rows:
                try:
                    keys.append(StoredKey(record=_checked(_record(row[:9])), prefix=row[9], digest=row[10]))
                except (TypeError, ValueError):
                    damaged.append(row[0])
        return Changes(position=position, complete=not follows, keys=tuple(keys), damaged=tuple(damaged))

    def note_use(self, used: Mapping[str, int]) -> None:
        """Remember when keys were last used, unless the store knows of a use within the last minute.

        Raises:
            KeyStoreError: it could not be written.
        """
        with _in_words(self._path), self._transaction("IMMEDIATE"):
            self._connection.executemany(
                "INSERT INTO key_use (id, last_used_at) VALUES (?, ?) ON CONFLICT (id) DO UPDATE"
                " SET last_used_at = excluded.last_used_at"
                " WHERE excluded.last_used_at >= last_used_at + ?",
                [(key_id, used_at, USE_RESOLUTION_S) for key_id, used_at in used.items()],
            )

    def _records(self, clause: str, parameters: tuple[Any, ...]) -> Iterator[KeyRecord]:
        columns = _COLUMNS.replace("id,", "keys.id,", 1)
        rows = self._connection.execute(
            f"SELECT {columns}, last_used_at FROM keys LEFT JOIN key_use USING (id) {clause}",  # noqa: S608 - constants
            parameters,
        )
        return (_record(row[:9], last_used_at=row[9]) for row in rows)

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[None]:
        self._connection.execute(f"BEGIN {kind}")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # SQLite has already rolled back by itself after some errors (full disk, corruption).
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def _create_file(path: Path) -> None:
    """An empty file that only this user can read. Exclusive: closing a file that is there would drop SQLite's locks."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _checked(record: KeyRecord) -> KeyRecord:
    """A record that is fit for headers, whoever wrote the row."""
    check_word("tenant", record.tenant)
    check_word("tier", record.tier)
    check_models(record.models)
    return record


def _record(row: tuple[Any, ...], last_used_at: int | None = None) -> KeyRecord:
    key_id, tenant, name, models, tier, expires_at, created_at, created_by, revoked_at = row
    return KeyRecord(
        id=key_id,
        tenant=tenant,
        name=name,
        models=tuple(json.loads(models)),
        tier=tier,
        expires_at=expires_at,
        created_at=created_at,
        created_by=created_by,
        revoked_at=revoked_at,
        last_used_at=last_used_at,
    )


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Turn what SQLite and the operating system raise into one sentence about the file."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        reason = {
            sqlite3.SQLITE_BUSY: "is locked by another process",
            sqlite3.SQLITE_LOCKED: "is locked by another process",
            sqlite3.SQLITE_NOTADB: "is not a key store, or is damaged",
            sqlite3.SQLITE_CORRUPT: "is damaged",
            sqlite3.SQLITE_READONLY: "cannot be written",
            sqlite3.SQLITE_CANTOPEN: "cannot be opened",
            sqlite3.SQLITE_FULL: "cannot be written: the disk is full",
        }.get((code or 0) & 0xFF, f"cannot be used ({getattr(error, 'sqlite_errorname', type(error).__name__)})")
        raise KeyStoreError(f"{path} {reason}") from error
    except OSError as error:
        raise KeyStoreError(f"{error.filename or path} cannot be used: {error.strerror}") from error
    except (TypeError, ValueError) as error:
        raise KeyStoreError(f"{path} is damaged: a row does not make sense") from error
