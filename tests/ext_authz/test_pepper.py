"""The secret file that key hashes are keyed with."""

from __future__ import annotations

import multiprocessing
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from ext_authz.api_keys import pepper
from ext_authz.api_keys.errors import PepperError


def test_it_is_made_once_with_mode_0600(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    first = pepper.read_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(first) == pepper.LENGTH
    assert pepper.read_or_create(path) == pepper.read(path) == first
    assert [found.name for found in tmp_path.iterdir()] == ["pepper"]


def create_at_once(path: Path, barrier: Barrier, results: Queue[bytes]) -> None:
    barrier.wait()
    results.put(pepper.read_or_create(path))


def test_processes_that_start_at_once_agree_on_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(10):
        path = tmp_path / f"pepper{attempt}"
        barrier, results = context.Barrier(4), context.Queue()
        processes = [context.Process(target=create_at_once, args=(path, barrier, results)) for _ in range(4)]
        for process in processes:
            process.start()
        found = {results.get(timeout=10) for _ in processes}
        for process in processes:
            process.join(10)
        assert found == {path.read_bytes()}


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (b"", 0o600, "damaged"),
        (b"x" * 31, 0o600, "damaged"),
        (b"x" * 33, 0o600, "damaged"),
        (b"x" * 32, 0o644, "open to other users"),
        (b"x" * 32, 0o640, "open to other users"),
        (b"x" * 32, 0o602, "open to other users"),
    ],
)
def test_one_that_is_damaged_or_open_to_others_is_refused(
    tmp_path: Path, content: bytes, mode: int, words: str
) -> None:
    path = tmp_path / "pepper"
    path.write_bytes(content)
    path.chmod(mode)
    for read in (pepper.read, pepper.read_or_create):
        with pytest.raises(PepperError, match=words):
            read(path)


def test_a_missing_or_unwritable_one_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PepperError, match="missing"):
        pepper.read(tmp_path / "pepper")
    with pytest.raises(PepperError, match="cannot be written"):
        pepper.read_or_create(tmp_path / "nowhere" / "pepper")
    (tmp_path / "directory").mkdir()
    with pytest.raises(PepperError, match="cannot be read"):
        pepper.read(tmp_path / "directory")


def test_hashes_differ_by_pepper_and_by_secret() -> None:
    first, second = b"1" * 32, b"2" * 32
    digests = {pepper.digest(key, text) for key in (first, second) for text in ("a", "b")}
    assert len(digests) == 4
    assert pepper.fingerprint(first) != pepper.fingerprint(second)
    assert pepper.fingerprint(first) != pepper.digest(first, "fingerprint")[:16]
