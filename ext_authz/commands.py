"""``isg keys``: create, list and revoke API keys, beside a running gateway or before its first start."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from ext_authz.api_keys.errors import InvalidKeyError, KeyStoreError
from ext_authz.api_keys.lifecycle import CreatedKey, create_key, list_keys, revoke_key
from ext_authz.api_keys.record import DEFAULT_TIER, KeyRecord
from ext_authz.expiry import iso, parse_expiry
from gateway.command_line import Places, places_options

__all__ = ["CreatedKey", "InvalidKeyError", "KeyStoreError", "create_key", "keys", "list_keys", "revoke_key"]

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def keys() -> None:
    """API keys: who may call, and which models.

    Changes count within a second in every running part of the gateway.
    """


@keys.command()
@click.option("--tenant", required=True, help="Who is accountable for what the key does.")
@click.option("--models", required=True, help="Models that it may use, separated by commas, or * for all.")
@click.option("--name", default="", help="What you call it.")
@click.option("--tier", default=DEFAULT_TIER, show_default=True, help="Which limits hold.")
@click.option("--expires", help="When it ends: 12h, 30d, 8w, or a date in UTC.  [default: never]")
@click.option("--env", default="live", show_default=True, help="The word after isg_ (a-z).")
@_json_option
@places_options
def create(
    *, places: Places, tenant: str, models: str, name: str, tier: str, expires: str | None, env: str, as_json: bool
) -> None:
    """Create a key and print its secret, this once.

    \b
    Example:
      isg keys create --tenant acme --models digits,language --expires 90d
    """
    with _plain_errors():
        made = create_key(
            places.state,
            tenant=tenant,
            models=[model.strip() for model in models.split(",")],
            name=name,
            tier=tier,
            env=env,
            expires_at=None if expires is None else parse_expiry(expires, time.time()),
        )
    if as_json:
        click.echo(json.dumps(_created(made)))
        return
    until = f"until {iso(made.expires_at)}" if made.expires_at is not None else "without an end"
    click.echo(f"{made.id}, tenant {made.tenant}, models {','.join(made.models)}, {until}", err=True)
    click.echo("The secret is shown this once; store it now:", err=True)
    click.echo(made.secret)


@keys.command(name="list")
@_json_option
@places_options
def list_command(*, places: Places, as_json: bool) -> None:
    """List all keys, the revoked and expired ones too. Never their secrets.

    \b
    Example:
      isg keys list --json
    """
    with _plain_errors():
        found = list_keys(places.state)
    now = time.time()
    if as_json:
        click.echo(json.dumps([_listed(record, now) for record in found]))
        return
    header = ("ID", "STATUS", "TENANT", "TIER", "MODELS", "EXPIRES", "LAST USED", "NAME")
    rows = [_row(record, now) for record in found]
    if sys.stdout.isatty():
        _print_table(header, rows)
    else:
        for row in (header, *rows):
            click.echo("\t".join(row))


@keys.command()
@click.argument("key_id", metavar="ID")
@_json_option
@places_options
def revoke(*, places: Places, key_id: str, as_json: bool) -> None:
    """Revoke a key for ever, by its id.

    \b
    Example:
      isg keys revoke key_4fVq2aZr8Lw0XyTb
    """
    with _plain_errors():
        revoked = revoke_key(places.state, key_id)
    if revoked is None:
        # Not echoed: people paste secrets here.
        raise click.ClickException("there is no key with this id (it begins with key_; see isg keys list)")
    if as_json:
        click.echo(json.dumps(_listed(revoked, time.time())))
    else:
        click.echo(f"{revoked.id} is revoked since {iso(revoked.revoked_at)}")


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Wrong use exits 2, a store that cannot be used exits 1, both with one sentence."""
    try:
        yield
    except InvalidKeyError as error:
        raise click.BadParameter(str(error), param_hint=f"--{error.field}") from error
    except KeyStoreError as error:
        raise click.ClickException(str(error)) from error


def _created(key: CreatedKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "secret": key.secret,
        "tenant": key.tenant,
        "name": key.name,
        "models": list(key.models),
        "tier": key.tier,
        "created_at": iso(key.created_at),
        "expires_at": iso(key.expires_at),
    }


def _listed(record: KeyRecord, now: float) -> dict[str, Any]:
    return {
        "id": record.id,
        "status": record.status(now),
        "tenant": record.tenant,
        "name": record.name,
        "models": list(record.models),
        "tier": record.tier,
        "created_at": iso(record.created_at),
        "created_by": record.created_by,
        "expires_at": iso(record.expires_at),
        "last_used_at": iso(record.last_used_at),
        "revoked_at": iso(record.revoked_at),
    }


def _row(record: KeyRecord, now: float) -> tuple[str, ...]:
    return (
        record.id,
        record.status(now),
        record.tenant,
        record.tier,
        ",".join(record.models),
        iso(record.expires_at) or "never",
        iso(record.last_used_at) or "never",
        record.name,
    )


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        faded = row is not header and row[1] != "active"
        click.echo(click.style(line, bold=row is header, dim=faded))
