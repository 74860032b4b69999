"""Records that have been read and whose answer is not complete: jobs, in the order of the log for each stream.

No I/O, clock or logging.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from worker.records.events import Events, Kind, Origin
from worker.records.ownership import Partition
from worker.records.prompts import Finish, Prompt
from worker.records.states import Unfinished
from worker.records.unfinished_list import LIST_CHARACTERS_LIMIT, most_characters
from worker.streams.partition_streams import PartitionStreams

# Of one partition; beyond any of these nothing more of it is read until some work is done.
UNFINISHED_RECORDS_LIMIT = 1_000
UNFINISHED_BYTES_LIMIT = 64 << 20  # keys, values and headers of the records
READ_AHEAD_RECORDS_LIMIT = 1_000_000  # offsets between the first unfinished record and the last one read
NOTE_RECORD_CHARACTERS = most_characters(1 << 63, 1 << 32)  # of the list in a commit's note, which is limited, too

NO_SLOT = -1


@dataclass(slots=True, eq=False)
class Job:
    """One record's work. The upper half is decided when it is read, the lower half by the work."""

    events: Events  # of its record alone
    streams: PartitionStreams  # its partition; another one is in the table once the partition was dropped
    row: int  # of its stream
    reset: int  # Reset before it
    final: bool
    size_bytes: int
    sent: int = 0  # items given out before a restart
    told: int = 0  # outputs given out; of every item, those sent before a restart come no second time

    slot: int = NO_SLOT  # where its working copy is
    tokens: list[int] = field(default_factory=list)  # drawn so far, a stop item included
    kept: list[int] = field(default_factory=list)  # of the sequence, before it
    finish: Finish | None = None  # None: more is to be drawn
    score: float | None = None  # of beams
    steps: int = 0  # items that the state has seen since zero, before the first drawn one
    sees_drawn: bool = True  # the stream's state does, and they count as steps
    origin: int = Origin.LIVE
    done: bool = False
    spoilt: bool = False  # a result was not finite
    refusal: tuple[str, str] | None = None  # (error, reason)

    partition: Partition = field(init=False)
    stream: str = field(init=False)
    offset: int = field(init=False)
    kind: int = field(init=False)  # a step or a command; a tombstone makes no job
    replay: bool = field(init=False)  # it was answered before a restart: it moves the state and says nothing

    def __post_init__(self) -> None:
        events = self.events
        self.partition, self.offset = events.batch.partition, events.batch.offsets[0]
        self.stream, self.kind, self.replay = events.streams[0], int(events.kinds[0]), events.batch.replay

    @property
    def prompt(self) -> Prompt:
        """What its record asks for. Only for steps."""
        prompt = self.events.prompts[0] if self.events.prompts else None
        assert prompt is not None, (self.partition, self.offset)
        return prompt

    def refuse(self, error: str, reason: str) -> None:
        """It has no text but a dead letter, and is done."""
        self.refusal, self.done = (error, reason), True


class PartitionJobs:
    """The jobs of one partition, a queue for each stream that has any: its first job is the one that is worked on.

    ``awaited``: records that are known as unfinished from a checkpoint and have not been read again. Until they have
    been, no work begins: what a job leaves behind may concern the next one of its stream.
    """

    def __init__(self, partition: Partition, streams: PartitionStreams, notes_items: bool) -> None:
        self.partition = partition
        self.streams = streams
        self.queues: dict[str, deque[Job]] = {}
        self.bytes = 0
        self.awaited = set(streams.unfinished)
        self.closed = False  # the next record must wait for a stream that is busy
        self.notes_items = notes_items  # the note also says how many items of each text are sent
        self._lengths: dict[int, int] = {}  # offset → items that the note may say are sent, at most
        self._note: int | None = None  # characters of the list of unfinished records; None: to be counted anew

    @property
    def held(self) -> bool:
        """No work may begin yet."""
        return bool(self.awaited)

    def heads(self) -> Iterator[Job]:
        """The first job of each stream."""
        return (queue[0] for queue in self.queues.values())

    def add(self, job: Job, decided: Unfinished) -> bool:
        """Queue a job behind those of its stream; returns whether it is the first."""
        queue = self.queues.setdefault(job.stream, deque())
        queue.append(job)
        self.bytes += job.size_bytes
        length = job.prompt.length if self.notes_items and job.kind == Kind.STEP else 0
        self._lengths[job.offset] = max(length, job.sent + 1 if job.sent else 0)
        if job.offset in self.awaited:
            self.awaited.discard(job.offset)
            self._note = None
        elif self._note is not None:
            self._note += self._noted(job.offset, next(reversed(self.streams.unfinished), job.offset))
        self.streams.unfinished[job.offset] = decided
        return len(queue) == 1

    def remove(self, job: Job) -> Job | None:
        """This job, the first of its stream, is complete; returns the next one."""
        queue = self.queues[job.stream]
        first = queue.popleft()
        assert first is job, (self.partition, first.offset, job.offset)
        self.bytes -= job.size_bytes
        del self.streams.unfinished[job.offset], self._lengths[job.offset]
        self._note = None
        if queue:
            return queue[0]
        del self.queues[job.stream]
        self.closed = False
        return None

    def await_no_more_below(self, offset: int) -> list[Unfinished]:
        """The log no longer has those awaited below this offset, or they can't be read any more; returns them."""
        if not self.awaited:
            return []
        gone = sorted(each for each in self.awaited if each < offset)
        self.awaited.difference_update(gone)
        self._note = None
        return [self.streams.unfinished.pop(each) for each in gone]

    def full(self) -> bool:
        """Whether it can't take another record now. What was unfinished before a restart is always read again."""
        unfinished = self.streams.unfinished
        if not unfinished or self.awaited:
            return False
        return (
            len(unfinished) >= UNFINISHED_RECORDS_LIMIT
            or self.bytes >= UNFINISHED_BYTES_LIMIT
            or self.streams.read_to - next(iter(unfinished)) >= READ_AHEAD_RECORDS_LIMIT
            or self._note_characters() + NOTE_RECORD_CHARACTERS > LIST_CHARACTERS_LIMIT
        )

    def _note_characters(self) -> int:
        if self._note is None:
            offsets = list(self.streams.unfinished)
            self._note = sum(map(self._noted, offsets, [offsets[0], *offsets]))
        return self._note

    def _noted(self, offset: int, before: int) -> int:
        """Characters that a record costs at most, after the unfinished one ``before`` it."""
        return most_characters(offset - before, self._lengths.get(offset, 0))
