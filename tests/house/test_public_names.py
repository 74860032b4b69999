"""What ``from worker import …`` promises is there, and is loaded only when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import worker


def test_every_public_name_is_there() -> None:
    assert [name for name in worker.__all__ if not hasattr(worker, name)] == []


def test_importing_worker_loads_none_of_its_rooms() -> None:
    program = "import sys, worker; print([name for name in sys.modules if name.startswith('worker.')])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert answer.stdout.strip() == "[]"
