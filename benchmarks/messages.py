"""What Envoy's messages cost with upb classes (`gateway.messages`) and with envoy-data-plane's own (betterproto2).

python -m benchmarks.messages [--output build/messages.json]
"""

from __future__ import annotations

import importlib
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gateway.envoy_api import cluster_v3, core_v3, discovery_v3, ext_proc_v3

CLUSTERS = 1000
_MEASURE_S = 0.5
_SAMPLES = 5

_IMPORT = """
import os, time
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before, started = resident(), time.perf_counter()
{statement}
print(time.perf_counter() - started, resident() - before)
"""
#: Until the first ProcessingRequest can be parsed.
_IMPORTS = {
    "upb": "from gateway.envoy_api import ext_proc_v3; ext_proc_v3.ProcessingRequest",
    "betterproto2": "from envoy_data_plane.envoy.service.ext_proc.v3 import ProcessingRequest",
}


def processing_request() -> ext_proc_v3.ProcessingRequest:
    """One as Envoy sends it to our payload service: a 300-byte body, metadata and attributes."""
    request = ext_proc_v3.ProcessingRequest()
    request.request_body.body = b'{"text": "' + b"x" * 288 + b'"}'
    request.request_body.end_of_stream = True
    attributes = request.attributes["envoy.filters.http.ext_proc"].fields
    attributes["request.path"].string_value = "/v1/predict"
    attributes["xds.route_name"].string_value = "model/language/0123456789abcdef"
    attributes["request.id"].string_value = "9c2a6e5e-3f3b-4d51-9a39-1c5b3b5b6f57"
    metadata = request.metadata_context.filter_metadata
    metadata["isg"].update({"model": "language"})
    metadata["envoy.filters.http.ext_authz"].update({"x-isg-tenant": "acme", "x-isg-models": ",language,digits,"})
    return request


def clusters() -> discovery_v3.DeltaDiscoveryResponse:
    """A response with as many clusters as a large gateway has."""
    response = discovery_v3.DeltaDiscoveryResponse(system_version_info="1", nonce="1")
    for number in range(CLUSTERS):
        cluster = cluster_v3.Cluster(name=f"backend/{number}", type=cluster_v3.Cluster.EDS)
        cluster.connect_timeout.FromMilliseconds(1000)
        source = core_v3.ConfigSource(ads=core_v3.AggregatedConfigSource(), resource_api_version="V3")
        cluster.eds_cluster_config.eds_config.CopyFrom(source)
        check = cluster.health_checks.add()
        check.timeout.FromMilliseconds(500)
        check.interval.FromMilliseconds(2000)
        check.http_health_check.path = "/v2/health/ready"
        cluster.circuit_breakers.thresholds.add().max_requests.value = 1024
        cluster.outlier_detection.consecutive_5xx.value = 3
        response.resources.add(name=cluster.name, version="1").resource.Pack(cluster)
    return response


def theirs(module: str, name: str) -> Any:  # noqa: ANN401 - betterproto2's classes are loaded by name
    """A class of envoy-data-plane."""
    with warnings.catch_warnings(action="ignore"):
        return getattr(importlib.import_module(f"envoy_data_plane.{module}"), name)


def seconds(operation: Callable[[], object]) -> float:
    """Median time of one call."""
    operation()
    samples = []
    for _ in range(_SAMPLES):
        calls, started = 0, time.perf_counter()
        while (passed := time.perf_counter() - started) < _MEASURE_S / _SAMPLES or calls == 0:
            operation()
            calls += 1
        samples.append(passed / calls)
    return statistics.median(samples)


def codec_figures() -> dict[str, dict[str, float]]:
    """Seconds per operation, by operation and codec."""
    request = processing_request()
    request_bytes = request.SerializeToString()
    their_request = theirs("envoy.service.ext_proc.v3", "ProcessingRequest")
    their_cluster = theirs("envoy.config.cluster.v3", "Cluster")
    response = clusters()
    bodies = [resource.resource.value for resource in response.resources]
    ours = [cluster_v3.Cluster.FromString(body) for body in bodies]
    parsed_request, parsed = their_request.parse(request_bytes), [their_cluster.parse(body) for body in bodies]
    assert type(request).FromString(bytes(parsed_request)) == request
    operations: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "parse ProcessingRequest": (
            lambda: type(request).FromString(request_bytes),
            lambda: their_request.parse(request_bytes),
        ),
        "serialize ProcessingRequest": (request.SerializeToString, lambda: bytes(parsed_request)),
        f"parse {CLUSTERS} clusters": (
            lambda: [cluster_v3.Cluster.FromString(body) for body in bodies],
            lambda: [their_cluster.parse(body) for body in bodies],
        ),
        f"serialize {CLUSTERS} clusters": (
            lambda: [cluster.SerializeToString(deterministic=True) for cluster in ours],
            lambda: [bytes(cluster) for cluster in parsed],
        ),
    }
    return {name: {"upb": seconds(fast), "betterproto2": seconds(slow)} for name, (fast, slow) in operations.items()}


def import_figures() -> dict[str, dict[str, float]]:
    """Seconds and MiB until a fresh process has its first message class, by codec."""
    found: dict[str, dict[str, float]] = {"import": {}, "import, MiB": {}}
    for codec, statement in _IMPORTS.items():
        runs = []
        for _ in range(3):
            command = [sys.executable, "-W", "ignore", "-c", _IMPORT.format(statement=statement)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs.append(tuple(map(float, done.stdout.split())))
        found["import"][codec] = statistics.median(run[0] for run in runs)
        found["import, MiB"][codec] = statistics.median(run[1] for run in runs) / 2**20
    return found


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/messages.json"), show_default=True)
def main(output: Path) -> None:
    """Compare the two codecs on this machine."""
    figures = {**codec_figures(), **import_figures()}
    click.echo(f"{'':32} {'upb':>12} {'betterproto2':>14} {'ratio':>8}")
    for name, by_codec in figures.items():
        upb, slow = by_codec["upb"], by_codec["betterproto2"]
        by_codec["ratio"] = slow / upb
        unit, factor = ("MiB", 1.0) if "MiB" in name else ("us", 1e6) if slow < 0.01 else ("ms", 1e3)
        click.echo(f"{name:32} {upb * factor:9.1f} {unit:2} {slow * factor:11.1f} {unit:2} {slow / upb:8.0f}")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
