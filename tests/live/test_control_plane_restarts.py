"""A control plane that is away while the operator saves, dies while it publishes, or starts with what it cannot use."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from control_plane.processes import write_endpoints
from tests.support.recorder import Recorder
from tests.support.stack import Stack, running, until
from tests.support.traffic import VALID, traffic

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]


def gateway_yaml(*models: str, max_body: str = "64KiB") -> str:
    lines = ["version: 1", "listen: 127.0.0.1:PORT", "backends: backends/", "default_model: m1", "models:"]
    for name in ("m1", *models):
        lines += [
            f"  {name}:",
            "    backend: main",
            "    input:",
            "      schema: {type: object, required: [text]}",
            "      tensors: [{name: text, datatype: BYTES, shape: [1], from: /text}]",
            f"    max_body: {max_body}",
        ]
    return "\n".join(lines) + "\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recorder() -> AsyncIterator[Recorder]:
    started = await Recorder().start()
    yield started
    await started.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> AsyncIterator[Stack]:
    descriptor = f"server: kserve\nmodel: m\nendpoints: ['{recorder.address}']\n"
    files = {"gateway.yaml": gateway_yaml(), "backends/main.yaml": descriptor}
    async with running(tmp_path_factory.mktemp("restarts"), files) as stack:
        yield stack


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(gateway: Stack) -> str:
    return await gateway.key()


async def back(gateway: Stack) -> None:
    await gateway.restart("control-plane")
    await until("the control plane is back", lambda: gateway.is_ready("control_plane"))


async def is_live(gateway: Stack, key: str, model: str) -> bool:
    return (await gateway.predict({"model": model, "text": "a"}, key)).status == 200


@pytest.mark.parametrize("away_s", [0.5, 8.0])
async def test_a_save_while_the_control_plane_was_away_drops_no_request(
    gateway: Stack, key: str, away_s: float
) -> None:
    async with traffic(gateway, key, per_second=150, kinds=(VALID,)) as seen:
        gateway.kill("control-plane")
        await asyncio.sleep(away_s)
        gateway.write("gateway.yaml", gateway_yaml(f"away{away_s:.0f}", max_body=f"{65 + away_s:.0f}KiB"))
        await back(gateway)
        await until("the save is live", lambda: is_live(gateway, key, f"away{away_s:.0f}"), 20)
        await asyncio.sleep(0.5)
    assert seen.statuses(VALID) == {200}, seen.outcomes


async def test_kills_in_the_middle_of_publishing_drop_no_request(gateway: Stack, key: str) -> None:
    delays = random.Random(4)
    async with traffic(gateway, key, per_second=150, kinds=(VALID,)) as seen:
        for number in range(6):
            gateway.write("gateway.yaml", gateway_yaml(f"k{number}", max_body=f"{80 + number}KiB"))
            await asyncio.sleep(delays.uniform(0.1, 0.6))
            gateway.kill("control-plane")
            await back(gateway)
        await until("the last save is live", lambda: is_live(gateway, key, "k5"), 20)
        await asyncio.sleep(0.5)
    assert seen.statuses(VALID) == {200}, seen.outcomes


async def test_a_start_with_a_broken_file_pushes_nothing(gateway: Stack, key: str) -> None:
    gateway.write("gateway.yaml", gateway_yaml("good"))
    await until("good is live", lambda: is_live(gateway, key, "good"), 20)
    async with traffic(gateway, key, kinds=(VALID,)) as seen:
        gateway.kill("control-plane")
        gateway.write("gateway.yaml", "version: 1\nmodels: {m1: {backend: mian}}\n")
        await gateway.restart("control-plane")
        await until("the refusal", lambda: gateway.output("control-plane").count("mian"))
        await asyncio.sleep(2)
        assert not await gateway.is_ready("control_plane")
        assert await is_live(gateway, key, "good")
        gateway.write("gateway.yaml", gateway_yaml("mended"))
        await until("mended is live", lambda: is_live(gateway, key, "mended"), 20)
    assert seen.statuses(VALID) == {200}, seen.outcomes


@pytest.mark.parametrize("damaged", ["{", '{"main": "x"}', '{"main": ["nonsense"]}', '{"main": ["127.0.0.1:x"]}', "\0"])
async def test_a_damaged_list_of_endpoints_changes_nothing_and_is_complained_of(
    gateway: Stack, key: str, damaged: str
) -> None:
    gateway.write("gateway.yaml", gateway_yaml("good"))
    await until("good is live", lambda: is_live(gateway, key, "good"), 20)
    file: Path = gateway.state.endpoints
    process = gateway.processes["control-plane"]
    before = gateway.output("control-plane").count("endpoints.json")
    async with traffic(gateway, key, kinds=(VALID,)) as seen:
        file.write_text(damaged)
        await until("complained of", lambda: gateway.output("control-plane").count("endpoints.json") > before)
        await asyncio.sleep(0.2)
        assert process.poll() is None, "it goes on"
        gateway.kill("control-plane")
        await gateway.restart("control-plane")
        await until("complained of again", lambda: gateway.output("control-plane").count("endpoints.json") > before + 1)
        assert gateway.processes["control-plane"].poll() is None, "it goes on"
        write_endpoints(gateway.state, {})
        await until("mended", lambda: gateway.is_ready("control_plane"))
    assert seen.statuses(VALID) == {200}, seen.outcomes
