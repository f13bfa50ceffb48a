"""Make before break, on one stream without sockets."""

import pytest

from control_plane.xds import Resource, Snapshot
from control_plane.xds.ordering import DEFAULT_ORDER, EXTENSION, SECRET, Send, Wait, endpoints_of
from tests.control_plane.xds.harness import CLUSTER, ENDPOINTS, LISTENER, POLICY, ROUTE, Line, Sent, cluster, resource


def gateway(
    clusters: str = "a",
    endpoints: str | None = None,
    *,
    routes: str = "to a",
    listener: str = "1",
    version: int = 1,
    endpoint: str = "1",
) -> Snapshot:
    """Clusters (one letter each) with their endpoints, one listener, one route."""
    return Snapshot.of(
        [
            *(cluster(name, version) for name in clusters),
            *(resource(ENDPOINTS, name, endpoint) for name in (clusters if endpoints is None else endpoints)),
            resource(LISTENER, "l", listener),
            resource(ROUTE, "r", routes),
        ]
    )


def envoy(snapshot: Snapshot) -> Line:
    """A stream like Envoy's that has all of a snapshot."""
    line = Line(snapshot)
    line.ask(CLUSTER)
    line.settle()
    line.ask(ENDPOINTS, add=snapshot.of_type(ENDPOINTS))
    line.ask(LISTENER)
    line.settle()
    line.ask(ROUTE, add=["r"])
    line.settle()
    return line


def kinds(sent: list[Sent]) -> list[str]:
    return [one.type_url for one in sent]


def test_x51_clusters_endpoints_listeners_routes_in_this_order() -> None:
    line = envoy(gateway())
    line.snapshot = gateway("a", routes="new", listener="2", version=2, endpoint="2")
    assert kinds(line.settle()) == [CLUSTER, ENDPOINTS, LISTENER, ROUTE]


def test_x52_endpoints_follow_a_changed_cluster_unchanged_and_without_waiting() -> None:
    line = envoy(gateway("ab"))
    line.snapshot = gateway("ab", version=2)
    clusters, endpoints = line.drain()
    assert clusters.what == (("a", "b"), ())
    assert (endpoints.type_url, endpoints.what) == (ENDPOINTS, (("a", "b"), ()))


def test_x52_only_the_changed_clusters_endpoints_follow() -> None:
    line = envoy(gateway("ab"))
    line.snapshot = Snapshot.of([*gateway("ab").of_type(ENDPOINTS).values(), cluster("a", 1), cluster("b", 2)])
    assert line.drain()[1].what == (("b",), ())


def test_x52_endpoints_follow_even_while_earlier_ones_are_unacknowledged() -> None:
    line = envoy(gateway("a"))
    line.snapshot = gateway("a", endpoint="2")
    assert kinds(line.drain()) == [ENDPOINTS]
    line.snapshot = gateway("a", endpoint="2", version=2)
    assert kinds(line.drain()) == [CLUSTER, ENDPOINTS]


def test_endpoints_of_a_new_cluster_are_not_sent_before_they_are_asked_for() -> None:
    line = envoy(gateway("a"))
    line.snapshot = gateway("ab")
    assert kinds(line.drain()) == [CLUSTER]
    line.ask(ENDPOINTS, add=["b"])
    assert line.one().what == (("b",), ())


def test_x53_routes_and_listeners_wait_until_the_clusters_are_acknowledged() -> None:
    line = envoy(gateway("a"))
    line.snapshot = gateway("ab", routes="to b", listener="2")
    clusters = line.one()
    line.ask(ENDPOINTS, add=["b"])
    line.ack(line.one())
    assert line.drain() == []
    line.ack(clusters)
    assert kinds(line.drain()) == [LISTENER, ROUTE]


def test_x53_a_route_asked_for_meanwhile_waits_too() -> None:
    line = envoy(gateway("a"))
    line.snapshot = gateway("ab", routes="to b")
    clusters = line.one()
    line.ask(ROUTE, add=["r"])
    assert line.drain() == []
    line.ack(clusters)
    assert kinds(line.drain()) == [ROUTE]


def test_x53_the_wait_has_an_end() -> None:
    line = envoy(gateway("a"))
    line.snapshot = gateway("ab", routes="to b")
    line.one()
    assert line.due() == Wait(until=line.now + line.order.patience_s)
    line.now += line.order.patience_s
    due = line.due()
    assert isinstance(due, Send)
    assert (due.type_url, due.overdue) == (ROUTE, (CLUSTER,))


def test_a_refused_cluster_holds_back_routes_until_the_wait_ends_or_it_is_mended() -> None:
    line = envoy(gateway("a"))
    line.snapshot = gateway("ab", routes="to b")
    line.nack(line.one())
    assert line.drain() == []
    line.snapshot = gateway("ab", routes="to b", version=2)
    assert kinds(line.drain())[0] == CLUSTER
    line.ask(CLUSTER, nonce=str(next(iter(line.nonces)) - 2))
    assert kinds(line.drain()) == [ROUTE]


def test_x54_clusters_and_endpoints_go_after_the_routes_that_used_them() -> None:
    line = envoy(gateway("ab", routes="to b"))
    line.snapshot = gateway("a", routes="to a")
    routes = line.one()
    assert routes.type_url == ROUTE
    assert line.drain() == []
    line.ack(routes)
    clusters = line.one()
    assert (clusters.type_url, clusters.what) == (CLUSTER, ((), ("b",)))
    line.ask(ENDPOINTS, drop=["b"])  # Envoy does so when the cluster goes
    line.ack(clusters)
    assert line.drain() == []


def test_x54_endpoints_that_stay_subscribed_are_removed_last() -> None:
    line = envoy(gateway("ab", routes="to b"))
    line.snapshot = gateway("a", routes="to a")
    assert [(one.type_url, one.what[1]) for one in line.settle()] == [
        (ROUTE, ()),
        (CLUSTER, ("b",)),
        (ENDPOINTS, ("b",)),
    ]


def test_x54_a_removal_waits_for_a_refused_route_without_end() -> None:
    line = envoy(gateway("ab", routes="to b"))
    line.snapshot = gateway("a", routes="bad")
    line.nack(line.one())
    line.now += 1000
    assert line.drain() == []
    line.snapshot = gateway("a", routes="to a")
    assert kinds(line.settle()) == [ROUTE, CLUSTER, ENDPOINTS]


def test_x54_new_and_changed_clusters_do_not_wait_for_routes_but_removals_in_the_same_change_do() -> None:
    line = envoy(gateway("ab", routes="to b"))
    line.snapshot = gateway("ac", routes="to c")
    sent = line.settle()
    assert [(one.type_url, one.what) for one in sent if one.type_url != ENDPOINTS] == [
        (CLUSTER, (("c",), ())),
        (ROUTE, (("r",), ())),
        (CLUSTER, ((), ("b",))),
    ]


def test_without_routes_and_listeners_a_removal_waits_for_nobody() -> None:
    line = Line(gateway("ab"))
    line.ask(CLUSTER)
    line.settle()
    line.snapshot = gateway("a")
    assert line.one().what == ((), ("b",))


def test_a_client_that_acknowledges_no_cluster_still_gets_its_first_listeners() -> None:
    line = Line(gateway())
    line.ask(CLUSTER)
    line.ask(LISTENER)
    assert kinds(line.drain()) == [CLUSTER, LISTENER]


def test_after_a_reconnect_routes_wait_for_clusters_as_before() -> None:
    line = Line(gateway("ab", routes="to b"))
    line.ask(ROUTE, add=["r"], versions={"r": "of before"})
    line.ask(CLUSTER, versions={"a": cluster("a").version})
    clusters = line.one()
    assert clusters.what == (("b",), ())
    line.ack(clusters)
    assert kinds(line.drain()) == [ROUTE]


def test_x60_after_a_reconnect_with_everything_nothing_is_sent() -> None:
    content = gateway("ab")
    line = Line(content)
    for type_url in (CLUSTER, ENDPOINTS, LISTENER, ROUTE):
        named = content.of_type(type_url)
        line.ask(
            type_url,
            add=named if type_url in (ENDPOINTS, ROUTE) else (),
            versions={name: found.version for name, found in named.items()},
        )
    assert line.drain() == []


def test_x56_secrets_do_not_wait_for_clusters() -> None:
    line = envoy(gateway("a"))
    line.ask(SECRET, add=["cert"])
    line.settle()
    line.snapshot = Snapshot.of(
        [*(r for t in gateway("ab").types.values() for r in t.values()), Resource(SECRET, "cert", b"")]
    )
    assert kinds(line.drain()) == [CLUSTER, SECRET]


def test_x66_an_extension_goes_before_the_listener_and_is_removed_after_it() -> None:
    def content(listener: str, *extensions: str) -> Snapshot:
        return Snapshot.of([resource(LISTENER, "l", listener), *(resource(EXTENSION, name) for name in extensions)])

    line = Line(content("1", "e"))
    line.ask(LISTENER)
    line.ask(EXTENSION, add=["e", "f"])
    line.settle()
    line.snapshot = content("2", "f")
    assert [(one.type_url, one.what) for one in line.settle()] == [
        (EXTENSION, (("f",), ())),
        (LISTENER, (("l",), ())),
        (EXTENSION, ((), ("e",))),
    ]


def test_an_unknown_type_waits_for_nobody() -> None:
    line = envoy(gateway("a"))
    line.snapshot = Snapshot.of([*gateway("ab").of_type(CLUSTER).values(), resource(POLICY, "p")])
    line.ask(POLICY, add=["*"])
    assert POLICY in kinds(line.drain())


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (cluster("a"), "a"),
        (cluster("a", service_name="s"), "s"),
        (Resource(CLUSTER, "a", b"\xff"), None),
        (Resource(CLUSTER, "a", b""), None),
    ],
)
def test_the_endpoints_of_a_cluster(resource: Resource, expected: str | None) -> None:
    assert endpoints_of(resource) == expected


def test_the_order_names_each_type_once() -> None:
    assert len(set(DEFAULT_ORDER)) == len(DEFAULT_ORDER)
