import os
import socket
import sys

import pytest

from control_plane.up.quiesce import refuse_new_connections

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="socket filters")


def test_waiting_connections_are_kept_and_new_ones_do_not_get_in():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as waiting:
            if refuse_new_connections(os.getpid()) == 0:
                pytest.skip("pidfd_getfd is not allowed here")
            with pytest.raises(TimeoutError):
                socket.create_connection(("127.0.0.1", port), timeout=0.3)
            waiting.sendall(b"sent while waiting")
            accepted, _ = server.accept()
            with accepted:
                assert accepted.recv(100) == b"sent while waiting"
                accepted.sendall(b"answer")
                assert waiting.recv(100) == b"answer"


def test_a_process_that_is_gone_has_no_door_to_close():
    assert refuse_new_connections(2**22 - 1) == 0
