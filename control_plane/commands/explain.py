"""``isg explain``: load and translate the files, follow one request, print every step."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from control_plane.config.loader import load
from control_plane.config.model import Config
from control_plane.explain.arrival import request
from control_plane.explain.chain import explain
from control_plane.explain.report import Report
from control_plane.explain.services import Services
from control_plane.explain.unknown import CannotExplainError
from control_plane.live_config import ForeignConfigError, NoControlPlaneError, fetch
from control_plane.plan.difference import difference
from control_plane.processes import local_endpoints
from control_plane.translate.snapshot import translate
from gateway.command_line import Places
from gateway.state import StateDir

_STANDS_FOR_A_KEY = ("authorization", "Bearer the-secret-of-this-key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The request as the operator gave it.

    Attributes:
        headers: ``name: value`` each.
        data: the body, ``@FILE`` for a file's content; None for none.
        key_id: whose request it is; None goes by the headers.
    """

    method: str
    path: str
    headers: Sequence[str]
    data: str | None
    key_id: str | None


def run(places: Places, asked: Asked, services: Services, *, as_json: bool) -> int:
    """Print the explanation; the exit code: 0 if the request would be served, else 1.

    Raises:
        ConfigErrors: the files are not good.
        ProcessesError: the list of local model servers is damaged.
        click.UsageError: it is no request that can be followed.
    """
    config = load(places.config)
    headers = _headers(asked)
    try:
        exchange = request(asked.method.upper(), asked.path, headers, _body(asked.data))
        translation = translate(config, places.state, local_endpoints(places.state))
        explanation = explain(exchange, translation, services)
    except CannotExplainError as error:
        raise click.UsageError(str(error)) from error
    report = Report(explanation=explanation, notes=_notes(config, places.state))
    if as_json:
        click.echo(json.dumps(report.as_data()))
    else:
        *steps, outcome = report.lines()
        for line in steps:
            click.echo(line)
        click.secho(outcome, fg="green" if report.passes else "red")
    return 0 if report.passes else 1


def _headers(asked: Asked) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for header in asked.headers:
        name, colon, value = header.partition(":")
        if not colon:
            raise click.BadParameter(f"expected `name: value`, found {name!r}", param_hint="-H")
        found.append((name.strip(), value.strip()))
    if asked.key_id is not None:
        if {"authorization", "x-api-key"} & {name.lower() for name, _ in found}:
            raise click.UsageError("give a credential by -H or a key by --key-id, not both")
        found.append(_STANDS_FOR_A_KEY)
    return found


def _body(data: str | None) -> bytes | None:
    if data is None or not data.startswith("@"):
        return None if data is None else data.encode("utf-8", "surrogateescape")
    try:
        return Path(data[1:]).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise click.BadParameter(f"{data[1:]}: {reason}", param_hint="-d") from error


def _notes(config: Config, state: StateDir) -> tuple[str, ...]:
    """Whether what was explained is what runs."""
    try:
        live = asyncio.run(fetch(state))
    except (NoControlPlaneError, ForeignConfigError):
        return ("no gateway runs here: this is what the files say",)
    if live is None or difference(live, config):
        return ("the files differ from what is live: see isg plan",)
    return ()
