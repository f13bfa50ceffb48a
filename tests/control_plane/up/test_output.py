import io
import json
import shlex
import subprocess
import sys
import threading

from hypothesis import given
from hypothesis import strategies as st

from control_plane.up import output
from control_plane.up.output import Console, render

RECORD = json.dumps(
    {"event": "key_refused", "level": "warning", "timestamp": "2025-01-02T03:04:05Z", "process": "x", "key_id": "k1"}
)


def test_a_json_line_passes_as_it_is_when_piped():
    assert render("ext_authz", RECORD, terminal=False) == RECORD


def test_any_other_line_is_headed_by_its_process():
    assert render("envoy", "hello", terminal=False) == "envoy          | hello"


def test_json_that_is_no_log_record_is_headed_too():
    assert render("model/1", '{"a": 1}', terminal=False).startswith("model/1 ")


def test_a_json_line_is_readable_on_a_terminal():
    shown = render("ext_authz", RECORD, terminal=True)
    assert "03:04:05" in shown
    assert "warning: key_refused" in shown
    assert "key_id=k1" in shown
    assert '"' not in shown


def test_a_traceback_keeps_its_lines_on_a_terminal():
    shown = render("x", json.dumps({"event": "failed", "exception": "Traceback:\n  boom"}), terminal=True)
    assert shown.splitlines()[1:] == ["    Traceback:", "      boom"]


@given(st.text())
def test_no_line_can_drive_the_terminal(line: str):
    shown = render("x", line.replace("\n", ""), terminal=True)
    without_ours = shown.replace("\x1b[", "", 2) if shown.startswith("\x1b[") else shown
    assert "\x07" not in shown
    assert without_ours.count("\x1b") <= 2  # the colours of a level


def test_a_stalled_reader_blocks_nobody_and_is_told_what_it_missed(monkeypatch):
    monkeypatch.setattr(output, "QUEUE_LINES", 5)
    gate, shown = threading.Event(), io.StringIO()

    class Stalled(io.StringIO):
        def write(self, text: str) -> int:
            gate.wait(5)
            return shown.write(text)

    console = Console(Stalled(), terminal=False)
    for number in range(50):
        console.show("x", str(number))
    gate.set()
    console.close()
    assert "lines were not shown" in shown.getvalue()


def test_a_reader_that_went_away_is_no_failure():
    stream = io.StringIO()
    stream.close()
    console = Console(stream, terminal=False)
    console.show("x", "1")
    console.close()


def test_streams_that_the_starter_closed_are_filled_and_an_announcement_to_nobody_is_no_failure():
    script = (
        "import os, sys\n"
        "from control_plane.up.output import announce, fill_closed_streams\n"
        "fill_closed_streams()\n"
        "assert os.open('/dev/null', os.O_RDONLY) > 2\n"
        "announce('ready')\n"
        "print('said', file=sys.stderr)\n"
    )
    for redirection in (">&-", ">&- 2>&- <&-", ">/dev/full"):
        command = f'{shlex.quote(sys.executable)} -c "$0" {redirection}'
        done = subprocess.run(["bash", "-c", command, script], check=False, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, (redirection, done.stderr)
