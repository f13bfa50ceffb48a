"""Which files have changed: the operator's, and the supervisor's list of local endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, suppress
from enum import Enum, auto
from pathlib import Path
from typing import Final

import structlog
from watchfiles import awatch

log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: A save is several events (truncate, write, rename): those within this time are one.
_DEBOUNCE_MS: Final = 60
_STEP_MS: Final = 20
#: File systems that tell of nothing (network mounts) are looked at this often.
_LOOK_ANYWAY_MS: Final = 1000

Fingerprint = Mapping[Path, tuple[int, ...]]


class Changed(Enum):
    """What changed."""

    FILES = auto()
    ENDPOINTS = auto()


def fingerprint(sources: frozenset[Path]) -> Fingerprint:
    """What the file system says of the sources and of every YAML file beside one of them (not of missing files)."""
    found: dict[Path, tuple[int, ...]] = {}
    for path in {*sources, *_beside(sources)}:
        try:
            status = path.stat()
        except OSError:
            continue
        # the time of the last change of status, too: a file becomes readable without being written
        found[path] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


def _beside(sources: frozenset[Path]) -> Iterator[Path]:
    for folder in folders(sources):
        # it may go, or be locked, at any moment
        with suppress(OSError):
            yield from [path for path in folder.iterdir() if path.suffix == ".yaml"]


def folders(sources: frozenset[Path]) -> frozenset[Path]:
    """The folders that sources lie in; a source may itself be a folder."""
    return frozenset(path if _is_folder(path) else path.parent for path in sources)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # in a folder that may not be entered
        return False


async def changes(
    sources: Callable[[], frozenset[Path]], endpoints: Path, *, watch_files: bool
) -> AsyncIterator[Changed]:
    """Yield whenever there is something new; what happens while the caller works is yielded afterwards.

    Args:
        sources: the files to look at, asked again after every yield: a save may name new ones.
        endpoints: the supervisor's list.
        watch_files: whether the operator's files are looked at.
    """
    # Nothing has been compared yet: the first round yields, for what was saved between the caller's look and now.
    seen: Fingerprint | None = None
    seen_endpoints: tuple[int, ...] | None = None
    polling = False
    while True:
        watched = folders(sources()) if watch_files else frozenset[Path]()
        present = [folder for folder in {*watched, endpoints.parent} if _is_folder(folder)]
        events = awatch(
            *present,
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            rust_timeout=_LOOK_ANYWAY_MS,
            recursive=False,
            yield_on_timeout=True,
            force_polling=polling or None,
            poll_delay_ms=_LOOK_ANYWAY_MS // 2,
        )
        async with aclosing(_beats(events)) as beats:
            async for beat in beats:
                if not beat:
                    polling = True
                now_endpoints = fingerprint(frozenset({endpoints})).get(endpoints)
                if now_endpoints != seen_endpoints:
                    seen_endpoints = now_endpoints
                    yield Changed.ENDPOINTS
                if not watch_files:
                    continue
                now = fingerprint(sources())
                if now != seen:
                    seen = now
                    yield Changed.FILES
                if folders(sources()) != watched:
                    break


async def _beats(events: AsyncGenerator[object, None]) -> AsyncGenerator[bool, None]:
    """True whenever it is time to look; False once, and the end, where the kernel cannot tell of changes."""
    async with aclosing(events):
        try:
            async for _ in events:
                yield True
        except OSError as error:  # no inotify left, or a folder that went meanwhile
            log.warning("watching_by_looking", reason=str(error), meaning="a save is live a second later")
            await asyncio.sleep(_STEP_MS / 1000)
            yield False
