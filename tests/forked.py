"""``worker run`` as a process that has imported everything at its start: it is forked from one that did so once.

Importing TensorFlow is nearly all of a start, seconds of a processor each time. What is forked has done nothing yet
but import, and never outlives whoever asked for it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType

LINUX_PR_SET_PDEATHSIG = 1
COMMAND = ("worker", "run", "-c")
NOTHING_MORE: Mapping[str, str] = MappingProxyType({})
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["worker.commands.run.service", "worker.__main__", "tests.forked"])


class WorkerProcess:
    """``worker run -c FILE``. Its output goes to a file or to the end of a pipe; to be used as a subprocess.Popen."""

    def __init__(self, file: Path, output: Path | Connection, environment: Mapping[str, str] = NOTHING_MORE) -> None:
        arguments = (file, output, Path.cwd(), {**os.environ, **environment})
        self._process = _context.Process(target=_be, args=arguments, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Its exit status, None while it runs; minus the signal's number when a signal ended it."""
        return self._process.exitcode

    def wait(self, timeout_s: float) -> int:
        """Its exit status; raises subprocess.TimeoutExpired."""
        self._process.join(timeout_s)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired(COMMAND, timeout_s)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def pipe() -> tuple[Connection, Connection]:
    """The end to read from, and the one to give to a process (and to close then)."""
    return _context.Pipe(duplex=False)


def _be(file: Path, output: Path | Connection, folder: Path, environment: Mapping[str, str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(LINUX_PR_SET_PDEATHSIG, signal.SIGKILL)
    asking = multiprocessing.parent_process()
    if asking is None or not asking.is_alive():
        return  # it ended before the line above
    from worker.__main__ import main

    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    said = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if isinstance(output, Path) else output.fileno()
    for standard in (1, 2):
        os.dup2(said, standard)
    sys.argv = [*COMMAND, str(file)]
    main()
