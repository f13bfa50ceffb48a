"""``isg status``: the control plane's ``/status``, printed."""

from __future__ import annotations

import asyncio
import json

import click

from control_plane.status import NoStatusError, decoded, rendered
from control_plane.up.probe import HttpError, get
from gateway.command_line import Places


def run(places: Places, *, as_json: bool) -> int:
    """Print the status; the exit code."""
    socket = places.state.admin_socket("control_plane")
    try:
        _, body = asyncio.run(get("http://control-plane/status", socket_path=socket))
        found = decoded(body)
    except (HttpError, NoStatusError):
        click.echo(f"no control plane answers for {places.state.root}: is `isg up` running?", err=True)
        return 1
    click.echo(json.dumps(found) if as_json else rendered(found), nl=as_json)
    return 0 if found["ok"] else 1
