import contextlib
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.processes import (
    Process,
    ProcessesError,
    read_endpoints,
    read_processes,
    write_endpoints,
    write_processes,
)
from gateway.state import StateDir

WANTED = {"language": Process(command=("python", "-m", "x", "{port}"), replicas=2, directory="/d", health_path="/h")}


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path)


def test_what_is_written_is_read(state: StateDir):
    write_processes(state, WANTED)
    write_endpoints(state, {"language": ("127.0.0.1:1", "127.0.0.1:2")})
    assert read_processes(state) == WANTED
    assert read_endpoints(state) == {"language": ("127.0.0.1:1", "127.0.0.1:2")}


def test_a_file_that_was_never_written_is_none_and_not_empty(state: StateDir):
    assert read_processes(state) is None
    assert read_endpoints(state) is None


def test_only_the_owner_can_read_them(state: StateDir):
    write_processes(state, WANTED)
    assert state.processes.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "[]", '{"a": {}}', '{"a": {"command": [], "directory": "/", "nice": 1}}', "\xff"])
def test_a_damaged_file_is_an_error_that_names_it(state: StateDir, text: str):
    state.processes.write_bytes(text.encode("latin-1"))
    with pytest.raises(ProcessesError, match=r"processes\.json"):
        read_processes(state)


def test_a_reader_never_sees_half_a_file(state: StateDir):
    sets = [{"a": ("x:1",) * size} for size in (1, 5000)]
    write_endpoints(state, sets[0])
    done = threading.Event()

    def write() -> None:
        for turn in range(100):
            write_endpoints(state, sets[turn % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert read_endpoints(state) in sets
    writer.join()
    assert [path.name for path in state.root.iterdir()] == ["endpoints.json"]


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_the_promised_error(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    state = StateDir(tmp_path_factory.mktemp("state"))
    state.endpoints.write_bytes(content)
    with contextlib.suppress(ProcessesError):
        read_endpoints(state)
