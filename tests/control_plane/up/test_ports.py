import socket
from pathlib import Path

import pytest

from control_plane.up.ports import PortError, allot, is_free


def test_a_port_with_a_listener_is_not_free_though_the_listener_shares_it():
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert not is_free("127.0.0.1", server.getsockname()[1])


def test_a_port_is_free_again_while_old_connections_linger():
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # closes first: its end goes to TIME_WAIT
        client.close()
    assert is_free("127.0.0.1", port)


def test_an_address_of_another_machine_is_an_error_that_names_it():
    with pytest.raises(PortError, match=r"192\.0\.2\.1:8080"):
        is_free("192.0.2.1", 8080)


def test_an_allotted_port_is_outside_the_range_of_outgoing_connections():
    with Path("/proc/sys/net/ipv4/ip_local_port_range").open() as file:
        first, last = map(int, file.read().split())
    taken: set[int] = set()
    for _ in range(20):
        taken.add(allot(taken))
    assert len(taken) == 20
    assert all(not first <= port <= last for port in taken) or last - first > 50_000
