"""The tables of the key store (SQLite, WAL), and how a file becomes one.

Readers follow the store by a change sequence: every insert and update stamps its row with the next number, and every
deletion starts a new epoch, which tells readers to load everything. Triggers do the stamping, so that even a row
changed by hand takes effect. Last use lives in a table of its own: it changes often and concerns no reader.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final

from ext_authz.api_keys.errors import KeyStoreError, PepperError

VERSION: Final = 1
#: Marks the file as ours (``PRAGMA application_id``): "isgk".
APPLICATION_ID: Final = 0x6973676B

_TABLES: Final = (
    """
    CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        prefix TEXT NOT NULL,
        digest BLOB NOT NULL,
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        models TEXT NOT NULL,
        tier TEXT NOT NULL,
        expires_at INTEGER,
        created_at INTEGER NOT NULL,
        created_by TEXT NOT NULL,
        revoked_at INTEGER,
        changed INTEGER NOT NULL DEFAULT 0
    ) STRICT
    """,
    "CREATE INDEX keys_by_change ON keys (changed)",
    "CREATE TABLE key_use (id TEXT PRIMARY KEY, last_used_at INTEGER NOT NULL) STRICT",
    """
    CREATE TABLE store (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        id TEXT NOT NULL,
        pepper BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        sequence INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TRIGGER key_inserted AFTER INSERT ON keys BEGIN
        UPDATE store SET sequence = sequence + 1;
        UPDATE keys SET changed = (SELECT sequence FROM store) WHERE rowid = NEW.rowid;
    END
    """,
    """
    CREATE TRIGGER key_updated
    AFTER UPDATE OF id, prefix, digest, tenant, name, models, tier, expires_at, revoked_at ON keys BEGIN
        UPDATE store SET sequence = sequence + 1, epoch = epoch + (OLD.id <> NEW.id OR OLD.prefix <> NEW.prefix);
        UPDATE keys SET changed = (SELECT sequence FROM store) WHERE rowid = NEW.rowid;
    END
    """,
    """
    CREATE TRIGGER key_deleted AFTER DELETE ON keys BEGIN
        UPDATE store SET sequence = sequence + 1, epoch = epoch + 1;
    END
    """,
)


def prepare(connection: sqlite3.Connection, path: Path, fingerprint: bytes, *, create: bool) -> None:
    """Make sure that the file is a key store of this version and this pepper.

    Raises:
        KeyStoreError: it is something else, of a newer version, or empty while `create` is False.
        PepperError: it was made with another pepper.
        sqlite3.Error: the file cannot be read or written.
    """
    if create:
        _use_wal(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _is_empty(connection):
                _create(connection, fingerprint)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
    _check(connection, path, fingerprint)


def version_of(connection: sqlite3.Connection) -> int:
    """The schema version that the file says it has."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging; SQLite does not wait by itself for others that switch at the same moment."""
    deadline = time.monotonic() + 5
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _is_empty(connection: sqlite3.Connection) -> bool:
    return version_of(connection) == 0 and connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0


def _create(connection: sqlite3.Connection, fingerprint: bytes) -> None:
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute(
        "INSERT INTO store (only, id, pepper, epoch, sequence) VALUES (1, lower(hex(randomblob(16))), ?, 0, 0)",
        (fingerprint,),
    )
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _check(connection: sqlite3.Connection, path: Path, fingerprint: bytes) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise KeyStoreError(f"{path} is not a key store")
    version = version_of(connection)
    if version > VERSION:
        raise KeyStoreError(f"{path} has schema version {version}; this program knows up to {VERSION}: update it")
    if version != VERSION:
        raise KeyStoreError(f"{path} has the unknown schema version {version}")
    found = connection.execute("SELECT pepper FROM store").fetchone()
    if found is None:
        raise KeyStoreError(f"{path} is damaged: it does not say which pepper it was made with")
    if found[0] != fingerprint:
        raise PepperError(f"{path} was made with another pepper: its keys cannot be checked with this one")
