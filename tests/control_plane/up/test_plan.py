from hypothesis import given
from hypothesis import strategies as st

from control_plane.processes import Process
from control_plane.up.plan import Plan, Replica, Start, plan


def process(command: str = "serve", replicas: int = 1) -> Process:
    return Process(command=(command,), replicas=replicas, directory="/d")


def replica(backend: str, number: int, command: str = "serve") -> Replica:
    return Replica(backend=backend, number=number, port=10_000 + number, process=process(command))


def test_what_is_wanted_and_does_not_run_is_started():
    wanted = {"a": process(replicas=2)}
    assert plan(wanted, []) == Plan(start=tuple(Start(backend="a", number=n, process=wanted["a"]) for n in (1, 2)))


def test_what_runs_and_is_wanted_is_left_alone():
    assert plan({"a": process(replicas=2)}, [replica("a", 1), replica("a", 2)]) == Plan()


def test_a_change_of_health_path_or_patience_restarts_nothing():
    wanted = Process(command=("serve",), directory="/d", health_path="/h", ready_within_s=1)
    assert plan({"a": wanted}, [replica("a", 1)]) == Plan()


def test_the_highest_numbers_go_when_fewer_are_wanted():
    running = [replica("a", number) for number in (3, 1, 2)]
    assert plan({"a": process()}, running) == Plan(retire=(running[2], running[0]))


def test_a_gap_is_filled_with_the_lowest_free_number():
    assert [s.number for s in plan({"a": process(replicas=3)}, [replica("a", 2)]).start] == [1, 3]


def test_a_backend_that_is_gone_is_retired():
    assert plan({}, [replica("a", 1)]) == Plan(retire=(replica("a", 1),))


def test_a_changed_command_is_a_replacement_not_a_retirement():
    wanted = process("other")
    found = plan({"a": wanted}, [replica("a", 1)])
    assert found == Plan(start=(Start(backend="a", number=2, process=wanted),), replace=(replica("a", 1),))


def test_the_number_of_a_server_on_its_way_out_is_not_given_away():
    found = plan({"a": process(replicas=2)}, [], frozenset({("a", 1), ("b", 2)}))
    assert [start.number for start in found.start] == [2, 3]


replicas = st.builds(
    replica, st.sampled_from("abc"), st.integers(min_value=1, max_value=5), st.sampled_from(["serve", "other"])
)


@given(
    st.dictionaries(
        st.sampled_from("abcd"), st.builds(process, st.sampled_from(["serve", "other"]), st.integers(1, 5))
    ),
    st.lists(replicas, max_size=8, unique_by=lambda r: (r.backend, r.number)),
)
def test_carrying_out_a_plan_leaves_nothing_to_do(wanted: dict[str, Process], running: list[Replica]):
    todo = plan(wanted, running)
    going = {*todo.retire, *todo.replace}
    left = [r for r in running if r not in going]
    left += [Replica(backend=s.backend, number=s.number, port=1, process=s.process) for s in todo.start]
    assert len({(r.backend, r.number) for r in [*left, *going]}) == len(left) + len(going), "numbers are unique"
    assert plan(wanted, left) == Plan()
