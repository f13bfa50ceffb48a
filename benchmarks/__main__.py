"""`make bench`: measure everything in one run, print tables of ratios, write JSON.

python -m benchmarks [--rounds 5] [--seconds 4] [--output build/benchmarks.json]
"""

from __future__ import annotations

import asyncio
import json
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks import startup
from benchmarks.gateway import Series, measure, memories, setups
from benchmarks.load import available

#: What the design promises, as (setup, figure, limit): ratios are at least, everything else at most.
PROMISES = (
    ("authorization", "ratio", 0.33),
    ("authorization", "cpu_us", 320.0),
    ("authorization + validation", "ratio", 0.11),
    ("authorization + validation", "cpu_us", 1200.0),
    ("startup", "ready_s", 5.0),
    ("startup", "pss_mib", 200.0),
)


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Repetitions of every measurement; medians are printed.")
@click.option("--seconds", default=4, show_default=True, help="Length of one measurement.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/benchmarks.json"), show_default=True)
def main(rounds: int, seconds: int, output: Path) -> None:
    """Measure the gateway against bare Envoy on this machine."""
    if not available():
        raise click.ClickException("wrk is not installed (Debian: apt-get install wrk)")
    figures = asyncio.run(run(rounds, seconds))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(figures, indent=1) + "\n")
    kept = show_promises(figures)
    click.echo(f"\nwritten to {output}")
    raise SystemExit(0 if kept else 1)


async def run(rounds: int, seconds: int) -> dict[str, Any]:
    """All figures, by setup."""
    click.echo("starting the quickstart ...", err=True)
    begun = await asyncio.to_thread(startup.measure)
    figures: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "startup": {"ready_s": begun.ready_s, "pss_mib": sum(begun.pss_mib.values()), "services": begun.pss_mib},
    }
    click.echo(f"ready after {begun.ready_s:.1f} s, services together {figures['startup']['pss_mib']:.0f} MiB (PSS)\n")
    with tempfile.TemporaryDirectory(prefix="isg-bench-") as folder:
        async with setups(Path(folder)) as (found, stack):
            click.echo(f"measuring {len(found)} setups, {rounds} rounds of {seconds} s ...", err=True)
            series = await measure(found, rounds=rounds, seconds=seconds)
            taken = memories(stack)
    figures["memory"] = {name: asdict(value) for name, value in taken.items()}
    figures |= table(series)
    click.echo("\nprocess            peak MiB   PSS MiB")
    for name, value in taken.items():
        click.echo(f"{name:<16} {value.peak_mib:>10.0f} {value.pss_mib:>9.0f}")
    return figures


def table(series: dict[str, Series]) -> dict[str, Any]:
    """Print the table of ratios; the same as data."""
    first = next(iter(series.values()))
    figures: dict[str, Any] = {}
    click.echo(
        f"{'setup':<28} {'requests/s':>10} {'of bare':>8} {'CPU µs':>7}   "
        f"{'added p50 ms':>12} {'added p99 ms':>12}   CPU µs by process"
    )
    for name, one in series.items():
        added_p50 = one.single_ms(lambda load: load.p50_ms) - first.single_ms(lambda load: load.p50_ms)
        added_p99 = one.single_ms(lambda load: load.p99_ms) - first.single_ms(lambda load: load.p99_ms)
        by_process = {process: one.cpu(process) for process in one.cpu_us}
        figures[name] = {
            "per_second": one.per_second,
            "ratio": one.per_second / first.per_second,
            "cpu_us": one.total_cpu_us,
            "cpu_us_by_process": by_process,
            "added_p50_ms": added_p50,
            "added_p99_ms": added_p99,
            "rounds": [asdict(load) for load in one.busy],
        }
        shares = ", ".join(f"{process} {value:.0f}" for process, value in by_process.items())
        click.echo(
            f"{name:<28} {one.per_second:>10.0f} {figures[name]['ratio']:>8.2f} {one.total_cpu_us:>7.0f}   "
            f"{added_p50:>12.2f} {added_p99:>12.2f}   {shares}"
        )
    return figures


def show_promises(figures: dict[str, Any]) -> bool:
    """Say of each promise whether this run kept it."""
    click.echo()
    kept = True
    for setup, figure, limit in PROMISES:
        value = figures[setup][figure]
        good = value >= limit if figure == "ratio" else value <= limit
        kept = kept and good
        relation = "at least" if figure == "ratio" else "at most"
        click.echo(f"{'kept  ' if good else 'MISSED'}  {setup}: {figure} {value:.2f}, {relation} {limit:g}")
    return kept


if __name__ == "__main__":
    main()
