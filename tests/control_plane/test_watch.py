"""What counts as a change of the operator's files, and that none is missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from watchfiles import awatch

from control_plane.watch import Changed, changes, fingerprint, folders


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    (tmp_path / "backends").mkdir()
    path = tmp_path / "gateway.yaml"
    path.write_text("version: 1\n")
    return path


def watch(config: Path, *, files: bool = True) -> AsyncIterator[Changed]:
    sources = frozenset({config, config.parent / "backends"})
    return changes(lambda: sources, config.parent / "state" / "endpoints.json", watch_files=files)


async def following(events: AsyncIterator[Changed]) -> Changed:
    async with asyncio.timeout(5):
        return await anext(events)


async def test_the_first_look_is_a_change_so_that_a_save_during_the_start_is_not_missed(config: Path) -> None:
    async with aclosing(watch(config)) as events:  # type: ignore[type-var] # an async generator
        assert await following(events) is Changed.FILES


async def test_a_save_by_writing_and_one_by_renaming_are_seen(config: Path) -> None:
    async with aclosing(watch(config)) as events:  # type: ignore[type-var] # an async generator
        await following(events)
        config.write_text("version: 1 # written\n")
        assert await following(events) is Changed.FILES
        new = config.with_suffix(".new")
        new.write_text("version: 1 # renamed\n")
        new.replace(config)
        assert await following(events) is Changed.FILES


async def test_a_new_descriptor_is_seen(config: Path) -> None:
    async with aclosing(watch(config)) as events:  # type: ignore[type-var] # an async generator
        await following(events)
        (config.parent / "backends" / "new.yaml").write_text("server: http\n")
        assert await following(events) is Changed.FILES


async def test_endpoints_are_seen_also_when_files_are_not_watched(config: Path) -> None:
    async with aclosing(watch(config, files=False)) as events:  # type: ignore[type-var] # an async generator
        waiting = asyncio.create_task(following(events))
        await asyncio.sleep(0.2)
        config.write_text("version: 1 # not watched\n")
        (config.parent / "state" / "endpoints.json").write_text("{}")
        assert await waiting is Changed.ENDPOINTS


async def test_the_first_look_is_a_change_of_endpoints_too(config: Path) -> None:
    (config.parent / "state" / "endpoints.json").write_text("{}")
    async with aclosing(watch(config)) as events:  # type: ignore[type-var] # an async generator
        assert {await following(events), await following(events)} == {Changed.ENDPOINTS, Changed.FILES}


async def test_a_swapped_link_as_in_a_config_map_is_seen(config: Path) -> None:
    folder = config.parent / "mounted"
    for version in ("1", "2"):
        (folder / version).mkdir(parents=True)
        (folder / version / "gateway.yaml").write_text(f"# {version}\n")
    (folder / "..data").symlink_to("1")
    (folder / "gateway.yaml").symlink_to("..data/gateway.yaml")
    async with aclosing(watch(folder / "gateway.yaml")) as events:  # type: ignore[type-var] # an async generator
        await following(events)
        (folder / "..new").symlink_to("2")
        (folder / "..new").replace(folder / "..data")
        assert await following(events) is Changed.FILES


async def test_where_the_kernel_cannot_tell_the_files_are_looked_at(config: Path, monkeypatch) -> None:
    async def without_inotify(*paths: Path, force_polling: bool | None = None, **settings):
        if not force_polling:
            raise OSError("OS file watch limit reached")
        async for found in awatch(*paths, force_polling=True, **settings):
            yield found

    monkeypatch.setattr("control_plane.watch.awatch", without_inotify)
    async with aclosing(watch(config)) as events:  # type: ignore[type-var] # an async generator
        assert await following(events) is Changed.FILES
        config.write_text("version: 1 # saved\n")
        assert await following(events) is Changed.FILES


async def test_folders_that_go_and_come_back_are_seen(config: Path) -> None:
    backends = config.parent / "backends"
    async with aclosing(watch(config)) as events:  # type: ignore[type-var] # an async generator
        await following(events)
        backends.rename(config.parent / "away")
        assert await following(events) is Changed.FILES
        (config.parent / "away").rename(backends)
        assert await following(events) is Changed.FILES
        (backends / "new.yaml").write_text("server: http\n")
        assert await following(events) is Changed.FILES


def test_a_file_that_becomes_readable_has_changed(config: Path) -> None:
    config.chmod(0)
    before = fingerprint(frozenset({config}))
    config.chmod(0o644)
    assert fingerprint(frozenset({config})) != before


def test_a_fingerprint_is_equal_until_something_changes(config: Path) -> None:
    sources = frozenset({config, config.parent / "backends"})
    before = fingerprint(sources)
    assert fingerprint(sources) == before
    (config.parent / "backends" / "a.yaml").write_text("x")
    assert fingerprint(sources) != before


def test_missing_files_have_no_fingerprint_and_their_folder_is_watched(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    assert fingerprint(frozenset({missing})) == {}
    assert folders(frozenset({missing})) == {tmp_path}
