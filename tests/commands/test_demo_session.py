"""The demonstration when its worker fails: another program in the worker's place, everything else is real."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from worker.commands.demo import session, stage
from worker.commands.demo.session import Options, run
from worker.errors import WorkerError

# Says that it is ready, reads nothing, answers nothing; {after} is what it does once it has said so.
READY = """
import http.server, sys, threading, time, yaml, signal
port = yaml.safe_load(open(sys.argv[sys.argv.index("-c", 1) + 1]))["http"]["port"]
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"# all partitions\\nrnnw_assigned_partitions 4.0\\n")
        print("asked whether ready", flush=True)
        threading.Thread(target=after).start()
    def log_message(self, *words):
        pass
def after():
    {after}
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.HTTPServer(("127.0.0.1", port), Ready).serve_forever()
"""


def play(monkeypatch: pytest.MonkeyPatch, bootstrap_servers: str, after: str) -> tuple[str, str]:
    """What is printed, and the error."""
    monkeypatch.setattr(stage, "COMMAND", (sys.executable, "-c", READY.replace("{after}", after)))
    monkeypatch.setattr(session, "STALL_TIMEOUT_S", 5.0)
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=False)
    with pytest.raises(WorkerError) as raised:
        run(Options(bootstrap_servers, events=50, watches=5, speed=100.0), console)
    return out.getvalue(), str(raised.value)


def test_a_worker_that_answers_nothing_is_told_with_the_end_of_its_log(
    monkeypatch: pytest.MonkeyPatch, bootstrap_servers: str
) -> None:
    out, error = play(monkeypatch, bootstrap_servers, "pass")
    assert error.startswith("no output for 5 s although 50 events wait for theirs; the last lines of its log:")
    assert "asked whether ready" in error
    assert "exactly one output" not in out


def test_a_worker_that_dies_during_the_play_is_told_with_the_end_of_its_log(
    monkeypatch: pytest.MonkeyPatch, bootstrap_servers: str
) -> None:
    die = "import os; print('disk full', flush=True); os._exit(1)"
    out, error = play(monkeypatch, bootstrap_servers, f"time.sleep(0.2); {die}")
    assert error.startswith("the worker ended with status 1 while it was still needed; the last lines of its log:")
    assert "disk full" in error
    assert "exactly one output" not in out
