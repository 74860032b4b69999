"""A worker whose surroundings are in the test's hands: broker in memory, sums for a model, a clock that the test moves.

Everything else is real: loop, pipeline, recovery, checkpoint files and their writer, metrics and status.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.sums import SPECS, sums_pipeline
from worker.checkpoints.folder import CheckpointStore
from worker.checkpoints.header import CheckpointIdentity
from worker.checkpoints.writer import CheckpointWriter
from worker.errors import KafkaUnavailableError
from worker.kafka.contracts import NO_NOTES, Notes
from worker.kafka.memory.broker import MemoryBroker
from worker.kafka.memory.sinks import MemorySink, MemoryTransactions
from worker.kafka.memory.source import MemorySource
from worker.member.delivery import AtLeastOnce, Delivery, ExactlyOnce
from worker.member.limits import LoopLimits, Topics
from worker.member.loop import Worker
from worker.member.owned_states import OwnedStates
from worker.member.recovery import Recovery
from worker.member.recovery_policy import RecoveryPolicy
from worker.member.reporter import Reporter
from worker.member.timing import Clock
from worker.pipeline.generation import GenerationPipeline
from worker.pipeline.pipeline import Pipeline
from worker.records.events import Reset
from worker.records.ownership import Partition
from worker.records.record_batch import Headers, RecordBatch
from worker.records.states import PartitionState, StateSpec
from worker.web.metrics import Metrics
from worker.web.status import WorkerStatus

IN, OUT, DEAD, GROUP = "in", "out", "dead", "group"
P0, P1 = Partition(IN, 0), Partition(IN, 1)
MODEL, OTHER_MODEL = "a" * 64, "b" * 64
WALL_S = 1_000_000.0  # of the day, when the test's time is 0
WRITER_TIMEOUT_S = 120.0
COMMIT_S, CHECKPOINT_S = 1.0, 30.0  # the loop's intervals
DRAIN_TURNS_LIMIT = 200
AWAY = KafkaUnavailableError("nobody answers")

Row = tuple[Any, ...]  # (partition number, key, value, timestamp ms = 0, headers = None); value: number, bytes or None


class Cluster:
    """What outlives a worker: the broker, the checkpoint folder, and time (seconds)."""

    def __init__(self, folder: Path, rows: Iterable[Row] = (), partitions: int = 2) -> None:
        self.broker = MemoryBroker({IN: partitions, OUT: 1, DEAD: 1})
        self.folder = folder
        self.now_s = 0.0
        self.day_passes = False  # with the test's time
        self.numbers = itertools.count()
        self.commits_take_s = 0.0  # those of transactions
        self.restored: Callable[[], object] = lambda: None  # called after each partition that a member takes over
        self.write(rows)

    def clock(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return WALL_S + (self.now_s if self.day_passes else 0.0)

    def write(self, rows: Iterable[Row]) -> None:
        for number, key, value, *more in rows:
            if isinstance(value, int | float):
                value = json.dumps({"x": value}).encode()
            rest: Row = (*more, *(0, None)[len(more) :])
            time_ms, headers = rest
            self.broker.append(IN, key, value, headers, time_ms, partition=number)

    def outputs(self) -> list[dict[str, Any]]:
        return [json.loads(record.value or b"") for record in self.broker.records(OUT)]

    def sums(self) -> list[Row]:
        """(partition, offset, step, sum, origin) of each output, as written."""
        return [
            (o["source"]["partition"], o["source"]["offset"], o["step"], o["probabilities"][0], o["origin"])
            for o in self.outputs()
        ]

    def dead(self) -> list[Row]:
        """(error, partition, offset) of each dead letter, as written."""
        headers = [dict(record.headers or ()) for record in self.broker.records(DEAD)]
        return [
            (str(h["rnnw.error"] or b"", "ascii"), int(h["rnnw.partition"] or 0), int(h["rnnw.offset"] or 0))
            for h in headers
        ]

    def committed(self, partition: Partition = P0) -> int | None:
        return self.broker.committed(GROUP, partition)

    def checkpoints(self, partition: Partition = P0) -> list[int]:
        """Positions of the files, oldest first."""
        entries = CheckpointStore(self.folder, GROUP).candidates(partition, None)
        return [entry.next_offset for entry in reversed(entries)]


class Source(MemorySource):
    """Waits in the test's time, for what is to arrive; writes down calls; can lose the answer to a commit."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.broker, GROUP)
        self.cluster = cluster
        self.arrivals: list[tuple[float, Callable[[], object]]] = []  # (when, what happens), in order
        self.polls: list[tuple[int, float]] = []
        self.commits: list[tuple[dict[Partition, int], int]] = []  # (offsets, outputs in their log at that time)
        self.unanswered = 0
        self.outside = False  # the group has not let it in yet
        self.silent = False  # the cluster answers no commit: each waits as long as it may

    @property
    def joined(self) -> bool:
        return super().joined and not self.outside

    def poll(self, max_records: int, timeout_s: float) -> list[RecordBatch]:
        self.polls.append((max_records, timeout_s))
        batches = super().poll(max_records, timeout_s)
        if batches:
            return batches
        until_s = self.cluster.now_s + timeout_s
        if self.arrivals and self.arrivals[0][0] <= until_s:
            self.cluster.now_s, arrive = self.arrivals.pop(0)
            arrive()
            return super().poll(max_records, 0.0)
        self.cluster.now_s = until_s
        return []

    def still_here(self) -> None:
        super().still_here()
        self.cluster.restored()

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float, notes: Notes = NO_NOTES) -> None:
        if self.silent:
            self.cluster.now_s += timeout_s
            raise AWAY
        super().commit(offsets, timeout_s, notes)
        self.commits.append((dict(offsets), len(self.cluster.broker.records(OUT))))
        if self.unanswered:
            self.unanswered -= 1
            raise AWAY


class Transactions(MemoryTransactions):
    """Can lose the answer to a commit, as Source can."""

    def __init__(self, cluster: Cluster, transactional_id: str) -> None:
        super().__init__(cluster.broker, transactional_id)
        self.cluster = cluster

    def commit(
        self, offsets: Mapping[Partition, int], member: object, timeout_s: float, notes: Notes = NO_NOTES
    ) -> None:
        self.cluster.now_s += self.cluster.commits_take_s
        super().commit(offsets, member, timeout_s, notes)
        assert isinstance(member, Source)
        if member.unanswered:
            member.unanswered -= 1
            with self._whole():
                raise AWAY


class PatientWriter(CheckpointWriter):
    """Waits for its thread after each snapshot, so that a test sees the same files in every run."""

    def submit(self, state: PartitionState, identity: CheckpointIdentity) -> None:
        super().submit(state, identity)
        assert self.wait(WRITER_TIMEOUT_S)


class Member:
    """One worker of the group. ``pipeline`` and the rest may differ from member to member."""

    def __init__(
        self,
        cluster: Cluster,
        pipeline: Pipeline | GenerationPipeline | None = None,
        policy: RecoveryPolicy | None = None,
        model: str = MODEL,
        folder: Path | None = None,
        joined: bool = True,
        exactly_once: bool = False,
        patient: bool = True,
        specs: Sequence[StateSpec] = SPECS,
        **limits: Any,
    ) -> None:
        self.cluster = cluster
        self.source = Source(cluster)
        self.metrics, self.status = Metrics(), WorkerStatus(cluster.clock)
        store = CheckpointStore(folder or cluster.folder, GROUP)
        self.writer = (PatientWriter if patient else CheckpointWriter)(store)
        given = LoopLimits(**{"commit_interval_s": COMMIT_S, "checkpoint_interval_s": CHECKPOINT_S, **limits})
        self.sink = MemorySink(cluster.broker)
        clock = Clock(cluster.clock, cluster.wall)
        pipeline, reporter = pipeline or sums_pipeline(), Reporter(self.metrics, self.status, clock)
        recovery = Recovery(store, CheckpointIdentity(model, "", GROUP, "0"), specs, policy or RecoveryPolicy())
        self.worker = Worker(
            self.source,
            self._delivery(exactly_once, given),
            pipeline,
            OwnedStates(self.source, pipeline.engine.table, recovery, self.writer, reporter, given, clock),
            reporter,
            Topics((IN,), OUT, DEAD),
            given,
            clock,
        )
        if joined:
            self.worker.start(cluster.now_s)

    def _delivery(self, exactly_once: bool, limits: LoopLimits) -> Delivery:
        if not exactly_once:
            return AtLeastOnce(self.source, self._open, limits, self.cluster.clock)
        name = f"writer-{next(self.cluster.numbers)}"
        return ExactlyOnce(self.source, lambda: Transactions(self.cluster, name), limits)

    def _open(self) -> MemorySink:
        self.sink = MemorySink(self.cluster.broker)
        return self.sink

    def turn(self, records: int = 4096, after_s: float = 0.0) -> int | None:
        """One turn of at most so many records; with ``after_s`` the commit or the checkpoint may be due."""
        self.cluster.now_s += after_s
        self.worker.limits = replace(self.worker.limits, poll_records=records)
        return self.worker.turn(self.cluster.now_s)

    def drain(self) -> None:
        """Turn, committing each time, until everything in the log is read and committed."""
        for _ in range(DRAIN_TURNS_LIMIT):
            self.turn(after_s=COMMIT_S)
            positions = self.worker.positions.all()
            ends = {partition: self.cluster.broker.log_range(partition)[1] for partition in positions}
            done = not self.worker.positions.uncommitted() and not self.worker.pipeline.busy
            if positions and positions == ends and done:
                return
        raise AssertionError(f"not at the end: {positions} of {ends}")

    def checkpoint(self) -> None:
        self.worker.checkpoint(self.cluster.now_s)

    def close(self) -> None:
        self.worker.close(self.cluster.now_s)

    def crash(self, survivors: int = 0) -> None:
        """The process is gone; of its unflushed messages the first ``survivors`` have reached their logs."""
        self.sink.crash(survivors)
        self.cluster.broker.crash(self.source)
        self.writer.close(WRITER_TIMEOUT_S)  # only so that no thread is left

    def owned(self) -> set[Partition]:
        return set(self.worker.positions.all())

    def value(self, name: str, **labels: Any) -> float | None:
        """A metric's value; None where there is none."""
        return self.metrics.registry.get_sample_value(f"rnnw_{name}", {k: str(v) for k, v in labels.items()})

    def states(self, partition: Partition) -> dict[str, Any]:
        """What the next events of this partition will meet, stream by stream."""
        pipeline = self.worker.pipeline
        return meaning(pipeline.engine.table.snapshot(partition, 0), pipeline.engine.rules.idle_ms)


def meaning(state: PartitionState, idle_ms: int | None) -> dict[str, Any]:
    """Streams that begin anew at their next event by why they will, the others by all that is known of them.

    Whether the row of a stream that is done with has been freed yet depends on turns, and shows in no output.
    """
    found: dict[str, Any] = {"": state.clock}
    found.update({key: Reset(reason).name for key, reason in state.forgotten.items()})
    for row, key in enumerate(state.keys):
        idle = idle_ms is not None and state.clock - state.clocks[row] > idle_ms
        if state.pending[row] or idle:
            found[key] = Reset(int(state.pending[row]) or Reset.IDLE).name
        else:
            numbers = [int(column[row]) for column in (state.steps, state.times, state.clocks)]
            values = [states[row].tolist() for states in state.states.values()]
            found[key] = (*numbers, state.sequences[row], *values)
    return found


def command(name: bytes) -> Headers:
    return [("worker-command", name)]
