"""The operator's commands against a running gateway."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.support.recorder import Recorder
from tests.support.stack import Stack, running, until

pytestmark = pytest.mark.live

GATEWAY = """
version: 1
listen: 127.0.0.1:PORT
backends: backends/
models: {m1: {backend: main}}
"""


async def isg(stack: Stack, *arguments: str, config: Path | None = None) -> tuple[int, str, str]:
    """Run a command as an operator does: exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "control_plane.cli", *arguments),
        *("-c", str(config or stack.config), "--state", str(stack.state.root)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_check_and_status_tell_a_good_configuration_from_a_broken_one(tmp_path: Path) -> None:
    recorder = await Recorder().start()
    files = {
        "gateway.yaml": GATEWAY,
        "backends/main.yaml": f"server: kserve\nmodel: m\nendpoints: ['{recorder.address}']\n",
    }
    try:
        async with running(tmp_path, files) as stack:
            assert (await isg(stack, "check"))[0] == 0
            code, out, _ = await isg(stack, "status", "--json")
            status = json.loads(out)
            assert code == 0, out
            assert status["configuration"]["live"]
            assert {node["group"] for node in status["nodes"]} == {"envoy", "ext_authz", "ext_proc"}
            assert {node["state"] for node in status["nodes"]} == {"acknowledged"}
            assert status["backends"][0]["endpoints"][0]["address"] == recorder.address
            assert status["backends"][0]["endpoints"][0]["health"] == "healthy"

            stack.write("gateway.yaml", GATEWAY.replace("backend: main", "backend: mian"))
            code, _, err = await isg(stack, "check")
            assert code == 1
            assert "gateway.yaml:5:24: " in err, err
            await until("status says so", lambda: says_no(stack))
            assert "did you mean `main`" in (await isg(stack, "status"))[1]
            assert (await stack.predict({"model": "m1", "inputs": []}, await stack.key())).status != 503
        code, _, err = await isg(stack, "status")
        assert code == 1
        assert "isg up" in err
    finally:
        await recorder.stop()


async def says_no(stack: Stack) -> bool:
    return (await isg(stack, "status"))[0] == 1
