"""Worker processes: each started for one configuration, all ended at the end."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import threading
from collections import Counter, deque
from pathlib import Path

from tests.forked import WorkerProcess, pipe

LAST_LINES = 60
END_TIMEOUT_S = 60.0
ADDRESS = re.compile(r"metrics and probes on http://127\.0\.0\.1:(\d+)")
# What the log tells about recoveries: that faults have had the effect they were made for.
SAID = {
    "checkpoint skipped": re.compile(r"checkpoint skipped"),
    "continued from a checkpoint": re.compile(r": from checkpoint at \d+"),
    "rebuilt from the log's start": re.compile(r"state\.recover: rebuild"),
    "replays": re.compile(r", replaying \d+ offsets"),
    "checkpoint failed": re.compile(r"checkpoint of \S+ at \d+: "),
    "partitions lost": re.compile(r"\blost: "),
}


class Process:
    """One worker process. What it says is read by a thread: a full disk does not silence it."""

    def __init__(self, file: Path, log: Path) -> None:
        self.port: int | None = None
        self.traceback = False
        self.said: Counter[str] = Counter()
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self.log = log
        self._started = threading.Event()
        self._output, theirs = pipe()
        self._worker = WorkerProcess(file, theirs)
        theirs.close()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._worker.pid

    def exit_code(self) -> int | None:
        """None while it runs, or is stopped; minus the signal's number when a signal ended it."""
        return self._worker.poll()

    def signal(self, number: int) -> None:
        self._worker.send_signal(number)

    def wait(self, timeout_s: float) -> int | None:
        """Its exit status; None when it still runs."""
        try:
            code = self._worker.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        self._listener.join(timeout_s)
        return code

    def await_start(self, timeout_s: float) -> None:
        """Until it hears signals as ``worker run`` does, or has ended."""
        self._started.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, stopped or not, and wait for the end."""
        self._worker.kill()
        self.wait(END_TIMEOUT_S)

    def limit_files(self, size_bytes: int | None) -> None:
        """No file may grow beyond this size (None: any may), as if the disk were full: it fails in mid-write."""
        hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (hard if size_bytes is None else size_bytes, hard))

    def _listen(self) -> None:
        with self.log.open("w") as log, open(self._output.fileno(), errors="replace", closefd=False) as lines:
            for line in lines:
                log.write(line)
                log.flush()
                self._note(line.rstrip())
        self._output.close()
        self._started.set()

    def _note(self, line: str) -> None:
        self.last.append(line)
        self.traceback |= line.startswith("Traceback")
        if found := ADDRESS.search(line):
            self.port = int(found[1])
            self._started.set()
        for name, pattern in SAID.items():
            self.said[name] += pattern.search(line) is not None


class Pool:
    """All processes of a run; close it whatever happens."""

    def __init__(self, folder: Path) -> None:
        self.started: list[Process] = []
        self._folder = folder

    def start(self, file: Path) -> Process:
        """A process that runs ``worker run -c FILE``."""
        process = Process(file, self._folder / f"process-{len(self.started):04d}.log")
        self.started.append(process)
        return process

    def close(self) -> None:
        """Kill what still runs."""
        for process in self.started:
            process.signal(signal.SIGKILL)
        for process in self.started:
            process.wait(END_TIMEOUT_S)
