"""What a right configuration becomes, and which files it comes from."""

import json
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from control_plane.config import ConfigErrors, load, load_with_sources, sources
from control_plane.config.descriptor_schema import rendered
from control_plane.config.model import Address, Endpoint, Health, Image, Mirror, Run, State, Target, Tensor

ROOT = Path(__file__).parents[3]
QUICKSTART = ROOT / "examples" / "quickstart" / "gateway.yaml"

FULL = """
version: 1
listen: [0.0.0.0:8080, "[::]:8081", ":8082", {address: "localhost:8083"}]
admin: 127.0.0.1:9901
backends: backends
default_model: digits
models:
  digits:
    dialect: predict
    targets: [{backend: digits, weight: 90}, {backend: twin, weight: 10}]
    mirror: {backend: twin, percent: 0.5}
    input:
      schema: schemas/digits.json
      tensors: [{name: x, datatype: FP32, shape: [-1, 64], from: /pixels}]
      image: {from: /image, formats: [png], max_pixels: 1000000}
    output: {labels: labels.txt, top_k: 2}
    max_body: 64KiB
    max_response: 1.5MiB
    timeout: 250ms
    retries: 1
  plain:
    backend: plain
state: {store: sqlite, shared: none, drain: 1m}
"""
TWIN = """
server: kserve
model: digits
endpoints: [10.0.0.11:8000, {address: "triton.internal:8001", weight: 2}, "[2001:db8::1]:80"]
balance: round_robin
max_in_flight: 16
health: {path: /ready, interval: 500ms}
"""
FILES = {
    "backends/twin.yaml": TWIN,
    "schemas/digits.json": '{"type": "object"}',
    "labels.txt": "zero\none\n",
}


def test_every_key_reaches_the_model(folder):
    config = load(folder.write(FULL, FILES))
    assert list(map(str, config.listen)) == ["0.0.0.0:8080", "[::]:8081", "0.0.0.0:8082", "127.0.0.1:8083"]
    assert (config.admin, config.default_model) == (Address(host="127.0.0.1", port=9901), "digits")
    digits = config.models["digits"]
    assert digits.targets == (Target(backend="digits", weight=90), Target(backend="twin", weight=10))
    assert digits.mirror == Mirror(backend="twin", percent=0.5)
    assert digits.input.json_schema == {"type": "object"}
    assert digits.input.tensors == (Tensor(name="x", datatype="FP32", shape=(-1, 64), source="/pixels"),)
    assert digits.input.image == Image(source="/image", formats=("png",), max_pixels=1_000_000)
    assert (digits.output.labels, digits.output.top_k) == (("zero", "one"), 2)
    assert (digits.max_body_bytes, digits.max_response_bytes) == (64 * 1024, 3 * 512 * 1024)
    assert (digits.timeout_s, digits.retries) == (0.25, 1)
    assert config.models["plain"].targets == (Target(backend="plain"),)
    assert config.state == State(drain_s=60)


def test_every_key_of_a_descriptor_reaches_the_model(folder):
    twin = load(folder.write(FULL, FILES)).backends["twin"]
    assert twin.endpoints == (
        Endpoint(address=Address(host="10.0.0.11", port=8000)),
        Endpoint(address=Address(host="triton.internal", port=8001), weight=2),
        Endpoint(address=Address(host="2001:db8::1", port=80)),
    )
    assert (twin.server, twin.model, twin.balance, twin.max_in_flight) == ("kserve", "digits", "round_robin", 16)
    assert twin.health == Health(path="/ready", interval_s=0.5)


def test_the_shortest_configuration_has_careful_defaults(folder):
    config = load(folder.write("models: {digits: {backend: digits}}\n"))
    assert config.listen == (Address(host="127.0.0.1", port=8080),)
    assert config.admin == Address(host="127.0.0.1", port=9900)
    assert config.default_model is None
    assert config.backends["digits"].model == "digits"
    assert config.backends["digits"].health == Health(path="/v2/health/ready")
    assert config.backends["other"].health.path == "/v2/health/ready"
    assert config.backends["plain"].health.path is None


def test_a_schema_may_stand_inside(folder):
    text = "models: {d: {backend: digits, input: {schema: {properties: {a: {const: no, minimum: 1}}}}}}\n"
    schema = load(folder.write(text)).models["d"].input.json_schema
    assert schema == {"properties": {"a": {"const": "no", "minimum": 1}}}


def test_a_local_reference_and_the_word_ref_as_data_are_no_remote_references(folder):
    text = """
models:
  d:
    backend: digits
    input:
      schema: {$ref: '#/$defs/a', $defs: {a: {const: {$ref: 'https://x/y'}}}}
"""
    assert load(folder.write(text)).models["d"].input.json_schema is not None


def test_load_raises_all_errors(folder):
    with pytest.raises(ConfigErrors) as caught:
        load(folder.write("listen: x\nadmin: y\nmodels: {digits: {backend: digits}}\n"))
    assert len(caught.value.errors) == 2
    assert str(caught.value).splitlines() == [str(error) for error in caught.value.errors]


def test_the_sources_are_every_file_that_matters(folder):
    path = folder.write(FULL, FILES)
    names = {str(source.relative_to(folder.root)) for source in sources(path)}
    assert names == {
        "gateway.yaml",
        "backends",
        *(f"backends/{name}.yaml" for name in ("digits", "other", "plain", "twin")),
        "schemas/digits.json",
        "labels.txt",
    }


def test_a_broken_configuration_has_sources_too(folder):
    path = folder.write("models: {digits: {backend: digits, x: 1, output: {labels: nope.txt}}}\nlisten: x\n")
    found = load_with_sources(path)
    assert found.config is None
    assert folder.root / "nope.txt" in found.sources
    assert folder.root / "backends" in found.sources
    assert sources(folder.write("models: [")) == {path}


def test_the_quickstart_loads():
    config = load(QUICKSTART)
    assert config.default_model == "language"
    assert set(config.models) == {"digits", "language"}
    for name, backend in config.backends.items():
        assert backend.run == Run(
            command=("python", "-m", "backends.server", name, "--port", "{port}"), replicas=2, ready_within_s=60
        )


def test_the_schema_for_editors_is_current():
    assert (ROOT / "backends" / "schema.json").read_text() == rendered(), (
        "run: python -m control_plane.config.descriptor_schema > backends/schema.json"
    )


def test_the_schema_for_editors_knows_right_from_wrong():
    validator = jsonschema_rs.Draft202012Validator(json.loads(rendered()))
    right = [TWIN, *(file.read_text() for file in (ROOT / "backends").glob("*.yaml"))]
    assert [text for text in right if not validator.is_valid(yaml.safe_load(text))] == []
    assert not validator.is_valid({"server": "kserve", "endpionts": []})
    assert not validator.is_valid({"server": "kserv"})
    assert not validator.is_valid({"server": "kserve", "health": {"interval": 3}})
