"""What `isg status` says, and when its answer is no."""

from __future__ import annotations

from typing import Any

import pytest

from control_plane.status import NoStatusError, decoded, document, rendered
from control_plane.xds.nodes import NodeView, TypeView
from control_plane.xds.subscription import Nack

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


def node(*, nack: str | None = None, pending: bool = False) -> NodeView:
    refusal = None if nack is None else Nack(text=nack, at=1.0, version="v2")
    view = TypeView(sent_version="v2", acked_version="v1", nack=refusal, pending=pending)
    return NodeView(id="envoy-1", group="envoy", connected_since=1.0, types={CLUSTER: view})


def host(port: int, **health: bool) -> dict[str, Any]:
    return {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "stats": [{"name": "rq_active", "value": "3"}, {"name": "rq_total", "value": "9"}, {"name": "rq_error"}],
        "health_status": {"eds_health_status": "HEALTHY", **health},
    }


def status(**given: Any) -> dict[str, Any]:
    clusters = {
        "cluster_statuses": [{"name": "backend/b", "host_statuses": [host(1), host(2, failed_outlier_check=True)]}]
    }
    facts: dict[str, Any] = {
        "problem": None,
        "path": "gateway.yaml",
        "models": ["m"],
        "backends": ["b", "idle"],
        "nodes": [node()],
        "clusters": clusters,
    }
    return document(**{**facts, **given})


@pytest.mark.parametrize(
    ("given", "ok", "state"),
    [
        ({}, True, "acknowledged"),
        ({"nodes": [node(pending=True)]}, True, "pending"),
        ({"nodes": [node(nack="no such thing")]}, False, "refused"),
        ({"problem": "gateway.yaml:3:1: unknown key"}, False, "acknowledged"),
    ],
)
def test_the_answer_is_no_when_a_file_is_not_live_or_a_node_refused(
    given: dict[str, Any], ok: bool, state: str
) -> None:
    found = status(**given)
    assert found["ok"] is ok
    assert found["nodes"][0]["state"] == state


def test_a_refusal_is_shown_in_the_nodes_own_words_and_a_problem_with_its_place() -> None:
    text = rendered(status(nodes=[node(nack="no such thing")], problem="gateway.yaml:3:1: unknown key"))
    assert "Cluster refused: no such thing" in text
    assert "NOT live" in text
    assert "gateway.yaml:3:1: unknown key" in text


def test_endpoints_are_shown_with_health_and_load_and_a_backend_without_any_is_not_forgotten() -> None:
    found = status()
    assert found["backends"][0]["endpoints"] == [
        {"address": "127.0.0.1:1", "health": "healthy", "in_flight": 3, "requests": 9, "failed": 0},
        {"address": "127.0.0.1:2", "health": "failed_outlier_check", "in_flight": 3, "requests": 9, "failed": 0},
    ]
    assert found["backends"][1] == {"name": "idle", "endpoints": []}
    assert "127.0.0.1:2" in rendered(found)


def test_an_envoy_that_does_not_answer_is_said_not_hidden() -> None:
    assert "does not answer" in rendered(status(clusters=None))


@pytest.mark.parametrize("body", [b"[]", b"not json", b"5", b""])
def test_an_answer_that_is_no_status_is_refused(body: bytes) -> None:
    with pytest.raises(NoStatusError):
        decoded(body)
