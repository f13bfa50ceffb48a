"""``isg check``: the report of :mod:`control_plane.check`, printed."""

from __future__ import annotations

import json

import click

from control_plane.check import check
from gateway.command_line import Places


def run(places: Places, *, as_json: bool) -> int:
    """Print what the check found; the exit code."""
    report = check(places)
    if as_json:
        click.echo(json.dumps(report.as_data()))
    else:
        for line in (*report.errors, *report.skipped):
            click.echo(line, err=True)
        if not report.errors:
            click.echo(f"{places.config}: good")
    return 1 if report.errors else 0
