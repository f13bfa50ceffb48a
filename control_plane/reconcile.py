"""From a saved file to a live configuration: load, translate, ask the real Envoy, publish, or change nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from control_plane.config.errors import ConfigErrors
from control_plane.config.loader import load_with_sources
from control_plane.config.model import Config, Endpoint
from control_plane.config.sameness import same
from control_plane.newcomers import Answers, Arrival, NotReadyError, SupersededError, newcomers, ready
from control_plane.preflight.candidate import preflight
from control_plane.preflight.envoy import PreflightError
from control_plane.processes import Process, ProcessesError, wanted_processes
from control_plane.publish import RefusedError
from control_plane.translate.snapshot import Translation, translate
from control_plane.watch import fingerprint
from gateway.state import StateDir

log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: What was refused, in the operator's words.
Refused = ConfigErrors | PreflightError | RefusedError | NotReadyError | ProcessesError | OSError


class Publishes(Protocol):
    """The part of :class:`control_plane.publish.Publisher` that this needs."""

    async def publish(self, translation: Translation) -> tuple[str, ...]:
        """Bring a translation to every node."""
        ...


@dataclass(slots=True)
class ConfigMetrics:
    """How often the configuration was applied or refused."""

    registry: CollectorRegistry
    applied: Counter = field(init=False)
    rejected: Counter = field(init=False)
    valid: Gauge = field(init=False)
    seconds: Gauge = field(init=False)

    def __post_init__(self) -> None:
        self.applied = Counter("isg_config_applied_total", "Configurations made live.", registry=self.registry)
        self.rejected = Counter("isg_config_rejected_total", "Configurations refused.", registry=self.registry)
        self.valid = Gauge("isg_config_valid", "1 if the files as they are now are live.", registry=self.registry)
        self.seconds = Gauge(
            "isg_config_apply_seconds", "Time from reading the last change to everybody's ACK.", registry=self.registry
        )


@dataclass(slots=True)
class Reconciler:
    """Makes the files' content live, one change at a time.

    Attributes:
        local: reads where the replicas of local backends are.
        running: reads which local backends are wanted now, by whatever configuration was live before.
        wanted: told the local backends as soon as a configuration is known to be good: those that it adds start while
            it is published, those that it no longer names go when it is live.
        answers: asks a local model server whether it is ready.
        envoy: path of the binary for preflight; None skips it (and says so at start).
        config: what is live.
        problem: why the files as they are now are not live, None if they are.
    """

    path: Path
    state: StateDir
    publisher: Publishes
    local: Callable[[], Mapping[str, tuple[Endpoint, ...]]]
    running: Callable[[], Mapping[str, Process]]
    wanted: Callable[[Mapping[str, Process]], None]
    metrics: ConfigMetrics
    envoy: str | None
    answers: Answers = ready
    config: Config | None = None
    problem: str | None = "no configuration has been read yet"
    sources: frozenset[Path] = frozenset()

    async def files_changed(self) -> None:
        """Read the files; make them live if they are good, else say why and change nothing."""
        started = time.monotonic()
        loaded = await asyncio.to_thread(load_with_sources, self.path)
        self.sources = loaded.sources
        if loaded.config is None:
            self._reject(ConfigErrors(loaded.errors))
        elif same(loaded.config, self.config):
            self._live(loaded.config)
        else:
            await self._apply(loaded.config, started, changed=True)

    async def endpoints_changed(self) -> None:
        """Local replicas have moved: translate what is live again; what could not be made live gets another chance."""
        waiting = self.problem is not None
        if self.config is not None:
            await self._apply(self.config, time.monotonic(), changed=False)
        if waiting:
            await self.files_changed()

    async def _apply(self, config: Config, started: float, *, changed: bool) -> None:
        try:
            translation = translate(config, self.state, self.local())
            if changed:
                await preflight(translation, envoy=self.envoy)
                silent = await self._replace(config)
            else:
                silent = await self.publisher.publish(translation)
        except SupersededError:
            return
        except (PreflightError, RefusedError, NotReadyError, ProcessesError, OSError) as error:
            self._reject(error)
            return
        if changed:
            self._live(config)
            took_s = time.monotonic() - started
            self.metrics.applied.inc()
            self.metrics.seconds.set(took_s)
            log.info("config_applied", models=len(config.models), backends=len(config.backends), took_ms=took_s * 1e3)
        for node in silent:
            log.warning("node_silent", node=node, meaning="it has not acknowledged the change within its deadline")

    async def _replace(self, config: Config) -> tuple[str, ...]:
        """Publish with the local backends of before and of now; nobody's servers go unless all have agreed."""
        before = self.running() if self.config is None else wanted_processes(self.config)
        after = wanted_processes(config)
        both = {**before, **after}
        if self.config is None or both != self.running():
            self.wanted(both)
        try:
            if self.config is not None and (new := newcomers(self.config, config)):
                await self._arrival_of(new)
            silent = await self.publisher.publish(translate(config, self.state, self.local()))
        except (RefusedError, NotReadyError):
            self.wanted(before)
            raise
        if after != both:
            self.wanted(after)
        return silent

    async def _arrival_of(self, new: Mapping[str, Process]) -> None:
        self.problem = f"waits for the model servers of {', '.join(sorted(new))}"
        self.metrics.valid.set(0)
        log.info("model_servers_awaited", backends=sorted(new))
        seen = fingerprint(self.sources)
        arrival = Arrival(local=self.local, answers=self.answers, clock=time.monotonic)
        await arrival.of(new, lambda: fingerprint(self.sources) != seen)

    def _live(self, config: Config) -> None:
        self.config, self.problem = config, None
        self.metrics.valid.set(1)

    def _reject(self, error: Refused) -> None:
        self.problem = str(error)
        self.metrics.rejected.inc()
        self.metrics.valid.set(0)
        log.error("config_rejected", reason=self.problem, meaning="nothing has changed")
