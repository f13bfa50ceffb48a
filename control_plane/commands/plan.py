"""``isg plan``: check the files, ask what is live, say what differs."""

from __future__ import annotations

import asyncio
import json

import click

from control_plane.check import check
from control_plane.live_config import NoControlPlaneError, fetch
from control_plane.plan.difference import difference
from control_plane.plan.report import Plan
from control_plane.plan.resources import resource_diffs
from control_plane.processes import local_endpoints
from gateway.command_line import Places


def run(places: Places, *, resources: bool, as_json: bool) -> int:
    """Print the plan; the exit code: 0, or 1 where the files are not good.

    Args:
        resources: with a unified diff per Envoy resource and policy.

    Raises:
        ForeignConfigError: the running control plane is of another version.
        ProcessesError: the list of local model servers is damaged.
    """
    report = check(places)
    if report.errors or report.config is None:
        if as_json:
            click.echo(json.dumps(report.as_data()))
        else:
            for error in report.errors:
                click.echo(error, err=True)
        return 1
    for skipped in report.skipped:
        click.echo(skipped, err=True)
    live, note = None, None
    try:
        live = asyncio.run(fetch(places.state))
        if live is None:
            note = "nothing is live yet: everything is new"
    except NoControlPlaneError:
        note = f"no gateway runs for {places.state.root}: everything is new"
    diffs = None
    if resources:
        diffs = resource_diffs(live, report.config, places.state, local_endpoints(places.state))
    changes = difference(live, report.config)
    found = Plan(live=live is not None, note=note, changes=changes, resources=diffs)
    if as_json:
        click.echo(json.dumps(found.as_data()))
    else:
        for line in found.lines():
            click.echo(_coloured(line))
    return 0


def _coloured(line: str) -> str:
    """Colours by sign; click drops them when the output is piped."""
    colours = {"+": "green", "-": "red", "~": "yellow"}
    return click.style(line, fg=colours[line[0]]) if line[:1] in colours else line
