"""Records → texts, for tasks whose model is fed its own output: reading, working, telling.

A record is one event and one job. ``read`` decides in log order what records decide (``reading``). ``work`` takes all
streams with unfinished work some steps further, together, and returns what there is to say. A stream's row holds its
state as of its last complete record; a job has a working copy and writes it into the row when all it had to say was
given out. So a snapshot between two calls needs no text that is half done: an unfinished record is run again from its
beginning, and gives the same text. No I/O, clock or logging.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from worker.engine.boundaries import BoundaryRules
from worker.engine.jobs import Job, PartitionJobs
from worker.engine.reading import FORGOTTEN_REASON, Reader, Verdict
from worker.engine.tasks import Task
from worker.engine.telling import Answers, nothing_said
from worker.engine.turns import LATE_REASON
from worker.records.events import Events, Kind, Origin, Refusal, Reset
from worker.records.ownership import Partition
from worker.records.parts import part_of
from worker.records.texts import Texts

STREAMS_AT_ONCE = 4096  # rows of one call of the model
STEPS_AT_ONCE = 64  # steps of one call of ``work``, one after the other
ITEMS_AT_ONCE = 16_384  # steps of one call of ``work``, over all rows; one for each row at least
# Probabilities that the model answers in one call of ``work``: a step of a row costs one for each item of the
# vocabulary, and what is drawn from them costs more than all else where they are many.
NUMBERS_AT_ONCE = 4_194_304
LEAST_ROWS = 16  # of one call of the model, if so many texts are being written, however large the vocabulary
REFUSALS: dict[object, tuple[str, str]] = {
    Verdict.LATE: ("late", LATE_REASON),
    Verdict.FORGOTTEN: ("stream_forgotten", FORGOTTEN_REASON),
}
SOURCE_ENDS = (Reset.NONE, Reset.END, Reset.LENGTH)  # before these a source is complete


@dataclass(slots=True)
class Reading:
    """What became of batches that were to be read."""

    accepted: list[Events] = field(default_factory=list)  # the first records of each, as far as they were read
    left_over: list[Events] = field(default_factory=list)  # the others, in order: they are to be read first next time
    answers: list[Texts] = field(default_factory=list)  # of each that was accepted: dead letters, no outputs


class FeedbackEngine:
    """Reads records and works on their texts. State changes only here.

    ``item_bytes``: what an item of a text takes at most in an output.
    """

    def __init__(self, task: Task, rules: BoundaryRules, item_bytes: int = 16) -> None:
        self.task = task
        self.model = task.model
        self.table = task.table
        self.rules = rules
        self.emit = task.emit
        self.item_bytes = item_bytes
        self.sources_dropped = 0  # sources that a boundary has ended before they were complete, since the start
        self._by_item = task.emit.mode == "every_item"
        self._reader = Reader(task.table, rules)
        self._partitions: dict[Partition, PartitionJobs] = {}
        self._ready: deque[Job] = deque()  # the first job of each stream, while it is not done; the next one first
        self._telling: deque[Job] = deque()  # jobs with something to say that was not given out yet

    @property
    def late(self) -> int:
        """Events older than the greatest event time of their stream, since the start."""
        return self._reader.late

    @property
    def without_stream(self) -> int:
        """Tombstones and resets that name no known stream, since the start."""
        return self._reader.without_stream

    @property
    def resets(self) -> NDArray[np.int64]:
        """Returns to zero by Reset, since the start."""
        return self._reader.resets

    @property
    def waves(self) -> int:
        """Calls of the model, since the start."""
        return self.task.waves

    @property
    def items_fed(self) -> int:
        """Items that records held, since the start."""
        return self.task.items_fed

    @property
    def items_drawn(self) -> int:
        """Since the start."""
        return self.task.items_drawn

    @property
    def busy(self) -> bool:
        """Whether ``work`` has anything to do."""
        return bool(self._ready or self._telling)

    def full(self) -> set[Partition]:
        """Partitions of which no more records can be read now."""
        self._forget_dropped()
        return {partition for partition, jobs in self._partitions.items() if jobs.closed or jobs.full()}

    def read(self, batches: Sequence[Events]) -> Reading:
        """Read these records as far as possible; those of one partition must come in offset order."""
        self._forget_dropped()
        reading, waiting = Reading(), set()
        for events in batches:
            partition, end = events.batch.partition, len(events.batch)
            refused: list[Refusal] = []
            read = 0 if partition in waiting else self._read(events, refused)
            if read < end or partition in waiting:
                waiting.add(partition)
                reading.left_over.append(part_of(events, read, end) if read else events)
            if read or (not end and partition not in waiting):
                accepted = events if read == end else part_of(events, 0, read)
                self._position(accepted)
                reading.accepted.append(accepted)
                reading.answers.append(nothing_said(refused))
        return reading

    def work(self, most_outputs: int) -> list[tuple[Events, Texts]]:
        """Take all unfinished texts some steps further; returns what there is to say, at most so many outputs.

        One pair for each partition: the records that have an output or a dead letter there, or are complete, each with
        one event, in the order in which they were answered; the position of their batch means nothing.
        """
        self._forget_dropped()
        answers = Answers(most_outputs, self._by_item, self.item_bytes)
        steps, items = STEPS_AT_ONCE, min(ITEMS_AT_ONCE, max(1, NUMBERS_AT_ONCE // self.model.units))
        rows = min(STREAMS_AT_ONCE, max(LEAST_ROWS, NUMBERS_AT_ONCE // (self.model.units * self.task.beams)))
        self._tell(answers)
        while self._ready and not self._telling and min(steps, items, answers.room) > 0:
            jobs = [self._ready.popleft() for _ in range(min(len(self._ready), rows))]
            taken = self._run(jobs, min(steps, max(1, items // len(jobs))))
            steps, items = steps - taken, items - taken * len(jobs)
            self._tell(answers)
        return answers.pairs()

    def _read(self, events: Events, refused: list[Refusal]) -> int:
        """Read a batch; returns how many of its records were. Notes those ``refused`` here."""
        jobs = self._jobs(events.batch.partition)
        assert len(np.unique(events.records)) == len(events), "a record has one event"
        for index, record in enumerate(events.records.tolist()):
            held, found = jobs.held, self._reader.read(jobs, events, index)
            if held and not jobs.held:
                self._enter(*jobs.heads())
            elif isinstance(found, Job) and not held and jobs.queues[found.stream][0] is found:
                self._enter(found)
            if found is Verdict.WAITS:
                return int(record)
            if found in REFUSALS and not events.batch.replay:
                refused.append(Refusal(record, *REFUSALS[found]))
        return len(events.batch)

    def _position(self, accepted: Events) -> None:
        """All records of this batch have been read."""
        jobs, next_offset = self._jobs(accepted.batch.partition), accepted.batch.next_offset
        held = jobs.held
        self._reader.await_no_more_below(jobs, next_offset)
        jobs.streams.read_to = max(jobs.streams.read_to, next_offset)
        if held and not jobs.held:
            self._enter(*jobs.heads())

    def _jobs(self, partition: Partition) -> PartitionJobs:
        streams, jobs = self.table.partitions[partition], self._partitions.get(partition)
        if jobs is None:
            jobs = self._partitions[partition] = PartitionJobs(partition, streams, self._by_item)
        assert jobs.streams is streams, partition
        return jobs

    def _enter(self, *jobs: Job) -> None:
        """These jobs are the first of their streams, and may begin."""
        for job in jobs:
            fresh = Origin.REBUILT if job.replay else Origin.LIVE
            job.origin = fresh if job.reset else int(self.table.origins[job.row])
            begun = self.task.has_sources and int(self.table.steps[job.row]) > 0
            self.sources_dropped += begun and job.reset not in SOURCE_ENDS
            self._ready.append(job)

    def _run(self, jobs: Sequence[Job], most_steps: int) -> int:
        """Some steps for each of these jobs; returns how many, one at least."""
        steps = self.task.run([job for job in jobs if job.kind == Kind.STEP], most_steps)
        for job in jobs:
            job.done = job.done or job.kind != Kind.STEP
            if not job.done:
                self._ready.append(job)
            if job.done or (self._by_item and not job.replay and len(job.tokens) > job.told):
                self._telling.append(job)
        return max(1, steps)

    def _tell(self, answers: Answers) -> None:
        while self._telling:
            job = self._telling[0]
            says_text = not self._by_item and job.kind == Kind.STEP and self.task.says(job)
            told, all_said = job.told, answers.tell(job, says_text)
            if job.told > told:
                unfinished = job.streams.unfinished
                unfinished[job.offset] = unfinished[job.offset]._replace(sent=job.told)
            if not all_said:
                return
            self._telling.popleft()
            if job.done:
                self._complete(job)

    def _complete(self, job: Job) -> None:
        """All that this job has to say was given out: its stream goes on from what it leaves behind."""
        if job.kind == Kind.STEP:
            self.task.store(job)
        else:
            self._obey(job)
        following = self._partitions[job.partition].remove(job)
        self._reader.complete(job, following)
        if following is not None:
            self._enter(following)

    def _obey(self, job: Job) -> None:
        """A command: the state of its stream to zero, or to the given values."""
        table, row = self.table, job.row
        table.states[row], table.steps[row], table.items[row] = table.initial, 0, None
        if table.emitted is not None:
            table.emitted[row] = np.nan
        if job.kind == Kind.SET_STATE:
            table.states[row], table.origins[row] = job.events.payloads[0], Origin.IMPORTED

    def _forget_dropped(self) -> None:
        """Jobs of partitions that were dropped are gone with them."""
        known = self.table.partitions
        gone = [each for each, jobs in self._partitions.items() if known.get(each) is not jobs.streams]
        if gone:
            for partition in gone:
                for job in self._partitions.pop(partition).heads():
                    self.task.drop(job)
            self._ready = deque(self._alive(self._ready))
            self._telling = deque(self._alive(self._telling))

    def _alive(self, jobs: Iterable[Job]) -> list[Job]:
        return [job for job in jobs if self.table.partitions.get(job.partition) is job.streams]
