"""Finding the key that a text is the secret of."""

from __future__ import annotations

from ext_authz.api_keys import format as key_format
from ext_authz.api_keys import pepper
from ext_authz.api_keys.index import KeyIndex
from ext_authz.api_keys.record import KeyRecord
from ext_authz.api_keys.store import StoredKey

PEPPER = b"p" * 32


def stored(key_id: str, secret: key_format.Secret, revoked_at: int | None = None) -> StoredKey:
    record = KeyRecord(
        id=key_id,
        tenant="acme",
        name="",
        models=("digits", "language"),
        tier="standard",
        expires_at=None,
        created_at=0,
        created_by="",
        revoked_at=revoked_at,
    )
    return StoredKey(record=record, prefix=secret.prefix, digest=pepper.digest(PEPPER, secret.text))


def same_prefix_as(secret: key_format.Secret) -> key_format.Secret:
    body = f"isg_live_{secret.prefix}{key_format.random_base62(22)}"
    return key_format.Secret(text=f"{body}_{key_format.checksum(body)}", prefix=secret.prefix)


def found(index: KeyIndex, secret: key_format.Secret) -> str | None:
    facts = index.find(secret.text)
    return None if facts is None else facts.id


def test_keys_that_share_a_prefix_are_told_apart() -> None:
    first = key_format.draw()
    second, stranger = same_prefix_as(first), same_prefix_as(first)
    index = KeyIndex()
    index.replace([stored("key_1", first), stored("key_2", second)], PEPPER)
    assert [found(index, secret) for secret in (first, second, stranger)] == ["key_1", "key_2", None]
    index.update([stored("key_1", first, revoked_at=1)])
    facts = index.find(first.text)
    assert facts is not None
    assert facts.revoked
    assert found(index, second) == "key_2"
    index.remove("key_1")
    index.remove("key_1")
    assert [found(index, secret) for secret in (first, second)] == [None, "key_2"]
    assert len(index) == 1


def test_a_digest_made_with_another_pepper_is_not_found() -> None:
    secret = key_format.draw()
    index = KeyIndex()
    index.replace([stored("key_1", secret)], b"q" * 32)
    assert found(index, secret) is None


def test_an_index_that_has_read_nothing_finds_nothing() -> None:
    index = KeyIndex()
    assert not index.loaded
    assert found(index, key_format.draw()) is None


def test_models_are_carried_as_envoy_compares_them() -> None:
    secret = key_format.draw()
    index = KeyIndex()
    index.replace([stored("key_1", secret)], PEPPER)
    facts = index.find(secret.text)
    assert facts is not None
    assert facts.models == ",digits,language,"
