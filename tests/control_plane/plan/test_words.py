"""What is written is what would be read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from control_plane.config import values
from control_plane.config.model import Address, Backend, Endpoint, Image, State
from control_plane.plan.words import duration, shortened, size, written


@given(st.integers(1, values.MAX_SIZE) | st.integers(1, 1024).map(lambda n: n * 1024**2))
def test_a_size_is_read_back_as_it_was(number: int) -> None:
    assert values.size(size(number)) == number


@given(st.integers(0, values.MAX_DURATION_S) | st.integers(0, 10_000_000).map(lambda n: n / 1000))
def test_a_duration_is_read_back_as_it_was(seconds: float) -> None:
    assert values.duration(duration(seconds)) == seconds


def test_parts_are_written_without_what_goes_without_saying() -> None:
    endpoint = Endpoint(address=Address(host="10.0.0.1", port=80))
    assert written(endpoint) == "10.0.0.1:80"
    assert written(endpoint.model_copy(update={"weight": 2})) == "{address: 10.0.0.1:80, weight: 2}"
    assert written(Image(source="/a")) == "{from: /a}"
    assert written(State()) == "by default"
    assert written(Backend(server="http", model="m")) == "{server: http, model: m}"
    assert written((True, None, 1.5, {"b": 1, "a": "x"})) == '[true, none, 1.5, {"a": "x", "b": 1}]'


def test_long_values_are_shortened() -> None:
    assert shortened("a" * 60) == "a" * 60
    assert shortened("a" * 61) == "a" * 59 + "…"
