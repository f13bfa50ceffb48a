"""Unified diffs of what Envoy and the services would be sent."""

from __future__ import annotations

from pathlib import Path

from control_plane.config.model import Address, Config, Endpoint
from control_plane.plan.resources import resource_diffs
from gateway.state import StateDir
from tests.control_plane.plan.test_difference import FULL, backend, digits

STATE = StateDir(Path("/var/lib/isg"))


def changed(live: Config | None, wanted: Config) -> set[str]:
    return set(resource_diffs(live, wanted, STATE, {}))


def test_only_resources_that_differ_are_shown() -> None:
    assert changed(FULL, FULL) == set()
    assert changed(FULL, digits(timeout_s=10)) == {"routes public"}
    assert changed(FULL, digits(max_body_bytes=5)) == {"routes public", "policy digits"}
    moved = backend(endpoints=FULL.backends["a"].endpoints[:1])
    assert changed(FULL, moved) == {"endpoints backend/a", "cluster backend/a"}
    assert {"listener public/127.0.0.1:8080", "cluster ext_proc", "policy gateway"} <= changed(None, FULL)


def test_a_diff_is_yaml_and_shows_both_sides() -> None:
    diff = resource_diffs(FULL, digits(timeout_s=10), STATE, {})["routes public"]
    assert diff.startswith("--- live routes public\n+++ candidate routes public\n@@")
    assert "-      timeout: 30s\n" in diff
    assert "+      timeout: 10s\n" in diff


def test_local_servers_are_where_they_are_now() -> None:
    local = {"b": (Endpoint(address=Address(host="127.0.0.1", port=4100)),)}
    diff = resource_diffs(None, FULL, STATE, local)["endpoints backend/b"]
    assert "+          port_value: 4100\n" in diff
    assert not resource_diffs(FULL, FULL, STATE, local)
