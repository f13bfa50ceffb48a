"""Saving the operator's files while the gateway runs."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.recorder import Recorder
from tests.support.stack import Stack, running, until
from tests.support.traffic import VALID, traffic

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]


def gateway_yaml(*, models: tuple[str, ...] = ("m1",), max_body: str = "64KiB", required: str = "text") -> str:
    lines = ["version: 1", "listen: 127.0.0.1:PORT", "backends: backends/", "default_model: m1", "models:"]
    for name in models:
        lines += [
            f"  {name}:",
            "    backend: main",
            "    input:",
            f"      schema: {{type: object, required: [{required}]}}",
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
    async with running(tmp_path_factory.mktemp("changes"), files) as stack:
        yield stack


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(gateway: Stack) -> str:
    return await gateway.key()


async def status(gateway: Stack, key: str, model: str) -> int:
    return (await gateway.predict({"model": model, "text": "a"}, key)).status


async def test_a_saved_model_is_live_within_a_second(gateway: Stack, key: str) -> None:
    assert await status(gateway, key, "m2") == 404
    started = time.monotonic()
    gateway.write("gateway.yaml", gateway_yaml(models=("m1", "m2")))
    await until("m2 is live", lambda: _is(gateway, key, "m2", 200))
    assert time.monotonic() - started < 1.5
    gateway.write("gateway.yaml", gateway_yaml())
    await until("m2 is gone", lambda: _is(gateway, key, "m2", 404))


async def _is(gateway: Stack, key: str, model: str, expected: int) -> bool:
    return await status(gateway, key, model) == expected


async def test_twenty_saves_under_load_drop_no_request(gateway: Stack, key: str) -> None:
    async with traffic(gateway, key, per_second=150, kinds=(VALID,)) as seen:
        for number in range(20):
            models = ("m1", *(f"n{number}-{extra}" for extra in range(number % 3)))
            text = gateway_yaml(models=models, max_body=f"{64 + number}KiB", required="text" if number % 2 else "")
            gateway.write("gateway.yaml", text)
            await asyncio.sleep(0.25)
        gateway.write("gateway.yaml", gateway_yaml())
        await until("settled", lambda: _is(gateway, key, "n19-0", 404))
    assert seen.statuses(VALID) == {200}, seen.outcomes


async def test_a_new_descriptor_file_is_seen(gateway: Stack, key: str, recorder: Recorder) -> None:
    second = await Recorder().start()
    try:
        gateway.write("backends/second.yaml", f"server: kserve\nmodel: m\nendpoints: ['{second.address}']\n")
        gateway.write("gateway.yaml", gateway_yaml().replace("backend: main", "backend: second"))
        await until("the second backend answers", lambda: _reaches(gateway, key, second))
        gateway.write("gateway.yaml", gateway_yaml())
        recorder.received.clear()
        await until("the first backend answers", lambda: _reaches(gateway, key, recorder))
    finally:
        await second.stop()


async def _reaches(gateway: Stack, key: str, recorder: Recorder) -> bool:
    before = len(recorder.received)
    assert await status(gateway, key, "m1") == 200
    return len(recorder.received) > before


@pytest.mark.parametrize(
    ("broken", "place", "words"),
    [
        ("version: 1\nmodels: {m1: {backned: main}}\n", ":2:15:", "backend"),
        ("version: 1\nmodels:\n  m1: {backend: mian}\n", ":3:17:", "main"),
        ("version: 1\nmodels: [\n", ":", "gateway.yaml"),
        ("", ":1:1:", "gateway.yaml"),
    ],
    ids=["unknown-key", "unknown-backend", "not-yaml", "empty"],
)
async def test_a_broken_save_changes_nothing_and_says_where(
    gateway: Stack, key: str, broken: str, place: str, words: str
) -> None:
    before = await rejected(gateway)
    async with traffic(gateway, key, kinds=(VALID,)) as seen:
        gateway.write("gateway.yaml", broken)
        await until("the refusal is counted", lambda: _more(gateway, before))
    assert seen.statuses(VALID) == {200}
    reason = last_refusal(gateway)
    assert f"gateway.yaml{place}" in reason
    assert words in reason
    gateway.write("gateway.yaml", gateway_yaml())
    await until("the control plane is content", lambda: gateway.is_ready("control_plane"))


async def test_what_envoy_refuses_when_it_arrives_is_taken_back_with_envoys_words(gateway: Stack, key: str) -> None:
    before = await rejected(gateway)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        taken = f"127.0.0.1:{busy.getsockname()[1]}"
        text = gateway_yaml(models=("m1", "m9")).replace(
            "listen: 127.0.0.1:PORT", f"listen: [127.0.0.1:PORT, '{taken}']"
        )
        async with traffic(gateway, key, kinds=(VALID,)) as seen:
            gateway.write("gateway.yaml", text)
            await until("the refusal is counted", lambda: _more(gateway, before))
    assert "in use" in last_refusal(gateway)
    assert seen.statuses(VALID) == {200}
    await until("the change is taken back", lambda: _is(gateway, key, "m9", 404), 5)
    gateway.write("gateway.yaml", gateway_yaml())
    await until("the control plane is content", lambda: gateway.is_ready("control_plane"))
    assert await status(gateway, key, "m1") == 200


def last_refusal(gateway: Stack) -> str:
    line = next(line for line in reversed(gateway.output("control-plane").splitlines()) if "config_rejected" in line)
    return str(json.loads(line)["reason"])


async def rejected(gateway: Stack) -> float:
    lines = (await gateway.metrics("control_plane")).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("isg_config_rejected_total"))


async def _more(gateway: Stack, before: float) -> bool:
    return await rejected(gateway) > before
