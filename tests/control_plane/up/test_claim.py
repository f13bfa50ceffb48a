import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from control_plane.config.model import Address
from control_plane.processes import Process, read_endpoints, read_processes, write_endpoints, write_processes
from control_plane.up import claim as claims
from control_plane.up.claim import claim, require_ports
from control_plane.up.errors import CannotStartError
from gateway.state import StateDir


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def test_a_second_supervisor_is_refused_with_the_first_ones_process_id(state: StateDir):
    with claim(state), pytest.raises(CannotStartError, match=f"runs already on .*process {os.getpid()}"), claim(state):
        pass


def test_the_state_directory_is_free_again_after_the_first_has_ended(state: StateDir):
    for _ in range(2):
        with claim(state):
            pass


def test_a_supervisor_that_was_killed_leaves_no_lock(state: StateDir):
    code = (
        "import sys, time, pathlib; from control_plane.up.claim import claim; from gateway.state import StateDir\n"
        "with claim(StateDir(pathlib.Path(sys.argv[1]))): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(state.root)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(CannotStartError), claim(state):
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with claim(state):
        pass


def test_what_an_earlier_run_left_is_cleared(state: StateDir):
    state.prepare()
    state.ads_socket.touch()
    write_processes(state, {"m": Process(command=("x",), directory="/")})
    write_endpoints(state, {"m": ("127.0.0.1:1",)})
    state.pepper.write_text("kept")
    with claim(state):
        assert not state.ads_socket.exists()
        assert read_processes(state) is None
        assert read_endpoints(state) == {}
        assert state.pepper.read_text() == "kept"


def test_a_state_directory_that_cannot_be_used_is_said_plainly(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(CannotStartError, match="cannot be used"), claim(StateDir(tmp_path / "file")):
        pass


def test_a_port_in_use_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(claims, "PORT_PATIENCE_S", 0.1)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(CannotStartError, match=f"127.0.0.1:{port} is in use"):
            require_ports([Address(host="127.0.0.1", port=port)])
