"""The delta cases of the protocol on one type, without sockets. Names begin with the number of their case."""

from typing import Any

import pytest

from control_plane.xds.ordering import NAMED_ONLY
from control_plane.xds.subscription import MAX_IN_FLIGHT
from control_plane.xds.verdicts import Verdict
from tests.control_plane.xds.harness import CLUSTER, ENDPOINTS, LISTENER, POLICY, ROUTE, Line, snapshot

AB = {"a": "1", "b": "1"}


def subscribed(*names: str, type_url: str = POLICY, **content: str) -> Line:
    """A stream that has asked and acknowledged."""
    line = Line(snapshot(type_url, **content))
    line.ask(type_url, add=names)
    line.settle()
    return line


# -- first requests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "type_url", "expected"),
    [
        pytest.param(["*"], POLICY, (("a", "b"), ()), id="explicit wildcard"),
        pytest.param(["*"], ENDPOINTS, (("a", "b"), ()), id="explicit wildcard of a type that is named only"),
        pytest.param([], CLUSTER, (("a", "b"), ()), id="legacy wildcard, clusters"),
        pytest.param([], LISTENER, (("a", "b"), ()), id="legacy wildcard, listeners"),
        pytest.param([], POLICY, (("a", "b"), ()), id="legacy wildcard, another type"),
        pytest.param(["a"], POLICY, (("a",), ()), id="X13 only what is named"),
        pytest.param(["a", "z"], POLICY, (("a",), ("z",)), id="X14 X15 a missing name withholds nothing and is told"),
        pytest.param(["z"], POLICY, ((), ("z",)), id="X15 missing"),
        pytest.param(["*", "z"], POLICY, (("a", "b"), ("z",)), id="wildcard and a missing name"),
    ],
)
def test_x13_x14_x15_first_request(names: list[str], type_url: str, expected: Any) -> None:
    content = snapshot(type_url, **AB)
    line = Line(content)
    line.ask(type_url, add=names)
    sent = line.one()
    assert sent.what == expected
    assert sent.version == content.type_version(type_url)
    assert sent.nonce


@pytest.mark.parametrize("type_url", sorted(NAMED_ONLY))
def test_x16_no_names_are_no_wildcard_for_types_that_are_named(type_url: str) -> None:
    line = Line(snapshot(type_url, **AB))
    line.ask(type_url)
    assert line.drain() == []
    line.ask(type_url, add=["a"])
    assert line.one().what == (("a",), ())


@pytest.mark.parametrize("names", [[], ["*"]])
def test_x11_a_wildcard_is_answered_at_once_even_with_nothing(names: list[str]) -> None:
    line = Line(snapshot(CLUSTER))
    line.ask(CLUSTER, add=names)
    assert line.one().what == ((), ())
    line.ask(CLUSTER, nonce="1")
    assert line.drain() == []


def test_x12_before_the_first_snapshot_nothing_is_sent_and_the_request_is_kept() -> None:
    line = Line(None)
    line.ask(CLUSTER)
    line.ask(POLICY, add=["a"])
    assert line.drain() == []
    line.snapshot = snapshot(POLICY, a="1")
    assert [sent.what for sent in line.drain()] == [((), ()), (("a",), ())]


def test_x15_a_name_that_springs_into_existence_is_pushed() -> None:
    line = subscribed("z", a="1")
    line.snapshot = snapshot(a="1", z="1")
    assert line.one().what == (("z",), ())


# -- acknowledgements ------------------------------------------------------------------------------------------


def test_x20_an_ack_is_not_answered() -> None:
    line = Line(snapshot(**AB))
    line.ask(add=["*"])
    sent = line.one()
    assert line.ack(sent) is Verdict.ACK
    assert line.drain() == []
    assert line.subscriptions[POLICY].acked_version == sent.version


def test_x21_x22_a_refused_version_is_not_sent_again_and_its_words_are_kept() -> None:
    line = subscribed("*", **AB)
    line.snapshot = snapshot(a="bad", b="1")
    refused = line.one()
    assert line.nack(refused, "a is bad") is Verdict.NACK
    assert line.drain() == []
    line.snapshot = snapshot(a="bad", b="1")
    assert line.drain() == []
    nack = line.subscriptions[POLICY].nack
    assert nack is not None
    assert (nack.text, nack.version, nack.at) == ("a is bad", refused.version, line.now)
    line.snapshot = snapshot(a="good", b="1")
    corrected = line.one()
    assert corrected.what == (("a",), ())
    line.ack(corrected)
    assert line.subscriptions[POLICY].nack is None


def test_x25_x57_the_whole_refused_response_is_sent_again_once_any_of_it_changes() -> None:
    line = subscribed("*", a="1", b="1", c="1")
    line.snapshot = snapshot(a="bad", b="2", c="1")
    line.nack(line.one())
    line.snapshot = snapshot(a="bad", b="2", c="2")
    assert line.one().what == (("c",), ())  # what the refusal has nothing to do with goes on
    line.ask(nonce="3")
    line.snapshot = snapshot(a="3", b="2", c="2")
    assert line.one().what == (("a", "b"), ())  # whether the client applied b is not known


def test_a_rollback_after_a_refusal_sends_the_old_version_of_all_that_was_refused() -> None:
    line = subscribed("*", **AB)
    line.snapshot = snapshot(a="bad", b="2")
    line.nack(line.one())
    line.snapshot = snapshot(**AB)
    assert line.one().what == (("a", "b"), ())


def test_a_refused_removal_is_removed_again_with_the_next_change() -> None:
    line = subscribed("*", **AB)
    line.snapshot = snapshot(a="2")
    refused = line.one()
    assert refused.what == (("a",), ("b",))
    line.nack(refused)
    assert line.drain() == []
    line.snapshot = snapshot(a="3")
    assert line.one().what == (("a",), ("b",))


def test_x24_a_subscription_beside_a_stale_nonce_counts() -> None:
    line = subscribed("a", **AB)
    assert line.ask(add=["b"], nonce="never sent") is Verdict.STALE
    assert line.one().what == (("b",), ())


def test_a_refusal_of_an_unknown_nonce_refuses_nothing() -> None:
    line = subscribed("*", **AB)
    assert line.ask(nonce="never sent", error="no") is Verdict.STALE
    assert line.ask(error="no nonce at all") is Verdict.STALE
    line.snapshot = snapshot(a="2", b="1")
    assert line.one().what == (("a",), ())


def test_x26_a_request_while_a_response_is_unacknowledged_is_answered() -> None:
    line = Line(snapshot(**AB))
    line.ask(add=["a"])
    first = line.one()
    assert line.ask(add=["b"]) is Verdict.NONE
    second = line.one()
    assert second.what == (("b",), ())
    assert line.ack(first) is Verdict.ACK
    assert line.ack(second) is Verdict.ACK
    assert line.subscriptions[POLICY].in_flight_since is None


def test_an_acknowledgement_covers_the_responses_before_it() -> None:
    line = Line(snapshot(**AB))
    line.ask(add=["a"])
    first = line.one()
    line.ask(add=["b"])
    second = line.one()
    line.ack(second)
    assert line.subscriptions[POLICY].in_flight_since is None
    assert line.ack(first) is Verdict.STALE


def test_x49_changes_during_an_unacknowledged_response_become_one() -> None:
    line = subscribed("*", a="0")
    line.snapshot = snapshot(a="1")
    first = line.one()
    for number in range(2, 1000):
        line.snapshot = snapshot(a=str(number))
        assert line.drain() == []
    line.ack(first)
    assert line.one().bodies == {"a": b"999"}


def test_a_client_that_never_acknowledges_costs_bounded_memory_and_still_gets_changes() -> None:
    line = subscribed("a", a="0")
    for number in range(3 * MAX_IN_FLIGHT):
        line.ask(add=["a"])
        assert line.one().what == (("a",), ())
        line.snapshot = snapshot(a=str(number))
    assert len(line.subscriptions[POLICY]._in_flight) == MAX_IN_FLIGHT
    assert line.drain() == []
    line.now += line.order.patience_s
    assert line.one().what == (("a",), ())


# -- subscription changes --------------------------------------------------------------------------------------


def test_x36_legacy_wildcard_then_a_name_then_no_wildcard_then_nothing() -> None:
    line = subscribed(type_url=CLUSTER, **AB)
    line.ask(CLUSTER, add=["a"])
    assert line.settle()[0].what == (("a",), ())
    line.snapshot = snapshot(CLUSTER, a="2", b="2")
    assert line.settle()[0].what == (("a", "b"), ())
    line.ask(CLUSTER, drop=["*"])
    line.snapshot = snapshot(CLUSTER, a="3", b="3")
    assert line.settle()[0].what == (("a",), ())
    line.ask(CLUSTER, drop=["a"])
    line.snapshot = snapshot(CLUSTER, a="4", b="4")
    assert line.settle() == []


def test_x37_an_explicit_wildcard_after_a_name_and_back() -> None:
    line = subscribed("a", **AB)
    line.ask(add=["*"])
    assert "b" in line.settle()[0].resources
    line.ask(drop=["*"])
    line.snapshot = snapshot(a="2", b="2")
    assert line.settle()[0].what == (("a",), ())


def test_x36_no_names_after_names_are_no_wildcard() -> None:
    line = subscribed("a", type_url=CLUSTER, **AB)
    line.ask(CLUSTER)
    line.ask(CLUSTER, drop=["a"])
    line.ask(CLUSTER)
    line.snapshot = snapshot(CLUSTER, a="2", b="2")
    assert line.settle() == []


@pytest.mark.parametrize(
    ("first", "drop", "expected"),
    [
        pytest.param(["*", "a"], "a", [(("a",), ())], id="still covered by the wildcard"),
        pytest.param(["*", "z"], "z", [((), ("z",))], id="not there: told so"),
        pytest.param(["a"], "a", [], id="no wildcard: silence"),
        pytest.param(["a"], "b", [], id="X40 phantom"),
        pytest.param(["*"], "a", [], id="X40 phantom under a wildcard"),
        pytest.param(["a"], "*", [], id="X40 phantom wildcard"),
    ],
)
def test_x38_x40_unsubscribe(first: list[str], drop: str, expected: Any) -> None:
    line = subscribed(*first, **AB)
    line.ask(drop=[drop])
    assert [sent.what for sent in line.settle()] == expected
    line.snapshot = snapshot(a="1", b="1", c="1")
    assert [sent.what for sent in line.settle()] == ([(("c",), ())] if "*" in first else [])


def test_x32_x33_dropped_and_taken_up_again_is_sent_again() -> None:
    line = subscribed("a", "b", **AB)
    line.ask(drop=["b"])
    line.snapshot = snapshot(a="1", b="2")
    assert line.drain() == []
    line.ask(add=["b"])
    assert line.one().what == (("b",), ())


def test_x39_a_known_name_asked_for_again_is_sent_again() -> None:
    line = subscribed("a", "b", **AB)
    line.ask(add=["a"])
    assert line.settle()[0].what == (("a",), ())
    line.ask(add=["*"])
    assert line.settle()[0].what == (("a", "b"), ())


def test_drop_and_add_in_one_request_is_an_add() -> None:
    line = subscribed("a", **AB)
    line.ask(add=["a"], drop=["a"])
    assert line.one().what == (("a",), ())
    assert line.subscriptions[POLICY].names == {"a"}


# -- changes of the snapshot -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "after", "expected"),
    [
        pytest.param(["*"], {"a": "1", "b": "1"}, [], id="X45 equal content"),
        pytest.param(["*"], {"a": "2", "b": "1"}, [(("a",), ())], id="X44 one of two"),
        pytest.param(["*"], {"a": "1", "b": "1", "c": "1"}, [(("c",), ())], id="new under a wildcard"),
        pytest.param(["a"], {"a": "1", "b": "1", "c": "1"}, [], id="new and not asked for"),
        pytest.param(["a"], {"a": "1"}, [], id="X47 gone and never had"),
        pytest.param(["*"], {"a": "1"}, [((), ("b",))], id="X47 gone"),
        pytest.param(["a", "b"], {"a": "1"}, [((), ("b",))], id="X47 gone, by name"),
        pytest.param(["*"], {}, [((), ("a", "b"))], id="X46 the last one gone"),
        pytest.param(["*"], {"a": "2"}, [(("a",), ("b",))], id="changed and gone at once"),
    ],
)
def test_x44_x45_x46_x47_changes(names: list[str], after: dict[str, str], expected: Any) -> None:
    line = subscribed(*names, **AB)
    line.snapshot = snapshot(**after)
    assert [sent.what for sent in line.settle()] == expected
    line.snapshot = snapshot(**after)
    assert line.settle() == []


def test_x44_only_the_changed_resource_gets_a_new_version() -> None:
    line = Line(snapshot(**AB))
    line.ask(add=["*"])
    before = line.settle()[0]
    line.ask(add=["b"])
    assert line.settle()[0].resources == {"b": before.resources["b"]}


def test_gone_and_back_between_two_looks_is_no_change() -> None:
    line = subscribed("*", **AB)
    line.snapshot = snapshot(a="1")
    line.snapshot = snapshot(**AB)
    assert line.settle() == []


# -- reconnects ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "held", "expected"),
    [
        pytest.param(["*"], {"a": "a1", "b": "b1"}, [], id="X59 equal, wildcard"),
        pytest.param([], {"a": "a1", "b": "b1"}, [], id="X59 equal, legacy wildcard"),
        pytest.param(["a", "b"], {"a": "a1", "b": "b1"}, [], id="X59 equal, named"),
        pytest.param(["*"], {"a": "old", "b": "b1"}, [(("a",), ())], id="X59 one stale"),
        pytest.param(["*"], {"a": "a1"}, [(("b",), ())], id="X59 one missing"),
        pytest.param(["*"], {"a": "a1", "b": "b1", "x": "1"}, [((), ("x",))], id="X59 one unknown"),
        pytest.param(["a", "x"], {"a": "a1", "x": "1"}, [((), ("x",))], id="X59 one unknown, named"),
        pytest.param(["*"], {"a": "", "b": "?"}, [(("a", "b"), ())], id="nonsense for versions"),
        pytest.param(["a"], {"a": "a1", "b": "old"}, [], id="held and not asked for"),
    ],
)
def test_x59_x61_reconnect(names: list[str], held: dict[str, str], expected: Any) -> None:
    content = snapshot(CLUSTER, **AB)
    real = {name + "1": resource.version for name, resource in content.of_type(CLUSTER).items()}
    line = Line(content)
    line.ask(CLUSTER, add=names, versions={name: real.get(version, version) for name, version in held.items()})
    assert [sent.what for sent in line.settle()] == expected


def test_x30_a_nonce_of_an_earlier_stream_makes_a_request_no_less_initial() -> None:
    line = Line(snapshot(**AB))
    assert line.ask(add=["a"], nonce="from before") is Verdict.STALE
    assert line.one().what == (("a",), ())


def test_x04_an_unknown_type_is_answered_with_nothing_and_harms_no_other() -> None:
    line = Line(snapshot(**AB))
    line.ask("type.googleapis.com/who.Knows", add=["q"])
    assert line.one().what == ((), ("q",))
    line.ask(add=["a"])
    assert line.settle()[0].what == (("a",), ())


def test_x28_types_keep_their_own_nonces() -> None:
    line = Line(snapshot(**AB))
    line.ask(add=["*"])
    policies = line.one()
    line.ask(ROUTE, add=["r"])
    routes = line.one()
    assert policies.nonce != routes.nonce
    assert line.ask(ROUTE, nonce=policies.nonce) is Verdict.STALE
    assert line.ack(policies) is Verdict.ACK
    assert line.ack(routes) is Verdict.ACK
