"""Keeps the index current with the store, and tells the store which keys are used.

The store is looked at five times a second, so that a new or revoked key counts within a second in every process. When
it cannot be read (locked, damaged, deleted), the last good keys stay in force, and logs and metrics say so. A file put
in its place is read from the beginning. Nothing here runs on the event loop but the change of the index itself.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import structlog

from ext_authz.api_keys.errors import KeyStoreError
from ext_authz.api_keys.index import KeyIndex
from ext_authz.api_keys.store import USE_RESOLUTION_S, Changes, KeyStore, Position
from gateway.state import StateDir

POLL_INTERVAL_S: Final = 0.2
#: A look that takes longer than this counts as a store that cannot be read.
STALE_AFTER_S: Final = 2.0
#: The watching connection does not wait long for locks: the next look comes soon.
_LOCK_WAIT_S: Final = 0.5
_USES_PER_TRANSACTION: Final = 5000


@dataclass(frozen=True, slots=True)
class _Update:
    changes: Changes
    pepper: bytes = field(repr=False)


class StoreReader:
    """Reads what changed; runs in one thread. Reopens the store when its file is another one, or after an error."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._store: KeyStore | None = None
        self._position: Position | None = None
        self._identity: tuple[int, ...] = ()
        self._version = -1

    def read(self) -> _Update | None:
        """The changes since the last call, or None.

        Raises:
            KeyStoreError: the store cannot be read; the next call tries anew.
        """
        try:
            store = self._current()
            version = store.version()
            if version == self._version:
                return None
            changes = store.changes(self._position)
        except KeyStoreError:
            self.close()
            raise
        self._version, self._position = version, changes.position
        return _Update(changes, store.pepper)

    def close(self) -> None:
        """Close the file."""
        store, self._store, self._version, self._identity = self._store, None, -1, ()
        if store is not None:
            store.close()

    def _current(self) -> KeyStore:
        # Only a store that was never there is made; one that vanishes under way is a fault, not an empty store.
        missing_is_new = self._position is None
        identity = self._look()
        if self._store is None or identity != self._identity:
            self.close()
            self._store = KeyStore.open(self._state, create=missing_is_new, wait_s=_LOCK_WAIT_S)
            # The look from before: a file that was put here in between differs from it, and is opened next time.
            self._identity = identity
        return self._store

    def _look(self) -> tuple[int, ...]:
        try:
            found = self._state.key_store.stat()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise KeyStoreError(f"{self._state.key_store} cannot be used: {error.strerror}") from error
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class KeyFeed:
    """Ties an index to a store; ``await run()`` until cancelled.

    Attributes:
        used: key id → Unix seconds of its last use; requests write it, the feed takes it to the store.
    """

    def __init__(
        self,
        *,
        state: StateDir,
        index: KeyIndex,
        on_error: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        use_interval_s: float = USE_RESOLUTION_S,
    ) -> None:
        self.used: dict[str, int] = {}
        self._state, self._index, self._on_error, self._clock = state, index, on_error, clock
        self._use_interval_s = use_interval_s
        self._reader = StoreReader(state)
        self._fault: str | None = "not read yet"
        self._read_at = float("-inf")
        self._log = structlog.get_logger()

    @property
    def up(self) -> bool:
        """Whether the store was read successfully just now."""
        return self._fault is None and self._clock() - self._read_at < STALE_AFTER_S

    async def run(self) -> None:
        """Follow the store for ever; at the end, hand over the uses that are not stored yet."""
        # One thread for looking, one for writing: a writer that waits for a lock must not delay a revocation.
        with (
            ThreadPoolExecutor(1, thread_name_prefix="keys-read") as reading,
            ThreadPoolExecutor(1, thread_name_prefix="keys-use") as writing,
        ):
            uses = asyncio.create_task(self._store_uses(writing))
            try:
                while True:
                    await self._look(reading)
                    if uses.done():
                        uses.result()
                    await asyncio.sleep(POLL_INTERVAL_S)
            finally:
                uses.cancel()
                await asyncio.wait([uses])
                await self._flush(writing)
                await asyncio.get_running_loop().run_in_executor(reading, self._reader.close)

    async def _look(self, executor: ThreadPoolExecutor) -> None:
        try:
            update = await asyncio.get_running_loop().run_in_executor(executor, self._reader.read)
        except KeyStoreError as error:
            self._failed(str(error))
            return
        self._read_at = self._clock()
        if update is not None and update.changes.complete:
            self._index.replace(update.changes.keys, update.pepper)
            # 100,000 keys would make every full garbage collection a pause; they hold no cycles.
            gc.freeze()
        elif update is not None:
            self._index.update(update.changes.keys)
        for key_id in update.changes.damaged if update is not None else ():
            self._index.remove(key_id)
            self._log.error("a stored key makes no sense: nobody can use it", key_id=key_id)
        if self._fault is not None:
            self._fault = None
            self._log.info("key store is read", keys=len(self._index))

    def _failed(self, reason: str) -> None:
        if self._fault != reason:
            self._log.error("key store cannot be read: the last good keys stay in force", reason=reason)
        self._fault = reason
        self._on_error()

    async def _store_uses(self, executor: ThreadPoolExecutor) -> None:
        while True:
            await asyncio.sleep(self._use_interval_s)
            await self._flush(executor)

    async def _flush(self, executor: ThreadPoolExecutor) -> None:
        if not self.used:
            return
        used, self.used = self.used, {}
        try:
            await asyncio.get_running_loop().run_in_executor(executor, self._write, used)
        except KeyStoreError as error:
            # Only the record of last use suffers; the next use of the key brings it back.
            self._log.warning("last use of keys was not stored", reason=str(error), keys=len(used))

    def _write(self, used: dict[str, int]) -> None:
        entries = list(used.items())
        with KeyStore.open(self._state, create=False) as store:
            for start in range(0, len(entries), _USES_PER_TRANSACTION):
                store.note_use(dict(entries[start : start + _USES_PER_TRANSACTION]))
