"""All keys in memory, found by prefix: what requests are answered from.

Holds the last good state of the store. It is only ever touched by the event loop's thread.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field

from ext_authz.api_keys import pepper
from ext_authz.api_keys.format import public_prefix
from ext_authz.api_keys.record import KeyRecord
from ext_authz.api_keys.store import StoredKey
from ext_authz.decision import KeyFacts
from gateway.names import models_header


@dataclass(frozen=True, slots=True)
class _Entry:
    facts: KeyFacts
    prefix: str
    digest: bytes = field(repr=False)


class KeyIndex:
    """The keys of one store. `loaded` is False until a store has been read for the first time."""

    def __init__(self) -> None:
        self.loaded = False
        self._pepper = b""
        self._by_prefix: dict[str, tuple[_Entry, ...]] = {}
        self._by_id: dict[str, _Entry] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, secret: str) -> KeyFacts | None:
        """The key that a client's text is the secret of, be it expired or revoked; None for any other text."""
        prefix = public_prefix(secret)
        if prefix is None:
            return None
        digest = pepper.digest(self._pepper, secret)
        found = None
        for entry in self._by_prefix.get(prefix, ()):
            if hmac.compare_digest(entry.digest, digest):
                found = entry.facts
        return found

    def replace(self, keys: Iterable[StoredKey], pepper_value: bytes) -> None:
        """Hold these keys and no others."""
        entries = [_entry(key) for key in keys]
        by_prefix: dict[str, tuple[_Entry, ...]] = {}
        for entry in entries:
            by_prefix[entry.prefix] = (*by_prefix.get(entry.prefix, ()), entry)
        self._by_prefix, self._by_id = by_prefix, {entry.facts.id: entry for entry in entries}
        self._pepper, self.loaded = pepper_value, True

    def update(self, keys: Iterable[StoredKey]) -> None:
        """Add these keys, or put them in the place of those with the same id."""
        for entry in map(_entry, keys):
            self.remove(entry.facts.id)
            self._by_prefix[entry.prefix] = (*self._by_prefix.get(entry.prefix, ()), entry)
            self._by_id[entry.facts.id] = entry

    def remove(self, key_id: str) -> None:
        """Forget a key, if it is there."""
        entry = self._by_id.pop(key_id, None)
        if entry is None:
            return
        rest = tuple(other for other in self._by_prefix[entry.prefix] if other is not entry)
        if rest:
            self._by_prefix[entry.prefix] = rest
        else:
            del self._by_prefix[entry.prefix]


def key_facts(record: KeyRecord) -> KeyFacts:
    """What the decision goes by, from a key as it is stored."""
    return KeyFacts(
        id=record.id,
        tenant=record.tenant,
        tier=record.tier,
        models=models_header(record.models),
        expires_at=record.expires_at,
        revoked=record.revoked_at is not None,
    )


def _entry(key: StoredKey) -> _Entry:
    return _Entry(key_facts(key.record), key.prefix, key.digest)
