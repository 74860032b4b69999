"""The workers of a leg: who is in the group, in which process, with which configuration."""

from __future__ import annotations

import http.client
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.plan import MEMBERS_AT_MOST
from tests.faults.pool import END_TIMEOUT_S, Pool, Process

METRICS_TIMEOUT_S = 5.0
IN_USE = "is in use by another process"  # true while a process that was replaced during its pause lives on
LINES_AT_THE_END = 40  # the stacks of all threads, if it hung
RESTART_PAUSE_S = 1.0  # between two lives of a member that ends by itself
OWNING = re.compile(r"^rnnw_assigned_partitions ([1-9]\d*)\.0$", re.M)
FAILED = re.compile(r'^rnnw_checkpoint_total\{result="failed"\} (\d+)\.0$', re.M)


@dataclass(slots=True)
class Member:
    """A place in the group, with a configuration file and (if static) a name of its own."""

    number: int
    file: Path
    process: Process
    paused: bool = False
    doubled: bool = False  # another process with its name lived when this one began
    begun: float = field(default_factory=time.monotonic)

    def metrics(self) -> str:
        """What it says of itself; empty while it does not answer."""
        if self.process.port is None or self.paused:
            return ""
        connection = http.client.HTTPConnection("127.0.0.1", self.process.port, timeout=METRICS_TIMEOUT_S)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()

    def owns(self) -> bool:
        """Whether it has partitions now."""
        return OWNING.search(self.metrics()) is not None

    def failed_checkpoints(self) -> int:
        """Checkpoints that could not be written, in this life."""
        found = FAILED.search(self.metrics())
        return int(found[1]) if found else 0


class Members:
    """All members of a leg. ``configure`` writes the configuration of a place and answers its file."""

    def __init__(self, pool: Pool, configure: Callable[[int], Path], report: Callable[[str, str], None]) -> None:
        self.members: list[Member] = []
        self.restarts = 0
        self.ended: Counter[str] = Counter()  # last line → how often a worker has ended by itself with it
        self._pool, self._configure, self._report = pool, configure, report
        self.lives: list[Process] = []  # every process that was a member
        # Replaced while they were paused, by number: they end by themselves or are ended. One that wakes up may take
        # its name back, as long as it has not heard that it is another's: then the new one ends, its successor wins.
        self._left: list[tuple[int, Process]] = []

    def add(self) -> Member:
        """A worker more, in the first free place."""
        number = min(set(range(MEMBERS_AT_MOST)) - {member.number for member in self.members})
        file = self._configure(number)
        member = Member(number, file, self._take(file))
        self.members.append(member)
        return member

    def replace(self, member: Member) -> None:
        """A new process in the place of one that has ended, or (when still there) beside it."""
        if member.process.exit_code() is None:
            self._left.append((member.number, member.process))
        self.restarts += 1
        member.doubled = any(number == member.number and left.exit_code() is None for number, left in self._left)
        member.process, member.paused, member.begun = self._take(member.file), False, time.monotonic()

    def stop(self, member: Member) -> None:
        """SIGTERM; it must end with status 0."""
        self._tell_to_end(member)
        self._await_end(member)

    def _take(self, file: Path) -> Process:
        self.lives.append(self._pool.start(file))
        return self.lives[-1]

    def _tell_to_end(self, member: Member) -> None:
        # A process that has just begun to be a worker would die of the signal: that is the interpreter's way.
        member.process.await_start(END_TIMEOUT_S)
        member.process.signal(signal.SIGTERM)

    def _await_end(self, member: Member) -> None:
        code = member.process.wait(END_TIMEOUT_S)
        if code is None:
            self._report("hang", f"worker {member.number} did not end in {END_TIMEOUT_S:.0f} s after SIGTERM")
            member.process.kill()
        elif code != 0:
            said = " | ".join(list(member.process.last)[-LINES_AT_THE_END:])
            self._report("exit", f"worker {member.number}: exit status {code} after SIGTERM: {said}")

    def remove(self, member: Member) -> None:
        """A worker less, in order."""
        self.stop(member)
        self.members.remove(member)

    def victim(self, draw: random.Random) -> Member:
        """One of those that have partitions; when nobody has, any."""
        place = draw.random()
        alive = [member for member in self.members if member.process.port is not None]
        candidates = [member for member in alive if member.owns()] or alive or self.members
        return candidates[int(place * len(candidates))]

    def look(self) -> None:
        """As a supervisor does: a worker that has ended by itself is started again, and it is noted."""
        for member in self.members:
            code = member.process.exit_code()
            if code is None or time.monotonic() - member.begun < RESTART_PAUSE_S:
                continue
            member.process.wait(END_TIMEOUT_S)
            last = member.process.last[-1] if member.process.last else ""
            self.ended[last] += 1
            if IN_USE in last and not member.doubled:
                self._report("false reason", f"worker {member.number}: no other process has its id: {last}")
            if code != 1 or member.process.traceback:
                said = "\n    ".join(member.process.last)
                self._report("crash", f"worker {member.number} ended by itself, status {code}:\n    {said}")
            self.replace(member)

    def end_doubles(self) -> None:
        """End the processes that were replaced while they were paused."""
        for _, process in self._left:
            process.kill()
        self._left.clear()

    def close(self) -> None:
        """All leave in order, together."""
        for member in self.members:
            self._tell_to_end(member)
        for member in self.members:
            self._await_end(member)

    def kill(self) -> None:
        """All of them, at once."""
        self.end_doubles()
        for member in self.members:
            member.process.kill()
