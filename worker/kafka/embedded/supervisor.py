"""Keeps a child from outliving its owner, even one ended by kill -9: a small watcher process stands between them.

Rule: the watcher does what its owner's pipe says, and when the pipe closes it ends the child and removes the folder it
was told to remove. Standard library only, because the watcher runs this file by its path, without site-packages.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OWNER_POLL_S = 0.5  # a fork of the owner may keep the pipe open: the parent id then shows that the owner is gone
GRACE_S = 10.0  # for a child whose folder is kept
ANSWER_TIMEOUT_S = 60.0
LINUX_PR_SET_PDEATHSIG = 1


class FolderInUseError(Exception):
    """Another watcher's child works in this folder."""


class Supervised:
    """The owner's side: at most one child at a time, in a process group of its own (Ctrl-C does not reach it).

    ``folder`` is made when missing and locked; with ``remove`` it is gone after ``close`` or after the owner's end.
    Raises FolderInUseError when another watcher has it, OSError when it can't be made.
    """

    def __init__(self, folder: Path, *, remove: bool) -> None:
        self._folder_to_remove = folder if remove else None
        self._watcher = subprocess.Popen(  # noqa: S603 - this file
            [sys.executable, "-I", "-S", __file__, str(folder), "remove" if remove else "keep"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._buffer = b""
        self._code: int | None = None
        self._running = False
        try:
            answer = self._answer(ANSWER_TIMEOUT_S)
            if "in use" in answer:
                raise FolderInUseError(folder)
        except BaseException:
            self.close()
            raise

    def run(self, command: Sequence[str], log: Path) -> int:
        """Start the child, its output appended to ``log``; returns its process id. Raises OSError."""
        assert not self._running, "one child at a time"
        self._code = None
        self._tell({"run": list(command), "log": str(log)})
        answer = self._answer(ANSWER_TIMEOUT_S)
        if "pid" not in answer:
            raise OSError(answer["error"])
        self._running = True
        return int(answer["pid"])

    def signal(self, number: int) -> None:
        """Send a signal to the child, if it still runs."""
        if self.exit_code() is None and self._running:
            self._tell({"signal": int(number)})

    def exit_code(self) -> int | None:
        """None while the child runs; minus the signal's number when a signal ended it."""
        return self.wait(0.0)

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the child's end; None when it still runs after ``timeout_s``."""
        if self._running:
            try:
                self._code = int(self._answer(timeout_s)["exit"])
            except TimeoutError:
                return None
            except OSError:  # the watcher was killed, and the child with it
                self._code = -signal.SIGKILL
            self._running = False
        return self._code

    def close(self) -> None:
        """End the child, and wait until the folder is removed (if it is to be). Safe to call twice."""
        if self._watcher.poll() is None:
            with contextlib.suppress(OSError):
                self._pipe_in.close()
            self._watcher.wait(ANSWER_TIMEOUT_S)
        self._pipe_out.close()
        self._running = False
        if self._folder_to_remove is not None:  # the watcher has done it, unless it was killed
            shutil.rmtree(self._folder_to_remove, ignore_errors=True)

    @property
    def _pipe_in(self) -> Any:
        return self._watcher.stdin

    @property
    def _pipe_out(self) -> Any:
        return self._watcher.stdout

    def _tell(self, order: dict[str, object]) -> None:
        self._pipe_in.write(json.dumps(order).encode() + b"\n")
        self._pipe_in.flush()

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            if not select.select([self._pipe_out], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            chunk = os.read(self._pipe_out.fileno(), 65536)
            if not chunk:
                raise OSError("the watcher process has ended")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


class _Watcher:
    """The watcher's side; runs in a process of its own."""

    def __init__(self, folder: str, remove: bool) -> None:
        self.folder = folder
        self.remove = remove
        self.child: subprocess.Popen[bytes] | None = None

    def serve(self, owner: int, wakeup: int) -> None:
        self.say({"ready": True})
        pending = b""
        while os.getppid() == owner:
            readable = select.select([0, wakeup], [], [], OWNER_POLL_S)[0]
            if wakeup in readable:
                os.read(wakeup, 4096)
            self._report_exit()
            if 0 in readable:
                chunk = os.read(0, 65536)
                if not chunk:
                    return
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))

    def end(self) -> None:
        if self.child is not None and self.child.poll() is None:
            if not self.remove:
                self.child.send_signal(signal.SIGCONT)
                self.child.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.child.wait(GRACE_S)
            if self.child.poll() is None:
                os.killpg(self.child.pid, signal.SIGKILL)
                self.child.wait()
        if self.remove:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _obey(self, order: dict[str, Any]) -> None:
        if "run" in order:
            self._run(order["run"], order["log"])
        elif self.child is not None and self.child.poll() is None:
            self.child.send_signal(order["signal"])

    def _run(self, command: list[str], log: str) -> None:
        try:
            with open(log, "ab") as out:  # noqa: PTH123
                self.child = subprocess.Popen(  # noqa: S603 - the command is the owner's
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    preexec_fn=_die_with_parent if sys.platform == "linux" else None,
                )
        except OSError as error:
            self.say({"error": str(error)})
            return
        self.say({"pid": self.child.pid})
        self._report_exit()

    def _report_exit(self) -> None:
        if self.child is not None and (code := self.child.poll()) is not None:
            self.child = None
            self.say({"exit": code})

    def say(self, answer: dict[str, object]) -> None:
        os.write(1, json.dumps(answer).encode() + b"\n")


def _die_with_parent() -> None:
    # Linux only: covers the one case left, a watcher that is itself ended by kill -9.
    ctypes.CDLL(None).prctl(LINUX_PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(folder: str, remove: bool) -> None:
    owner = os.getppid()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    watcher = _Watcher(folder, remove)
    # pathlib would double this process's start time
    os.makedirs(folder, mode=0o700 if remove else 0o777, exist_ok=not remove)  # noqa: PTH103
    with open(os.path.join(folder, ".lock"), "a") as lock:  # noqa: PTH118, PTH123
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            watcher.say({"in use": folder})
            return
        try:
            watcher.serve(owner, read_end)
        finally:
            watcher.end()


if __name__ == "__main__":
    _watch(sys.argv[1], sys.argv[2] == "remove")
