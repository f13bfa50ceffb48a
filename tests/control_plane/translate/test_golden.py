"""The translator's reviewable specification: operator's YAML in, Envoy resources and policies out.

``make golden`` writes the outputs anew; read the diff.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from control_plane.config.loader import load
from control_plane.config.model import Address, Config, Endpoint
from control_plane.preflight.envoy import find_envoy, validate
from control_plane.preflight.static import static_bootstrap
from control_plane.translate.snapshot import Translation, translate
from gateway.messages import pool
from gateway.policy import Policy, encode
from gateway.state import StateDir

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
UPDATE = bool(os.environ.get("ISG_UPDATE_GOLDEN"))
STATE = StateDir(Path("/var/lib/isg"))


def local_endpoints(config: Config) -> dict[str, tuple[Endpoint, ...]]:
    """Where the supervisor would have put the replicas."""
    running = sorted(name for name, backend in config.backends.items() if backend.run is not None)
    return {
        name: tuple(Endpoint(address=Address(host="127.0.0.1", port=4100 + 10 * index + replica)) for replica in (0, 1))
        for index, name in enumerate(running)
    }


def translation(case: str) -> Translation:
    config = load(GOLDEN / case / "gateway.yaml")
    return translate(config, STATE, local_endpoints(config))


def rendered(case: str) -> dict[str, str]:
    result = translation(case)
    policies: tuple[Policy, ...] = (result.gateway, *result.models.values())
    outputs: dict[str, Any] = {
        "listeners": [as_data(message) for message in result.listeners],
        "routes": [as_data(message) for message in result.routes],
        "clusters": [as_data(message) for message in result.clusters],
        "endpoints": [as_data(message) for message in result.endpoints],
        "policies": [json.loads(encode(policy)) for policy in policies],
    }
    return {f"{kind}.yaml": yaml.safe_dump(data, sort_keys=True, width=120) for kind, data in outputs.items()}


def as_data(message: Message) -> Any:
    data = MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=pool())
    return msgspec.json.decode(msgspec.json.encode(data))


@pytest.mark.parametrize("case", CASES)
def test_translation_is_what_was_reviewed(case: str) -> None:
    folder = GOLDEN / case / "out"
    outputs = rendered(case)
    if UPDATE:
        folder.mkdir(exist_ok=True)
        for name, text in outputs.items():
            (folder / name).write_text(text)
    on_disk = {path.name: path.read_text() for path in folder.iterdir()}
    assert on_disk.keys() == outputs.keys(), "an output file that no translation writes, or one that is missing"
    for name, text in outputs.items():
        assert text == on_disk[name], f"{case}/{name} changed: review it, then `make golden`"


@pytest.mark.live
@pytest.mark.parametrize("case", CASES)
async def test_the_real_envoy_takes_every_golden_output(case: str) -> None:
    envoy = find_envoy()
    if envoy is None:
        pytest.skip("no envoy binary")
    await validate(static_bootstrap(translation(case)), envoy=envoy)
