"""Worker processes: started ahead of time, told their configuration when they are needed, all ended at the end."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LAST_LINES = 60
SPARES = 2
END_TIMEOUT_S = 60.0
ADDRESS = re.compile(r"metrics and probes on http://127\.0\.0\.1:(\d+)")
# What the log tells about recoveries: that faults have had the effect they were made for.
SAID = {
    "checkpoint skipped": re.compile(r"checkpoint skipped"),
    "went on from a checkpoint": re.compile(r": from checkpoint at \d+"),
    "rebuilt from the log's start": re.compile(r"state\.recover: rebuild"),
    "replays": re.compile(r", replaying \d+ offsets"),
    "checkpoint failed": re.compile(r"checkpoint of \S+ at \d+: "),
    "partitions lost": re.compile(r"\blost: "),
}


class Process:
    """One worker process, a spare until ``run``. What it says is read by a thread: a full disk does not silence it."""

    def __init__(self, log: Path) -> None:
        self.port: int | None = None
        self.traceback = False
        self.said: Counter[str] = Counter()
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self.log = log
        self._started = threading.Event()
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.spare", str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            start_new_session=True, cwd=ROOT,
        )  # fmt: skip
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def run(self, file: Path) -> None:
        """Be ``worker run -c FILE`` from now on."""
        assert self._popen.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already: whoever looks at its exit status learns why
            self._popen.stdin.write(f"{file}\n")
            self._popen.stdin.close()

    def exit_code(self) -> int | None:
        """None while it runs, or is stopped; minus the signal's number when a signal ended it."""
        return self._popen.poll()

    def signal(self, number: int) -> None:
        self._popen.send_signal(number)

    def wait(self, timeout_s: float) -> int | None:
        """Its exit status; None when it still runs."""
        try:
            code = self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        self._listener.join(timeout_s)
        return code

    def await_start(self, timeout_s: float) -> None:
        """Until it hears signals as ``worker run`` does, or has ended."""
        self._started.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, stopped or not, and wait for the end."""
        self._popen.kill()
        self.wait(END_TIMEOUT_S)

    def limit_files(self, size_bytes: int | None) -> None:
        """No file may grow beyond this size (None: any may), as if the disk were full: it fails in mid-write."""
        hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (hard if size_bytes is None else size_bytes, hard))

    def _listen(self) -> None:
        assert self._popen.stdout is not None
        with self.log.open("w") as log, self._popen.stdout as lines:
            for line in lines:
                log.write(line)
                log.flush()
                self._note(line.rstrip())
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

    def __init__(self, folder: Path, spares: int = SPARES) -> None:
        self.started: list[Process] = []
        self._folder, self._wanted = folder, spares
        self._spares: deque[Process] = deque()
        self.fill()

    def take(self, file: Path) -> Process:
        """A process that runs ``worker run -c FILE``: a spare, or (when there is none left) a new one."""
        process = self._spares.popleft() if self._spares else self._new()
        process.run(file)
        return process

    def fill(self) -> None:
        """Start what spares are missing. Not while workers recover: importing takes a processor for seconds."""
        while len(self._spares) < self._wanted:
            self._spares.append(self._new())

    def close(self) -> None:
        """Kill what still runs."""
        for process in self.started:
            if process.exit_code() is None:
                with suppress(ProcessLookupError):
                    process.signal(signal.SIGKILL)
        for process in self.started:
            process.wait(END_TIMEOUT_S)

    def _new(self) -> Process:
        process = Process(self._folder / f"process-{len(self.started):04d}.log")
        self.started.append(process)
        return process
