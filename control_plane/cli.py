"""The command ``isg``, and the composition root: the only module that knows all the services.

Each command imports what it needs when it runs: ``isg keys`` must not wait for gRPC or pydantic.
Exit codes: 0 fine, 1 the answer is no, 2 wrong use.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

from gateway.command_line import Places, places_options
from gateway.state import StateDir

DISTRIBUTION: Final = "inference-serving-gateway"
#: Groups of commands that a service contributes: where each is found when it is asked for.
CONTRIBUTED: Final = {"keys": ("ext_authz.commands", "Make, list and revoke API keys.")}

#: Failures that are the operator's to mend: shown without a traceback.
EXPECTED: Final = (
    ("control_plane.config", "ConfigErrors"),
    ("control_plane.live_config", "ForeignConfigError"),
    ("control_plane.processes", "ProcessesError"),
    ("control_plane.up.errors", "CannotStartError"),
    ("ext_authz.api_keys.errors", "KeyStoreError"),
)


class _LazyGroup(click.Group):
    """A group whose contributed commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *CONTRIBUTED})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in CONTRIBUTED:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(CONTRIBUTED[cmd_name][0])
        command = getattr(module, cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module.__name__}.{cmd_name} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [
            (name, CONTRIBUTED[name][1] if name in CONTRIBUTED else self.commands[name].get_short_help_str(80))
            for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name=DISTRIBUTION, prog_name="isg", message="%(prog)s %(version)s")
def main() -> None:
    """One door in front of a team's model servers.

    \b
    Example:
      isg up -c examples/quickstart/gateway.yaml
    """


@main.command()
@places_options
@click.option("--watch/--no-watch", default=True, show_default=True, help="Make saved files live.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 64),
    envvar="ISG_ENVOY_CONCURRENCY",
    default=lambda: 1 if (os.cpu_count() or 1) < 4 else 2,
    show_default="2, or 1 on less than four cores",
    help="Envoy's worker threads.",
)
def up(places: Places, watch: bool, concurrency: int) -> None:
    """Run all of it on this machine: Envoy, the three services, local model servers.

    Prints `ready http://HOST:PORT` when the first request would succeed, and stops on SIGTERM or Ctrl-C without
    losing an accepted request.

    \b
    Example:
      isg up -c examples/quickstart/gateway.yaml
    """
    with _said_plainly():
        from control_plane.up.supervisor import Options, run

        run(
            Options(
                config=places.config,
                state=places.state,
                watch=watch,
                concurrency=concurrency,
                demo_key=_demo_key,
            )
        )


@main.command()
@places_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(places: Places, as_json: bool) -> None:
    """Is the configuration right? Changes nothing, and needs no running gateway.

    \b
    Example:
      isg check -c gateway.yaml
    """
    with _said_plainly():
        from control_plane.commands.check import run

        sys.exit(run(places, as_json=as_json))


@main.command()
@places_options
@click.option("--resources", is_flag=True, help="Also a unified diff of every Envoy resource and policy, as YAML.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(places: Places, resources: bool, as_json: bool) -> None:
    """What would a save of the files change on the running gateway? Changes nothing.

    \b
    Example:
      isg plan -c gateway.yaml --resources
    """
    with _said_plainly():
        from control_plane.commands.plan import run

        sys.exit(run(places, resources=resources, as_json=as_json))


@main.command()
@places_options
@click.argument("method")
@click.argument("path")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header; again for more.")
@click.option("-d", "--data", metavar="BODY|@FILE", help="The body; JSON unless a header says otherwise.")
@click.option("--key-id", metavar="ID", help="Whose request it is: as if it carried the secret of this key.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(
    places: Places,
    method: str,
    path: str,
    headers: tuple[str, ...],
    data: str | None,
    key_id: str | None,
    as_json: bool,
) -> None:
    """What would become of one request, and why? Sends nothing, and needs no running gateway.

    Exit code 0 if it would be served, 1 if it would be refused.

    \b
    Example:
      isg explain POST /v1/predict -d '{"text": "hello"}' --key-id key_AgrjM1D7FeXPUUN5
    """
    with _said_plainly():
        from control_plane.commands.explain import Asked, run
        from control_plane.explain.services import Services
        from ext_authz.explain import Authorization, NoSuchKeyError
        from ext_proc.explain import judge

        try:
            services = Services(authorize=Authorization(places.state, key_id=key_id), judge=judge)
        except NoSuchKeyError as error:
            raise click.BadParameter(str(error), param_hint="--key-id") from error
        asked = Asked(method=method, path=path, headers=headers, data=data, key_id=key_id)
        sys.exit(run(places, asked, services, as_json=as_json))


@main.command()
@places_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(places: Places, as_json: bool) -> None:
    """What runs, which versions it has acknowledged or refused, and how busy the endpoints are.

    \b
    Example:
      isg status -c gateway.yaml
    """
    with _said_plainly():
        from control_plane.commands.status import run

        sys.exit(run(places, as_json=as_json))


@main.command("control-plane")
@places_options
@click.option("--watch/--no-watch", default=True, show_default=True, help="Make saved files live.")
def control_plane(places: Places, watch: bool) -> None:
    """Run the control plane alone (containers do).

    \b
    Example:
      isg control-plane -c gateway.yaml --state /run/isg
    """
    with _said_plainly():
        from control_plane.app import run

        run(places, watch=watch)


@main.command("ext-authz")
@places_options
def ext_authz(places: Places) -> None:
    """Run the authorization service alone (containers do).

    \b
    Example:
      isg ext-authz --state /run/isg
    """
    with _said_plainly():
        from ext_authz.app import run

        run(places.state)


@main.command("ext-proc")
@places_options
def ext_proc(places: Places) -> None:
    """Run the payload service alone (containers do).

    \b
    Example:
      isg ext-proc --state /run/isg
    """
    with _said_plainly():
        from ext_proc.app import run

        run(places.state)


def _demo_key(state: StateDir) -> str | None:
    """The secret of a first key, or None where there are keys."""
    from ext_authz.api_keys.lifecycle import create_key, list_keys

    if list_keys(state):
        return None
    return create_key(state, tenant="demo", models=("*",), name="made by isg up", env="demo").secret


@contextmanager
def _said_plainly() -> Iterator[None]:
    """Expected failures as lines on standard error and exit code 1, without a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(1)
    except Exception as error:
        if not _is_expected(error):
            raise
        click.echo(str(error), err=True)
        sys.exit(1)


def _is_expected(error: Exception) -> bool:
    """Whether the error is the operator's to mend; looked up by module, since none of them may be imported yet."""
    kinds = [getattr(sys.modules[module], name) for module, name in EXPECTED if module in sys.modules]
    return isinstance(error, (OSError, *kinds))


if __name__ == "__main__":
    main(prog_name="isg")
