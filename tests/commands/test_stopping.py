"""A signal may arrive in the middle of ``wait``, between any two of its steps."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

from worker.stopping import Stopping

ROUNDS = 20_000
# With threading.Event in the place of Stopping this stands still within a second.
INTERRUPTED = f"""
import signal, threading
from worker.stopping import Stopping

stop = Stopping()
signal.signal(signal.SIGALRM, lambda *_: stop.set())
for round in range({ROUNDS}):
    stop = Stopping()
    signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + round % 60))
    while not stop.wait(2e-5):
        pass
print("answered")
"""


def test_a_signal_in_the_middle_of_wait() -> None:
    answer = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=300)
    assert answer.stdout == "answered\n", answer.stderr


def test_wait_ends_when_it_is_told_from_another_thread() -> None:
    stop = Stopping()
    assert not stop.is_set()
    assert not stop.wait(0.0)
    threading.Timer(0.05, stop.set).start()
    begun = time.monotonic()
    assert stop.wait(300.0)
    assert time.monotonic() - begun < 200.0
    assert stop.is_set()
    assert stop.wait(300.0), "set once, set for ever"


STANDS_STILL = """
import threading
from worker.commands.run import command as run
run.END_LIMIT_S = 1.0
stop = run.stop_on_signals()
print("up", flush=True)
stop.wait(300.0)

def never_ends():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
never_ends()
"""


def test_what_never_ends_is_shown_and_ended() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STANDS_STILL], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "in never_ends" in said
