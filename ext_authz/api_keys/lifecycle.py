"""What people do with keys: create, list, revoke. Works beside a running gateway and before its first start."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ext_authz.api_keys import format as key_format
from ext_authz.api_keys import pepper, record
from ext_authz.api_keys.errors import InvalidKeyError, KeyStoreError
from ext_authz.api_keys.record import KeyRecord
from ext_authz.api_keys.store import KeyStore, StoredKey
from gateway.state import StateDir

Clock = Callable[[], float]

_ID_LENGTH = 16
#: The last second of the year 9999, the last year that dates are written for.
_LATEST = 253_402_300_799


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedKey:
    """A new key with its secret, which nobody can ask for again. Times are Unix seconds."""

    id: str
    secret: str = field(repr=False)
    tenant: str
    name: str
    models: tuple[str, ...]
    tier: str
    created_at: int
    expires_at: int | None


def create_key(
    state: StateDir,
    *,
    tenant: str,
    models: Iterable[str],
    name: str = "",
    env: str = "live",
    tier: str = record.DEFAULT_TIER,
    expires_at: int | None = None,
    created_by: str | None = None,
    clock: Clock = time.time,
) -> CreatedKey:
    """Create a key; running ext_authz processes know it within a second.

    Args:
        state: the gateway's state directory; it is made where it is missing.
        tenant: who is accountable.
        models: public model names, or ``["*"]``.
        name: what people call the key.
        env: the word after ``isg_``.
        tier: which limits hold.
        expires_at: Unix seconds; None means never.
        created_by: who asked for it; the user of this process unless told.
        clock: Unix time.

    Raises:
        InvalidKeyError: a field is outside its grammar, or the expiry is not in the future.
        KeyStoreError: the store cannot be written.
    """
    now = int(clock())
    if not key_format.ENV.match(env):
        raise InvalidKeyError("env", "the environment must be 1 to 16 letters a-z")
    if expires_at is not None and not now < expires_at <= _LATEST:
        raise InvalidKeyError("expires", "the expiry must be in the future, and before the year 10000")
    drawn = key_format.draw(env)
    made = KeyRecord(
        id=f"key_{key_format.random_base62(_ID_LENGTH)}",
        tenant=record.check_word("tenant", tenant),
        name=record.check_name(name),
        models=record.check_models(models),
        tier=record.check_word("tier", tier),
        expires_at=expires_at,
        created_at=now,
        created_by=created_by if created_by is not None else _this_user(),
    )
    try:
        state.prepare()
    except OSError as error:
        raise KeyStoreError(f"{error.filename or state.root} cannot be used: {error.strerror or error}") from error
    with KeyStore.open(state, create=True) as store:
        store.add(StoredKey(record=made, prefix=drawn.prefix, digest=pepper.digest(store.pepper, drawn.text)))
    return CreatedKey(
        id=made.id,
        secret=drawn.text,
        tenant=made.tenant,
        name=made.name,
        models=made.models,
        tier=made.tier,
        created_at=made.created_at,
        expires_at=made.expires_at,
    )


def list_keys(state: StateDir) -> list[KeyRecord]:
    """All keys, oldest first, the revoked ones too; none where there is no store yet.

    Raises:
        KeyStoreError: the store cannot be read.
    """
    if not _has_store(state):
        return []
    with KeyStore.open(state, create=False) as store:
        return store.records()


def revoke_key(state: StateDir, key_id: str, *, clock: Clock = time.time) -> KeyRecord | None:
    """Revoke a key for ever, everywhere within a second; None when there is no such key.

    Raises:
        KeyStoreError: the store cannot be written.
    """
    if not _has_store(state):
        return None
    with KeyStore.open(state, create=False) as store:
        return store.revoke(key_id, int(clock()))


def _has_store(state: StateDir) -> bool:
    try:
        return state.key_store.exists()
    except OSError as error:
        raise KeyStoreError(f"{state.key_store} cannot be used: {error.strerror}") from error


def _this_user() -> str:
    """The login name, or the empty string where the system has none for this user (containers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
