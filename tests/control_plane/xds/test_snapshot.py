import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.xds import Resource, Snapshot

NAMES = st.text("abc", min_size=1, max_size=3)
RESOURCES = st.dictionaries(st.tuples(NAMES, NAMES), st.binary(max_size=4), max_size=8).map(
    lambda found: [Resource(type_url, name, body) for (type_url, name), body in found.items()]
)


@given(RESOURCES, st.randoms())
def test_x45_the_order_of_the_input_changes_nothing(resources: list[Resource], rng: random.Random) -> None:
    shuffled = list(resources)
    rng.shuffle(shuffled)
    one, other = Snapshot.of(resources), Snapshot.of(shuffled)
    assert one == other
    assert [list(named) for named in one.types.values()] == [list(named) for named in other.types.values()]


@given(RESOURCES, RESOURCES)
def test_equal_versions_mean_equal_content(one: list[Resource], other: list[Resource]) -> None:
    def content(resources: list[Resource]) -> set[tuple[str, str, bytes]]:
        return {(r.type_url, r.name, r.body) for r in resources}

    assert (Snapshot.of(one).version == Snapshot.of(other).version) == (content(one) == content(other))


def test_x45_another_process_gives_the_same_versions() -> None:
    program = "from control_plane.xds import *; print(Snapshot.of([Resource('t', 'a', b'1')]).version)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == Snapshot.of([Resource("t", "a", b"1")]).version


def test_x48_a_name_twice_in_one_type_is_refused() -> None:
    with pytest.raises(ValueError, match="two resources of type t are named 'a'"):
        Snapshot.of([Resource("t", "a", b"1"), Resource("t", "a", b"1")])
    Snapshot.of([Resource("t", "a", b"1"), Resource("u", "a", b"1")])


def test_a_snapshot_cannot_be_changed() -> None:
    found = Snapshot.of([Resource("t", "a", b"1")])
    with pytest.raises(TypeError):
        found.types["t"]["b"] = Resource("t", "b", b"1")  # type: ignore[index]
    with pytest.raises(AttributeError):
        found.version = "x"  # type: ignore[misc]


def test_an_absent_type_is_empty_and_has_a_version() -> None:
    found = Snapshot.of([])
    assert dict(found.of_type("t")) == {}
    assert found.type_version("t") == Snapshot.of([Resource("u", "a", b"")]).type_version("t")


def test_a_types_version_is_its_own() -> None:
    before = Snapshot.of([Resource("t", "a", b"1"), Resource("u", "a", b"1")])
    after = Snapshot.of([Resource("t", "a", b"2"), Resource("u", "a", b"1")])
    assert before.type_version("t") != after.type_version("t")
    assert before.type_version("u") == after.type_version("u")
