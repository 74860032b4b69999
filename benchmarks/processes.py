"""What the measuring scripts read from a process: memory, files, threads and times, and a worker's own metrics."""

from __future__ import annotations

import http.client
import json
import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
SCRAPE_TIMEOUT_S = 10.0
PROGRAM_TIMEOUT_S = 1800.0


def memory_bytes(pid: int | str = "self", field: str = "VmRSS") -> int:
    """The memory values of /proc/PID/status; VmHWM is the highest VmRSS so far."""
    return _status(pid, field) * 1024


def threads(pid: int | str) -> int:
    return _status(pid, "Threads")


def open_files(pid: int | str) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def cpu_seconds(pid: int | str) -> float:
    """What a process has used so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(pid: int | str, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise ValueError(f"/proc/{pid}/status has no {field}")


def scrape(port: int) -> dict[str, float]:
    """A worker's metrics, see ``sums``. Raises OSError."""
    connection = http.client.HTTPConnection(HOST, port, timeout=SCRAPE_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        return sums(connection.getresponse().read().decode())
    finally:
        connection.close()


def sums(exposition: str) -> dict[str, float]:
    """Each name of Prometheus' text format, summed over its labels. Raises ValueError for a line of another form."""
    found: dict[str, float] = defaultdict(float)
    for line in exposition.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            found[name.partition("{")[0]] += float(value)
    return dict(found)


def run(*arguments: str) -> tuple[float, float]:
    """Seconds by the clock and of processor time that this Python takes for a program, including its start."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=PROGRAM_TIMEOUT_S)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imports() -> dict[str, float]:
    """What every program that uses TensorFlow and Keras pays, in seconds."""
    seconds, cpu_s = run("-c", "import tensorflow, keras")
    return {"import tensorflow, keras": seconds, "  CPU": cpu_s}


def answer_of(*arguments: str) -> Any:
    """The last line that a program prints in this Python, as JSON: for measurements that need a separate process."""
    command = [sys.executable, *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_TIMEOUT_S, check=False)
    if answer.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{answer.stderr[-4000:]}")
    return json.loads(answer.stdout.splitlines()[-1])
