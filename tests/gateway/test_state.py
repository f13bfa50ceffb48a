import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.state import Service, StateDir

SERVICES: list[Service] = ["control_plane", "ext_authz", "ext_proc"]


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_directories_are_private_whatever_the_umask(tmp_path: Path, open_umask: None) -> None:
    state = StateDir(tmp_path / "state")
    state.prepare()
    assert (mode(state.root), mode(state.sockets)) == (0o700, 0o700)
    state.prepare()


def test_a_socket_directory_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.prepare()
    state.sockets.chmod(0o755)
    with pytest.raises(PermissionError, match="must belong to this user with mode 0700"):
        state.prepare()


def test_sockets_lie_in_the_state_directory_where_their_paths_fit() -> None:
    assert StateDir(Path("/var/isg")).sockets == Path("/var/isg/sockets")


def test_socket_paths_stay_short_below_a_long_directory(tmp_path: Path) -> None:
    state = StateDir(tmp_path / ("d" * 120))
    other = StateDir(tmp_path / ("e" * 120))
    assert state.sockets != other.sockets
    assert state.sockets == StateDir(tmp_path / ("d" * 120)).sockets
    paths = [state.ads_socket, state.ext_authz_socket, state.ext_proc_socket, state.envoy_admin_socket]
    paths += [state.admin_socket(service) for service in SERVICES]
    assert len(set(paths)) == len(paths)
    assert max(len(os.fsencode(path)) for path in paths) < 108


def test_every_file_is_its_own(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    files = [state.key_store, state.pepper, state.processes, state.endpoints, *map(state.policy_file, SERVICES)]
    assert len(set(files)) == len(files)
    assert all(path.parent == tmp_path for path in files)
