import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.up.restarts import MAX_DELAY_S, STEADY_S, Restarts


def delays(*lives_s: float) -> list[float]:
    restarts, found = Restarts(), []
    for lived_s in lives_s:
        restarts, delay_s = restarts.after_death(lived_s)
        found.append(delay_s)
    return found


def test_the_first_death_is_healed_at_once():
    assert delays(0.1) == [0.0]


def test_a_process_that_keeps_dying_waits_ever_longer_up_to_five_seconds():
    assert delays(*[0.1] * 9) == [0, 0.25, 0.5, 1, 2, 4, 5, 5, 5]


@pytest.mark.parametrize("steady_s", [STEADY_S, 3600])
def test_a_death_after_a_steady_life_is_healed_at_once_again(steady_s: float):
    assert delays(0.1, 0.1, 0.1, steady_s, 0.1)[3:] == [0, 0.25]


@given(st.lists(st.floats(min_value=0, max_value=1e6), max_size=200))
def test_no_history_makes_it_wait_longer_than_five_seconds(lives_s: list[float]):
    assert all(0 <= delay_s <= MAX_DELAY_S for delay_s in delays(*lives_s))
