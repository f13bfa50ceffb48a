"""``isg check``: is the configuration right? The same code that serves, without a gateway."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from control_plane.config.loader import load_with_sources
from control_plane.config.model import Config, Endpoint
from control_plane.preflight.candidate import preflight
from control_plane.preflight.envoy import PreflightError, find_envoy
from control_plane.translate.snapshot import translate
from gateway.command_line import Places


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the check found.

    Attributes:
        errors: one line each, with file, line and column where there is one; none is good.
        skipped: what could not be checked here.
    """

    config: Config | None
    errors: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    def as_data(self) -> dict[str, object]:
        """For ``--json``."""
        counted = (
            {} if self.config is None else {"models": len(self.config.models), "backends": len(self.config.backends)}
        )
        return {"ok": not self.errors, "errors": list(self.errors), "skipped": list(self.skipped), **counted}


def check(places: Places) -> Report:
    """Read, translate, lint and, where the binary is at hand, ask the real Envoy."""
    loaded = load_with_sources(places.config)
    if loaded.config is None:
        return Report(config=None, errors=tuple(map(str, loaded.errors)))
    envoy = find_envoy()
    skipped = () if envoy else ("no envoy binary here: Envoy itself was not asked",)
    nowhere: dict[str, tuple[Endpoint, ...]] = {}
    try:
        asyncio.run(preflight(translate(loaded.config, places.state, nowhere), envoy=envoy))
    except PreflightError as error:
        return Report(config=loaded.config, errors=(f"{places.config}: {error}",), skipped=skipped)
    return Report(config=loaded.config, errors=(), skipped=skipped)
