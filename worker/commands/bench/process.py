"""A contender as a process that never outlives the benchmark, watched from outside."""

from __future__ import annotations

import os
import secrets
import signal
import tempfile
import time
from pathlib import Path
from types import TracebackType

from worker.commands.bench.contenders import Contender, Task
from worker.commands.bench.null import READY
from worker.errors import WorkerError
from worker.kafka.embedded.supervisor import Supervised
from worker.web.probing import has_partitions

READY_TIMEOUT_S = 300.0
READY_POLL_S = 0.2
END_TIMEOUT_S = 60.0
LOG_TAIL_LINES = 25


class Running:
    """A contender at work, as a context manager; ended with SIGTERM. ``cores``: as taskset takes them, None = all."""

    def __init__(self, contender: Contender, task: Task, cores: str | None = None) -> None:
        self.name = contender.name
        self._log = task.folder / "log"
        self._supervised = Supervised(task.folder, remove=True)
        pinned = [] if cores is None else ["taskset", "-c", cores]
        self.pid = self._supervised.run([*pinned, *contender.command(task)], self._log)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._supervised.signal(signal.SIGTERM)
        self._supervised.wait(END_TIMEOUT_S)
        self._supervised.close()

    def await_ready(self, port: int | None, partitions: int) -> None:
        """Until a worker with this HTTP port has its partitions, or one without says so. Raises WorkerError."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not (READY in self._log.read_text() if port is None else has_partitions(port, partitions)):
            self.check()
            if time.monotonic() > deadline:
                raise self.failure(f"is not ready after {READY_TIMEOUT_S:.0f} s")
            time.sleep(READY_POLL_S)

    def check(self) -> None:
        """Raise WorkerError when it has ended by itself."""
        if (status := self._supervised.exit_code()) is not None:
            raise self.failure(f"ended by itself, status {status}")

    def failure(self, what: str) -> WorkerError:
        """An error with the last lines of its log."""
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return WorkerError("\n".join([f"{self.name} {what}", *(f"  {line}" for line in lines)]))

    def cpu_s(self) -> float:
        """Processor time of the process and its threads, user and system (Linux); 0 where there is no /proc."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def new_folder() -> Path:
    """The path of a folder that does not exist yet."""
    return Path(tempfile.gettempdir()) / f"rnn-stream-worker-bench-{secrets.token_hex(8)}"
