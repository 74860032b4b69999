"""How long the loop waits, how much it takes at once, and where it reads and writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from worker.pipeline.pipeline import Outcome
from worker.records.messages import Messages


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """Every wait and size of the loop."""

    poll_records: int = 4096
    turn_events: int = 4096  # a record is never cut: one with more events is a turn by itself
    turn_bytes_in: int = 4 * 1024 * 1024  # of records; decoded they are up to forty times as large
    turn_bytes_out: int = 16 * 1024 * 1024  # of outputs: what a transaction can write before its time-out
    poll_wait_s: float = 0.1  # how long an idle turn waits for a record; signals are seen in between
    unavailable_wait_s: float = 0.5  # between two polls while the cluster is away
    batch_wait_s: float = 0.0  # how long a turn waits for a fuller batch
    commit_interval_s: float = 1.0
    checkpoint_interval_s: float = 30.0
    lag_interval_s: float = 10.0
    flush_s: float = 120.0  # until outputs are acknowledged; then a new producer writes them again
    kafka_call_s: float = 20.0  # flush and commit, or all look-ups for new partitions: nobody polls meanwhile
    session_s: float = 45.0  # after which the group removes a member that it hears nothing of
    commit_refused_s: float = 60.0  # refused this long: another process has our place, or an output can't be written
    no_progress_s: float = 600.0  # of work in transactions rolled back one after the other
    stop_s: float = 25.0  # to leave in order, all of it: less than the 30 s that Kubernetes gives a pod


@dataclass(frozen=True, slots=True)
class Topics:
    """Where to read and write; ``dead_letters`` None: refused records are only counted and logged."""

    inputs: tuple[str, ...]
    output: str
    dead_letters: str | None

    def messages(self, outcome: Outcome) -> Iterator[tuple[str, Messages]]:
        """The messages for each topic, outputs first."""
        if len(outcome.outputs):
            yield self.output, outcome.outputs
        if self.dead_letters is not None and len(outcome.dead):
            yield self.dead_letters, outcome.dead
