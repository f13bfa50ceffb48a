"""The key store: what it keeps, what it refuses, and several processes at once."""

from __future__ import annotations

import multiprocessing
import sqlite3
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ext_authz.api_keys import pepper, schema
from ext_authz.api_keys.errors import InvalidKeyError, KeyStoreError, PepperError
from ext_authz.api_keys.index import KeyIndex
from ext_authz.api_keys.lifecycle import CreatedKey, create_key, list_keys, revoke_key
from ext_authz.api_keys.store import KeyStore
from gateway.state import StateDir


def make(state: StateDir, **changes: object) -> CreatedKey:
    return create_key(state, **{"tenant": "acme", "models": ["digits"], **changes})  # type: ignore[arg-type]


def by_hand(state: StateDir, statement: str) -> None:
    connection = sqlite3.connect(state.key_store)
    with connection:
        connection.execute(statement)
    connection.close()


def test_a_key_is_kept_with_all_that_was_said_about_it(state: StateDir) -> None:
    made = make(state, name="ci", tier="gold", expires_at=4_000_000_000, created_by="ops", clock=lambda: 1000.9)
    (record,) = list_keys(state)
    assert record.id == made.id
    assert record.id.startswith("key_")
    assert (record.tenant, record.name, record.models, record.tier) == ("acme", "ci", ("digits",), "gold")
    assert (record.expires_at, record.created_at, record.created_by) == (4_000_000_000, 1000, "ops")
    assert (record.revoked_at, record.last_used_at) == (None, None)
    assert record.status(2000) == "active"


def test_the_secret_is_nowhere_in_the_state_directory(state: StateDir) -> None:
    made = make(state)
    random = made.secret.split("_")[2]
    for path in state.root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert made.secret.encode() not in content
            assert random[8:].encode() not in content
    assert random[8:] not in repr(made)
    assert random[8:] not in made.id


def test_store_and_pepper_are_for_this_user_only(state: StateDir) -> None:
    make(state)
    assert {path.stat().st_mode & 0o077 for path in (state.root, state.key_store, state.pepper)} == {0}


def test_revocation_is_for_ever_and_keeps_its_first_moment(state: StateDir) -> None:
    made = make(state)
    first = revoke_key(state, made.id, clock=lambda: 5.0)
    again = revoke_key(state, made.id, clock=lambda: 9.0)
    assert first == again
    assert first is not None
    assert first.revoked_at == 5
    assert first.status(0) == "revoked"


def test_an_unknown_id_is_not_revoked_and_a_missing_store_is_not_made(state: StateDir) -> None:
    assert revoke_key(state, "key_x") is None
    assert list_keys(state) == []
    assert not state.key_store.exists()
    make(state)
    assert revoke_key(state, "key_x") is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tenant": ""}, "tenant"),
        ({"tenant": "Acme"}, "tenant"),
        ({"tenant": "a\n"}, "tenant"),
        ({"tenant": "a" * 65}, "tenant"),
        ({"tenant": "-a"}, "tenant"),
        ({"tier": "a,b"}, "tier"),
        ({"models": []}, "models"),
        ({"models": [""]}, "models"),
        ({"models": ["a,b"]}, "models"),
        ({"models": ["digits", "*"]}, "models"),
        ({"models": ["A"]}, "models"),
        ({"models": [f"model-{number}-{'x' * 50}" for number in range(80)]}, "models"),
        ({"name": "a\x1b[31m"}, "name"),
        ({"name": "a" * 129}, "name"),
        ({"env": "LIVE"}, "env"),
        ({"expires_at": 1}, "expires"),
        ({"expires_at": 10**15}, "expires"),
    ],
)
def test_a_key_outside_the_grammar_is_refused_by_field(state: StateDir, changes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidKeyError) as caught:
        make(state, **changes)
    assert caught.value.field == field
    assert not state.key_store.exists()


def create_and_revoke(root: Path, count: int, barrier: Barrier, results: Queue[list[str]]) -> None:
    state = StateDir(root)
    barrier.wait()
    ids = [make(state).id for _ in range(count)]
    for key_id in ids[::2]:
        assert revoke_key(state, key_id) is not None
    results.put(ids)


def test_processes_that_create_and_revoke_at_once_lose_nothing(state: StateDir) -> None:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(3), context.Queue()
    arguments = (state.root, 12, barrier, results)
    processes = [context.Process(target=create_and_revoke, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    made = [key_id for _ in processes for key_id in results.get(timeout=30)]
    for process in processes:
        process.join(10)
        assert process.exitcode == 0
    records = {record.id: record for record in list_keys(state)}
    assert set(records) == set(made)
    assert sum(record.revoked_at is not None for record in records.values()) == 18


def test_readers_get_what_changed_and_everything_after_a_deletion(state: StateDir) -> None:
    first = make(state)
    with KeyStore.open(state, create=False) as store:
        start = store.changes(None)
        assert start.complete
        assert [key.record.id for key in start.keys] == [first.id]
        assert store.changes(start.position).keys == ()
        second = make(state)
        revoke_key(state, first.id)
        step = store.changes(start.position)
        assert not step.complete
        assert {key.record.id: key.record.status(0) for key in step.keys} == {
            first.id: "revoked",
            second.id: "active",
        }
        by_hand(state, f"DELETE FROM keys WHERE id = '{first.id}'")
        after = store.changes(step.position)
        assert after.complete
        assert [key.record.id for key in after.keys] == [second.id]


def test_a_row_changed_by_hand_is_a_change_and_one_without_sense_is_damaged(state: StateDir) -> None:
    made, other = make(state), make(state)
    with KeyStore.open(state, create=False) as store:
        position = store.changes(None).position
        by_hand(state, f"UPDATE keys SET models = '[\"language\"]' WHERE id = '{made.id}'")
        by_hand(state, f"UPDATE keys SET tenant = 'a' || char(10) || 'x-isg-tier: gold' WHERE id = '{other.id}'")
        step = store.changes(position)
        assert [key.record.models for key in step.keys] == [("language",)]
        assert step.damaged == (other.id,)
        by_hand(state, f"UPDATE keys SET models = 'nonsense' WHERE id = '{made.id}'")
        assert store.changes(step.position).damaged == (made.id,)


def test_last_use_is_kept_to_the_minute(state: StateDir) -> None:
    made = make(state)
    with KeyStore.open(state, create=False) as store:
        position = store.changes(None).position
        for used_at in (1000, 1059, 990):
            store.note_use({made.id: used_at})
            assert store.records()[0].last_used_at == 1000
        store.note_use({made.id: 1060, "key_gone": 5})
        assert store.records()[0].last_used_at == 1060
        assert store.changes(position).keys == ()


def test_a_missing_pepper_is_not_replaced_while_there_are_keys(state: StateDir) -> None:
    make(state)
    state.pepper.unlink()
    for action in (lambda: make(state), lambda: list_keys(state), lambda: KeyStore.open(state, create=True)):
        with pytest.raises(PepperError, match="missing"):
            action()
    assert not state.pepper.exists()


def test_another_pepper_is_refused(state: StateDir) -> None:
    make(state)
    state.pepper.write_bytes(b"x" * pepper.LENGTH)
    with pytest.raises(PepperError, match="another pepper"):
        list_keys(state)


def test_a_newer_schema_is_refused_by_version(state: StateDir) -> None:
    make(state)
    by_hand(state, f"PRAGMA user_version = {schema.VERSION + 1}")
    for create in (True, False):
        with pytest.raises(KeyStoreError, match="schema version 2; this program knows up to 1"):
            KeyStore.open(state, create=create)


@pytest.mark.parametrize(
    "content", [b"not a database at all" * 300, b"\0" * 4096, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_file_that_is_no_store_is_refused_and_left_alone(state: StateDir, content: bytes) -> None:
    pepper.read_or_create(state.pepper)
    state.key_store.write_bytes(content)
    for create in (True, False):
        with pytest.raises(KeyStoreError):
            KeyStore.open(state, create=create)
    assert state.key_store.read_bytes() == content


def test_another_programs_database_is_refused(state: StateDir) -> None:
    pepper.read_or_create(state.pepper)
    by_hand(state, "CREATE TABLE theirs (x)")
    for create in (True, False):
        with pytest.raises(KeyStoreError, match="not a key store"):
            KeyStore.open(state, create=create)


def test_an_empty_file_is_a_store_only_for_who_creates(state: StateDir) -> None:
    state.key_store.touch()
    with pytest.raises(KeyStoreError, match="empty"):
        KeyStore.open(state, create=False)
    make(state)
    assert len(list_keys(state)) == 1


def test_a_locked_store_is_one_sentence(state: StateDir) -> None:
    make(state)
    connection = sqlite3.connect(state.key_store, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    with KeyStore.open(state, create=False, wait_s=0.05) as store:
        assert len(store.records()) == 1
        with pytest.raises(KeyStoreError, match="locked by another process"):
            store.revoke("key_x", 0)
    connection.execute("ROLLBACK")
    connection.close()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["create", "revoke", "delete", "look"]), st.integers(0, 5)), max_size=12))
def test_an_index_that_follows_equals_one_that_reads_everything(state: StateDir, steps: list[tuple[str, int]]) -> None:
    make(state)
    made: list[CreatedKey] = []
    followed = KeyIndex()
    with KeyStore.open(state, create=False) as store:
        position = None
        for step, number in [*steps, ("look", 0)]:
            if step == "create":
                made.append(make(state))
            elif step == "look":
                changes = store.changes(position)
                position = changes.position
                if changes.complete:
                    followed.replace(changes.keys, store.pepper)
                else:
                    followed.update(changes.keys)
            elif made:
                target = made[number % len(made)].id
                by_hand(
                    state,
                    f"DELETE FROM keys WHERE id = '{target}'"
                    if step == "delete"
                    else f"UPDATE keys SET revoked_at = 1 WHERE id = '{target}'",
                )
        fresh = KeyIndex()
        fresh.replace(store.changes(None).keys, store.pepper)
    assert len(followed) == len(fresh)
    assert [followed.find(key.secret) for key in made] == [fresh.find(key.secret) for key in made]
