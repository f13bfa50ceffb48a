"""What differs in the state-of-the-world variant, without sockets. Names begin with the number of their case."""

from __future__ import annotations

from typing import Any

import pytest

from control_plane.xds import Snapshot
from control_plane.xds.ordering import NAMED_ONLY, Send
from control_plane.xds.snapshot import version_of
from control_plane.xds.verdicts import Verdict
from tests.control_plane.xds.harness import (
    CLUSTER,
    ENDPOINTS,
    FULL,
    LISTENER,
    POLICY,
    ROUTE,
    Sent,
    WorldLine,
    named,
    resource,
    world,
)

AB = {"a": "1", "b": "1"}


def subscribed(*names: str, type_url: str = POLICY, **content: str) -> WorldLine:
    """A stream that has asked and acknowledged."""
    line = WorldLine(world(type_url, **content))
    line.want(*names, type_url=type_url)
    line.settle()
    return line


def contents(sent: Sent) -> dict[str, str]:
    return {name: body.decode() for name, body in sent.bodies.items()}


def gateway(clusters: str, *, routes: str = "1", version: str = "1", listener: str = "1") -> Snapshot:
    return Snapshot.of(
        [
            *(named(CLUSTER, name, version) for name in clusters),
            *(named(ENDPOINTS, name) for name in clusters),
            named(LISTENER, "l", listener),
            named(ROUTE, "r", routes),
        ]
    )


def envoy(snapshot: Snapshot) -> WorldLine:
    """A stream like Envoy's that has all of a snapshot."""
    line = WorldLine(snapshot)
    line.want(type_url=CLUSTER)
    line.settle()
    line.want(*snapshot.of_type(ENDPOINTS), type_url=ENDPOINTS)
    line.want(type_url=LISTENER)
    line.settle()
    line.want("r", type_url=ROUTE)
    line.settle()
    return line


def kinds(sent: list[Sent]) -> list[str]:
    return [one.type_url for one in sent]


# -- first requests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "type_url", "expected"),
    [
        pytest.param(["*"], POLICY, ("a", "b"), id="explicit wildcard"),
        pytest.param(["*"], ENDPOINTS, ("a", "b"), id="explicit wildcard of a type that is named only"),
        pytest.param([], CLUSTER, ("a", "b"), id="X10 legacy wildcard, clusters"),
        pytest.param([], LISTENER, ("a", "b"), id="X10 legacy wildcard, listeners"),
        pytest.param([], POLICY, ("a", "b"), id="legacy wildcard, another type"),
        pytest.param(["a"], ENDPOINTS, ("a",), id="X13 only what is named"),
        pytest.param(["a"], CLUSTER, ("a",), id="X13 only what is named, clusters"),
        pytest.param(["a", "z"], ENDPOINTS, ("a",), id="X14 a missing name withholds nothing"),
        pytest.param(["a", "z"], CLUSTER, ("a",), id="X14 a missing cluster withholds nothing"),
        pytest.param(["z"], CLUSTER, (), id="a missing cluster is told by an empty full state"),
    ],
)
def test_x10_x13_x14_first_request(names: list[str], type_url: str, expected: Any) -> None:
    line = WorldLine(world(type_url, **AB))
    line.want(*names, type_url=type_url)
    assert tuple(sorted(line.one().bodies)) == expected


def test_x14_a_missing_name_of_a_type_without_full_states_is_sent_when_there_is_something_to_send() -> None:
    line = subscribed("z", type_url=ENDPOINTS, a="1")
    assert line.subscriptions[ENDPOINTS].sent_version is None
    line.snapshot = world(ENDPOINTS, a="1", z="1")
    assert contents(line.one()) == {"z": "1"}


@pytest.mark.parametrize("type_url", sorted(NAMED_ONLY))
def test_x16_no_names_are_no_wildcard_for_types_that_are_named(type_url: str) -> None:
    line = WorldLine(world(type_url, **AB))
    line.want(type_url=type_url, version="of before")
    assert line.drain() == []
    line.want("a", type_url=type_url)
    assert contents(line.one()) == {"a": "1"}


@pytest.mark.parametrize("type_url", FULL)
def test_x58_x30_a_return_is_answered_whatever_its_version_and_nonce_say(type_url: str) -> None:
    content = world(type_url, **AB)
    line = WorldLine(content)
    assert line.want("*", type_url=type_url, version=content.type_version(type_url), nonce="old") is Verdict.STALE
    assert contents(line.one()) == AB


def test_x53_after_a_return_routes_wait_for_clusters() -> None:
    line = WorldLine(gateway("ab", routes="to b"))
    line.want("r", type_url=ROUTE, version="of before")
    line.want(type_url=CLUSTER, version="of before")
    clusters = line.one()
    assert clusters.type_url == CLUSTER
    line.ack(clusters)
    assert kinds(line.drain()) == [ROUTE]


# -- nonces ----------------------------------------------------------------------------------------------------


def test_x20_x27_neither_an_ack_nor_an_old_version_in_it_is_answered() -> None:
    line = WorldLine(world(**AB))
    line.want("*")
    sent = line.one()
    assert line.want("*", version="older", nonce=sent.nonce) is Verdict.ACK
    assert line.want("*", version=sent.version, nonce=sent.nonce) is Verdict.NONE
    assert line.drain() == []


def test_x23_a_stale_nonce_is_ignored_with_its_names_and_counted() -> None:
    line = subscribed("a", type_url=ENDPOINTS, **AB)
    assert line.want("a", "b", type_url=ENDPOINTS, nonce="never sent") is Verdict.STALE
    assert line.drain() == []
    assert line.subscriptions[ENDPOINTS].names == {"a"}


def test_a_refusal_with_an_overtaken_nonce_is_kept_though_its_names_are_not_followed() -> None:
    line = WorldLine(world(ENDPOINTS, a="bad", b="1"))
    line.want("a", type_url=ENDPOINTS)
    first = line.one()
    line.want("a", "b", type_url=ENDPOINTS)
    second = line.one()
    assert contents(second) == {"b": "1"}
    verdict = line.want("a", "b", "c", type_url=ENDPOINTS, nonce=first.nonce, error="a is bad")
    assert verdict is Verdict.NACK
    assert line.subscriptions[ENDPOINTS].names == {"a", "b"}
    line.want("a", "b", type_url=ENDPOINTS, nonce=second.nonce)
    assert line.drain() == []
    line.snapshot = world(ENDPOINTS, a="good", b="1")
    assert contents(line.one()) == {"a": "good"}


@pytest.mark.parametrize("wanted", [("a", "b"), ("*",)])
@pytest.mark.parametrize("type_url", [ENDPOINTS, POLICY])
def test_what_was_dropped_and_wanted_again_behind_a_stale_nonce_is_sent_again(
    wanted: tuple[str, ...], type_url: str
) -> None:
    line = subscribed(*wanted, type_url=type_url, **AB)
    line.snapshot = world(type_url, a="2", b="1")
    nonce = str(next(iter(line.nonces)) - 1)
    sent = line.one()
    line.want(*([] if "*" in wanted else ["a"]), type_url=type_url, nonce=nonce)
    line.want(*wanted, type_url=type_url, nonce=nonce)
    assert line.drain() == []
    line.want(*wanted, type_url=type_url, nonce=sent.nonce)
    assert contents(line.one()).items() >= {"b": "1"}.items()


# -- names -----------------------------------------------------------------------------------------------------


def test_x31_new_names_are_answered_at_the_same_version_and_nonce() -> None:
    line = WorldLine(world(ENDPOINTS, **AB))
    line.want("a", type_url=ENDPOINTS)
    first = line.one()
    line.want("a", "b", type_url=ENDPOINTS, version=first.version, nonce=first.nonce)
    second = line.one()
    assert (contents(second), second.version) == ({"b": "1"}, first.version)


def test_x31_new_names_of_a_full_state_are_answered_with_all_of_it() -> None:
    line = subscribed("a", type_url=CLUSTER, **AB)
    nonce = line.subscriptions[CLUSTER].sent_version
    line.want("a", "b", type_url=CLUSTER)
    sent = line.one()
    assert contents(sent) == AB
    assert sent.version != nonce  # another content, another version


def test_x32_x33_fewer_names_are_not_answered_and_more_again_are() -> None:
    line = subscribed("a", "b", type_url=ENDPOINTS, **AB)
    line.want("a", type_url=ENDPOINTS)
    assert line.drain() == []
    line.snapshot = world(ENDPOINTS, a="1", b="2")
    assert line.drain() == []
    line.snapshot = world(ENDPOINTS, a="1", b="1")
    line.want("a", "b", type_url=ENDPOINTS)
    assert contents(line.one()) == {"b": "1"}


@pytest.mark.parametrize("type_url", [CLUSTER, LISTENER, ROUTE])
def test_x34_no_names_after_some_are_nothing(type_url: str) -> None:
    line = subscribed("a", type_url=type_url, a="1")
    line.want(type_url=type_url)
    assert line.drain() == []
    line.snapshot = world(type_url, a="2", b="2")
    assert line.drain() == []


def test_x35_the_legacy_wildcard_ends_with_the_first_name() -> None:
    line = subscribed(type_url=CLUSTER, **AB)
    line.want(type_url=CLUSTER)
    assert line.drain() == []  # still everything
    line.want("*", "a", type_url=CLUSTER)
    (sent,) = line.settle()
    assert contents(sent) == AB
    line.want("a", type_url=CLUSTER)
    assert line.drain() == []
    line.snapshot = world(CLUSTER, a="2", b="2")
    assert contents(line.one()) == {"a": "2"}
    line.want(type_url=CLUSTER)
    line.snapshot = world(CLUSTER, a="3", b="3")
    assert line.drain() == []


# -- changes ---------------------------------------------------------------------------------------------------


def test_x43_a_change_is_the_full_state_or_only_the_change() -> None:
    for type_url in FULL:
        line = subscribed("*", type_url=type_url, **AB)
        line.snapshot = world(type_url, a="1", b="2")
        sent = line.one()
        assert contents(sent) == {"a": "1", "b": "2"}
        assert sent.version == line.snapshot.type_version(type_url)
    line = subscribed("a", "b", type_url=ENDPOINTS, **AB)
    line.snapshot = world(ENDPOINTS, a="1", b="2")
    assert contents(line.one()) == {"b": "2"}


@pytest.mark.parametrize("type_url", FULL)
def test_x46_a_removal_is_left_out_and_the_last_leaves_nothing(type_url: str) -> None:
    line = subscribed(type_url=type_url, **AB)
    line.snapshot = world(type_url, a="1")
    (sent,) = line.settle()
    assert contents(sent) == {"a": "1"}
    line.snapshot = world(type_url)
    (sent,) = line.settle()
    assert contents(sent) == {}


def test_a_removal_that_cannot_be_told_is_not_waited_for_and_its_return_is_sent() -> None:
    line = subscribed("a", "b", type_url=ENDPOINTS, **AB)
    line.snapshot = world(ENDPOINTS, a="1")
    assert line.drain() == []
    assert not line.subscriptions[ENDPOINTS].pending(line.snapshot.of_type(ENDPOINTS))
    line.snapshot = world(ENDPOINTS, **AB)
    assert contents(line.one()) == {"b": "1"}


# -- refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_url", FULL)
def test_x21_x22_a_refused_version_is_not_sent_again_and_the_next_is_the_full_state(type_url: str) -> None:
    line = subscribed("*", type_url=type_url, **AB)
    line.snapshot = world(type_url, a="bad", b="1")
    assert line.nack(line.one(), "a is bad") is Verdict.NACK
    line.snapshot = world(type_url, a="bad", b="1")
    assert line.drain() == []
    line.snapshot = world(type_url, a="bad", b="1", c="1")
    assert line.nack(line.one(), "a is bad") is Verdict.NACK
    assert line.drain() == []
    line.snapshot = world(type_url, a="good", b="1", c="1")
    (sent,) = line.settle()
    assert contents(sent) == {"a": "good", "b": "1", "c": "1"}
    assert line.subscriptions[type_url].nack is None


def test_what_was_refused_and_is_accepted_later_is_refused_no_longer() -> None:
    line = subscribed("*", **AB)
    line.snapshot = world(a="busy", b="1")
    refused = line.one()
    line.now += line.order.patience_s  # more changes than acknowledgements
    line.snapshot = world(a="busy", b="2")
    second = line.one()
    line.nack(refused)
    line.ack(second)
    assert line.drain() == []
    assert line.subscriptions[POLICY].refused_since is None
    assert line.subscriptions[POLICY].nack is None


# -- order -----------------------------------------------------------------------------------------------------


def test_x51_x52_x53_endpoints_follow_changed_clusters_and_routes_wait_for_them() -> None:
    line = envoy(gateway("ab"))
    line.snapshot = gateway("abc", routes="to c", listener="2")
    (clusters,) = line.drain()  # of those that did not change no endpoints follow
    assert sorted(clusters.bodies) == ["a", "b", "c"]
    line.want("a", "b", "c", type_url=ENDPOINTS)
    line.ack(line.one())
    assert line.drain() == []
    line.ack(clusters)
    assert kinds(line.settle()) == [LISTENER, ROUTE]
    line.snapshot = gateway("abc", routes="to c", listener="2", version="2")
    clusters, endpoints = line.drain()
    assert (clusters.type_url, endpoints.type_url) == (CLUSTER, ENDPOINTS)
    assert sorted(endpoints.bodies) == ["a", "b", "c"]


def test_x54_what_routes_still_use_stays_in_the_full_state_until_they_are_acknowledged() -> None:
    line = envoy(gateway("ab", routes="to b"))
    line.snapshot = gateway("ac", routes="to c")
    old = gateway("ab").of_type(CLUSTER)["b"]
    clusters = line.one()
    assert sorted(clusters.bodies) == ["a", "b", "c"]
    assert clusters.version == version_of([*line.snapshot.of_type(CLUSTER).values(), old])
    line.want("a", "b", "c", type_url=ENDPOINTS)
    line.ack(line.one())
    line.ack(clusters)
    route = line.one()
    assert route.type_url == ROUTE
    assert line.drain() == []
    line.ack(route)
    clusters = line.one()
    assert sorted(clusters.bodies) == ["a", "c"]
    assert clusters.version == line.snapshot.type_version(CLUSTER)


def test_x22_x54_a_refused_full_state_with_a_kept_resource_is_not_sent_again_and_again() -> None:
    line = envoy(gateway("ab", routes="to b"))
    changed = gateway("ac", routes="to c")
    line.snapshot = changed
    line.nack(line.one())
    assert line.drain() == []
    due = line.due()
    assert not isinstance(due, Send)
    line.snapshot = gateway("ab", routes="to b")
    (clusters,) = [one for one in line.settle() if one.type_url == CLUSTER]
    assert sorted(clusters.bodies) == ["a", "b"]


def test_a_cluster_whose_change_was_refused_is_kept_as_it_was_until_the_routes_have_left_it() -> None:
    line = envoy(gateway("ab", routes="to b"))
    before = line.snapshot
    assert before is not None
    line.snapshot = Snapshot.of(
        [
            *(r for t in (LISTENER, ROUTE, ENDPOINTS) for r in before.of_type(t).values()),
            named(CLUSTER, "a"),
            named(CLUSTER, "b", "x"),
        ]
    )
    clusters, endpoints = line.drain()
    line.nack(clusters)
    line.ack(endpoints)
    line.snapshot = Snapshot.of(
        [named(CLUSTER, "a"), named(CLUSTER, "c"), resource(ROUTE, "r", "r=to c"), *before.of_type(LISTENER).values()]
    )
    due = line.due()
    assert isinstance(due, Send)
    assert [one.name for one in due.present] == ["c"]
    assert {one.name: one.version for one in due.rest} == {
        name: found.version for name, found in before.of_type(CLUSTER).items()
    }
