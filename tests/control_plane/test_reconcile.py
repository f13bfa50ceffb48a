"""From saved files to what is live, and what stays as it was when something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from control_plane.config.model import Address, Endpoint
from control_plane.processes import Process, ProcessesError
from control_plane.publish import RefusedError
from control_plane.reconcile import ConfigMetrics, Reconciler
from control_plane.translate.snapshot import Translation
from gateway.state import StateDir

GATEWAY = "version: 1\nmodels: {m1: {backend: NAME}}\n"
DESCRIPTOR = "server: kserve\nrun: {command: [serve, '{port}']}\n"


@dataclass(slots=True)
class World:
    """Everything around a reconciler, as a test sets it."""

    folder: Path
    refuses: str | None = None
    damaged: str | None = None
    published: list[Translation] = field(default_factory=list)
    wanted: list[set[str]] = field(default_factory=list)
    processes: Mapping[str, Process] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    ready: set[int] = field(default_factory=set)
    asked: int = 0
    meanwhile: Callable[[], object] = lambda: None

    async def publish(self, translation: Translation) -> tuple[str, ...]:
        if self.refuses is not None:
            raise RefusedError(self.refuses)
        self.published.append(translation)
        return ()

    def want(self, processes: Mapping[str, Process]) -> None:
        self.processes = processes
        self.wanted.append(set(processes))

    def local(self) -> Mapping[str, tuple[Endpoint, ...]]:
        if self.damaged is not None:
            raise ProcessesError(self.damaged)
        return {name: (Endpoint(address=Address(host="127.0.0.1", port=port)),) for name, port in self.ports.items()}

    async def answers(self, process: Process, endpoint: Endpoint) -> bool:
        self.asked += 1
        self.meanwhile()
        return endpoint.address.port in self.ready

    def save(self, text: str) -> None:
        (self.folder / "gateway.yaml").write_text(text)


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "backends").mkdir()
    for name in ("old", "new"):
        (tmp_path / "backends" / f"{name}.yaml").write_text(DESCRIPTOR)
    (tmp_path / "gateway.yaml").write_text(GATEWAY.replace("NAME", "old"))
    return World(tmp_path)


@pytest.fixture
def metrics() -> ConfigMetrics:
    return ConfigMetrics(CollectorRegistry())


@pytest.fixture
def reconciler(world: World, metrics: ConfigMetrics) -> Reconciler:
    return Reconciler(
        path=world.folder / "gateway.yaml",
        state=StateDir(world.folder / "state"),
        publisher=world,
        local=world.local,
        running=lambda: world.processes,
        wanted=world.want,
        answers=world.answers,
        metrics=metrics,
        envoy=None,
    )


async def test_local_servers_are_asked_for_before_the_change_is_published(reconciler: Reconciler, world: World) -> None:
    await reconciler.files_changed()
    assert world.wanted == [{"new", "old"}]
    assert reconciler.problem is None
    assert len(world.published) == 1


async def test_the_servers_of_a_removed_descriptor_go_when_the_change_is_live(
    reconciler: Reconciler, world: World
) -> None:
    await reconciler.files_changed()
    (world.folder / "backends" / "new.yaml").unlink()
    await reconciler.files_changed()
    assert world.wanted == [{"new", "old"}, {"old"}]


async def test_a_refused_change_takes_no_servers_from_what_is_live(reconciler: Reconciler, world: World) -> None:
    await reconciler.files_changed()
    world.save(GATEWAY.replace("NAME", "new"))
    (world.folder / "backends" / "old.yaml").unlink()
    (world.folder / "backends" / "third.yaml").write_text(DESCRIPTOR)
    world.ports["new"] = 4002
    world.ready.add(4002)
    world.refuses = "envoy: no"
    await reconciler.files_changed()
    assert world.wanted == [{"new", "old"}, {"new", "old", "third"}, {"new", "old"}]
    assert reconciler.problem == "envoy: no"
    assert reconciler.config is not None
    assert set(reconciler.config.backends) == {"new", "old"}


async def test_a_number_that_becomes_a_truth_value_is_published(reconciler: Reconciler, world: World) -> None:
    """Python takes ``1`` and ``true`` for equal: such a save was taken for no change, and said to be live."""
    for count, value in enumerate(("1", "true"), start=1):
        world.save(GATEWAY.replace("backend: NAME", f"backend: old, input: {{schema: {{const: {value}}}}}"))
        await reconciler.files_changed()
        assert len(world.published) == count


async def test_moved_endpoints_do_not_make_a_broken_file_good(
    reconciler: Reconciler, world: World, metrics: ConfigMetrics
) -> None:
    await reconciler.files_changed()
    world.save("version: 1\nmodels: {m1: {backend: odl}}\n")
    await reconciler.files_changed()
    world.ports["old"] = 4000
    await reconciler.endpoints_changed()
    assert "odl" in (reconciler.problem or "")
    assert metrics.registry.get_sample_value("isg_config_valid") == 0
    assert len(world.published) == 2, "what is live has the new endpoints"


async def test_a_damaged_list_of_endpoints_is_a_problem_until_it_is_mended(
    reconciler: Reconciler, world: World
) -> None:
    world.damaged = "endpoints.json: damaged"
    await reconciler.files_changed()
    assert reconciler.problem == "endpoints.json: damaged"
    assert world.published == []
    world.damaged = None
    await reconciler.endpoints_changed()
    assert reconciler.problem is None
    assert len(world.published) == 1


async def test_a_save_that_met_a_damaged_list_is_live_when_the_list_is_mended(
    reconciler: Reconciler, world: World
) -> None:
    await reconciler.files_changed()
    world.damaged = "endpoints.json: damaged"
    world.save(GATEWAY.replace("NAME", "new"))
    await reconciler.files_changed()
    world.damaged = None
    world.ports["new"] = 4002
    world.ready.add(4002)
    await reconciler.endpoints_changed()
    assert reconciler.problem is None
    assert reconciler.config is not None
    assert reconciler.config.models["m1"].targets[0].backend == "new"


@pytest.mark.parametrize("descriptor_came_first", [True, False])
async def test_a_model_goes_to_new_local_servers_when_one_of_them_answers(
    reconciler: Reconciler, world: World, descriptor_came_first: bool
) -> None:
    if not descriptor_came_first:
        await reconciler.files_changed()
    (world.folder / "backends" / "third.yaml").write_text(DESCRIPTOR)
    if descriptor_came_first:
        await reconciler.files_changed()
    world.save(GATEWAY.replace("NAME", "third"))
    world.ports["third"] = 4003

    def comes_up() -> None:
        assert len(world.published) == 1, "nothing is published before"
        assert "third" in (reconciler.problem or "")
        if world.asked == 3:
            world.ready.add(4003)

    world.meanwhile = comes_up
    await reconciler.files_changed()
    assert world.asked == 3
    assert len(world.published) == 2
    assert reconciler.problem is None


async def test_new_local_servers_that_never_answer_change_nothing(reconciler: Reconciler, world: World) -> None:
    await reconciler.files_changed()
    late = DESCRIPTOR.replace("'{port}']", "'{port}'], ready_within: 300ms")
    (world.folder / "backends" / "third.yaml").write_text(late)
    world.save(GATEWAY.replace("NAME", "third"))
    world.ports["third"] = 4003
    await reconciler.files_changed()
    assert "third" in (reconciler.problem or "")
    assert len(world.published) == 1
    assert world.wanted[-1] == {"new", "old"}


async def test_a_save_during_the_wait_for_new_servers_takes_its_place(reconciler: Reconciler, world: World) -> None:
    await reconciler.files_changed()
    (world.folder / "backends" / "third.yaml").write_text(DESCRIPTOR)
    world.save(GATEWAY.replace("NAME", "third"))
    world.ports["third"] = 4003
    world.meanwhile = lambda: world.save(GATEWAY.replace("NAME", "new"))
    world.ports["new"] = 4002
    world.ready.add(4002)
    await reconciler.files_changed()
    assert len(world.published) == 1
    await reconciler.files_changed()
    assert reconciler.config is not None
    assert reconciler.config.models["m1"].targets[0].backend == "new"
    assert reconciler.problem is None
