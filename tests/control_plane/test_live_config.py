"""What the control plane tells of the live configuration, and what is made of its answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from control_plane.live_config import PATH, ForeignConfigError, NoControlPlaneError, document, fetch, read
from gateway.state import StateDir
from gateway.telemetry import serve_admin
from tests.control_plane.plan.test_difference import FULL


async def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(NoControlPlaneError, match=str(tmp_path)):
        await fetch(StateDir(tmp_path))


@pytest.mark.parametrize("config", [None, FULL], ids=["nothing live", "live"])
async def test_what_is_live_arrives_as_it_is(tmp_path: Path, config: object) -> None:
    state = StateDir(tmp_path)
    state.prepare()

    async def answer() -> object:
        return document(FULL if config else None)

    admin = await serve_admin(
        state.admin_socket("control_plane"), lambda: None, CollectorRegistry(), documents={PATH: answer}
    )
    try:
        assert await fetch(state) == config
    finally:
        await admin.cleanup()


async def test_a_control_plane_that_knows_no_such_document_is_of_another_version(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.prepare()
    admin = await serve_admin(state.admin_socket("control_plane"), lambda: None, CollectorRegistry())
    try:
        with pytest.raises(ForeignConfigError, match="404"):
            await fetch(state)
    finally:
        await admin.cleanup()


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"5", b"{}", b'{"config": 5}', b'{"config": {"listen": []}}', b"\xff", b'{"config": {"new": 1}}'],
)
def test_a_document_of_another_version_is_said_to_be_one(body: bytes) -> None:
    with pytest.raises(ForeignConfigError, match="another version"):
        read(body)


def test_the_version_is_of_the_content() -> None:
    other = FULL.model_copy(update={"default_model": "language"})
    assert document(FULL)["version"] != document(other)["version"]
    assert document(read(json.dumps(document(FULL)).encode()))["version"] == document(FULL)["version"]
    assert document(None) == {"version": None, "config": None}
