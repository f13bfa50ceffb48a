import json
import subprocess
import sys
import tempfile
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from gateway.telemetry import serve_admin, trace_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", TRACE),
        (f"cc-{TRACE}-00f067aa0ba902b7-01-later", TRACE),
        (None, None),
        ("", None),
        ("nonsense", None),
        (f"00-{TRACE}", None),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE[1:]}-00f067aa0ba902b7-01", None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-{'g' * 32}-00f067aa0ba902b7-01", None),
    ],
)
def test_the_trace_id_of_a_traceparent(header: str | None, expected: str | None) -> None:
    assert trace_id(header) == expected


async def test_readiness_and_metrics_are_on_a_socket() -> None:
    registry = CollectorRegistry()
    Counter("isg_test", "A counter.", registry=registry).inc()
    waits_for: list[str | None] = ["the first policy"]
    with tempfile.TemporaryDirectory(prefix="isg-") as folder:
        path = Path(folder) / "admin.sock"
        path.touch()  # a stale file
        runner = await serve_admin(path, lambda: waits_for[0], registry)
        try:
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
                async with session.get("http://admin/ready") as answer:
                    assert (answer.status, await answer.text()) == (503, "the first policy\n")
                waits_for[0] = None
                async with session.get("http://admin/ready") as answer:
                    assert (answer.status, await answer.text()) == (200, "ready\n")
                async with session.get("http://admin/metrics") as answer:
                    assert "isg_test_total 1.0" in await answer.text()
        finally:
            await runner.cleanup()


def test_logs_are_json_lines_with_the_process_also_from_libraries() -> None:
    program = (
        "import logging, structlog\n"
        "from gateway.telemetry import configure_logging\n"
        "configure_logging('ext-test')\n"
        "structlog.get_logger().info('ours', request_id='r1')\n"
        "logging.getLogger('library').warning('theirs %d', 1)\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    structlog.get_logger().exception('failed')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    ours, theirs, failed = map(json.loads, done.stderr.splitlines())
    assert (ours["event"], ours["request_id"], ours["process"], ours["level"]) == ("ours", "r1", "ext-test", "info")
    assert (theirs["event"], theirs["process"], theirs["level"]) == ("theirs 1", "ext-test", "warning")
    assert "ZeroDivisionError" in failed["exception"]
