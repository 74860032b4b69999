"""One run of one contender: started, watched from outside, ended, judged."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from worker.commands.bench.contenders import Contender, Task
from worker.commands.bench.job import Job
from worker.commands.bench.judge import check_answers, events_per_s
from worker.commands.bench.models import Expected
from worker.commands.bench.process import Running, new_folder
from worker.commands.bench.topics import Topics
from worker.errors import WorkerError

LOOK_S = 0.25
QUIET_S = 1.5  # without a new output, once all are there: transactions end with a marker
STALLED_S = 120.0  # without a new output, when some are missing


@dataclass(frozen=True, slots=True)
class Figures:
    """``cpu_us``: processor time of the process per event, from its first outputs on."""

    events_per_s: float
    cpu_us: float


@dataclass(slots=True)
class Bench:
    """What all runs of one job share. ``cores``: contenders are held to these (taskset); None = all."""

    topics: Topics
    job: Job
    source: str
    model: Path
    expected: Expected | None
    cores: str | None = None

    def run(self, contender: Contender) -> Figures:
        """Raises WorkerError when it ends, stalls, or answers wrongly."""
        target = self.topics.create("answers")
        servers = self.topics.settings.bootstrap_servers
        task = Task(servers, self.source, target, self.job.names, self.job.streams, self.model, new_folder())
        with Running(contender, task, self.cores) as running:
            cpu_us = await_outputs(self.topics, running, target, self.job.events)
        written = self.topics.read(target)
        self.topics.drop(target)
        check_answers(contender.name, written, self.job, self.expected if contender.predicts else None)
        return Figures(events_per_s(written, contender.warm_up), cpu_us)


class Watched(Protocol):
    """What is running: one process, or several as one."""

    def check(self) -> None:
        """Raise WorkerError if it has ended by itself."""

    def failure(self, what: str) -> WorkerError:
        """An error with the last lines of its log."""

    def cpu_s(self) -> float:
        """Processor time so far."""


def await_outputs(topics: Topics, running: Watched, target: str, events: int) -> float:
    """Until every event has its output; µs of processor time per event. Raises WorkerError when it ends or stalls."""
    seen, changed_at = 0, time.monotonic()
    begun, spent_us = (0, 0.0), 0.0  # (outputs, processor time) when the first ones were there
    while True:
        time.sleep(LOOK_S)
        running.check()
        records, now, cpu_s = topics.records(target), time.monotonic(), running.cpu_s()
        if records > seen:
            begun = begun if seen else (records, cpu_s)
            spent_us = 1e6 * (cpu_s - begun[1]) / max(records - begun[0], 1)
            seen, changed_at = records, now
        elif seen >= events and now - changed_at > QUIET_S:
            return spent_us
        elif now - changed_at > STALLED_S:
            raise running.failure(f"has written nothing for {STALLED_S:.0f} s, after {seen:,} outputs")
