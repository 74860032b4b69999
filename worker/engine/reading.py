"""What is decided about a record when it is read, for tasks that generate: everything but its text.

A record's row, its boundaries, its time and which streams are forgotten before it follow from the records alone, in
their order, and are in the table at once. When its text is written shows nowhere: a record that would make the table
forget a stream with unfinished work is not read until that work is complete. No I/O, clock or logging.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np

from worker.engine.boundaries import Before, BoundaryRules, Incoming, are_late, pending_after, resets_before
from worker.engine.jobs import Job, PartitionJobs
from worker.records.arrays import NO_TIME_MS
from worker.records.events import Events, Kind, Reset
from worker.records.parts import part_of
from worker.records.states import UNKNOWN_ID, Unfinished
from worker.streams.idle import any_idle, forget_idle
from worker.streams.rows import NO_ROW
from worker.streams.table import StreamTable

FORGOTTEN_REASON = "its stream was forgotten before its text was complete: state.max_streams"


class Verdict(Enum):
    """What became of a record without a job."""

    WAITS = 1  # it is not read yet
    COMPLETE = 2
    LATE = 3
    FORGOTTEN = 4  # its stream was forgotten before its text was complete


class Reader:
    """Reads one record after the other into the table, and makes jobs of them."""

    def __init__(self, table: StreamTable, rules: BoundaryRules) -> None:
        self.table = table
        self.rules = rules
        self.late = 0  # events older than the greatest event time of their stream, since the start
        self.without_stream = 0  # tombstones and resets that name no known stream, since the start
        self.resets = np.zeros(len(Reset), np.int64)  # returns to zero by Reset, since the start

    def read(self, jobs: PartitionJobs, events: Events, index: int) -> Job | Verdict:
        """Read the record of this event, the next one of its partition."""
        offset = events.batch.offsets[int(events.records[index])]
        self.await_no_more_below(jobs, offset)
        if offset < jobs.streams.read_to:
            return self._again(jobs, events, index, offset)
        if jobs.full():
            return Verdict.WAITS
        jobs.closed, clock = False, max(jobs.streams.clock, int(events.times[index]))
        if not self._forget_idle(jobs, clock):
            return Verdict.WAITS
        kind, name = events.kinds[index], events.streams[index]
        if kind == Kind.TOMBSTONE and name in jobs.queues:
            jobs.closed = True
            return Verdict.WAITS
        row = self._row(jobs, name, kind in (Kind.STEP, Kind.SET_STATE))
        if row == NO_ROW and jobs.closed:
            return Verdict.WAITS
        jobs.streams.clock = clock
        if row != NO_ROW:
            self.table.touch(np.array([row]))
        if kind != Kind.STEP:
            return self._command(jobs, events, index, row)
        return self._step(jobs, events, index, row)

    def _again(self, jobs: PartitionJobs, events: Events, index: int, offset: int) -> Job | Verdict:
        """A record that was read before a checkpoint: it is complete, or all is decided but its text."""
        decided = jobs.streams.unfinished.get(offset)
        if decided is None or offset not in jobs.awaited:
            return Verdict.COMPLETE
        row = jobs.streams.rows.get(events.streams[index], NO_ROW)
        if row == NO_ROW:  # the checkpoint was saved under a higher limit of streams, and this one was left out
            self.await_no_more_below(jobs, offset + 1)
            return Verdict.FORGOTTEN if events.kinds[index] == Kind.STEP else Verdict.COMPLETE
        return _job(jobs, events, index, row, decided)

    def await_no_more_below(self, jobs: PartitionJobs, offset: int) -> None:
        """Records awaited below this offset make no job: what they reset is at zero before their stream's next one.

        No record of ``offset`` or beyond has been read since the start.
        """
        for gone in jobs.await_no_more_below(offset):
            unfinished, row = jobs.streams.unfinished, jobs.streams.rows.get(gone.stream, NO_ROW)
            later = (each for each in unfinished.values() if each.stream == gone.stream and each.offset > gone.offset)
            following = next(later, None)
            if following is not None:
                if following.reset == Reset.NONE:
                    unfinished[following.offset] = following._replace(reset=gone.reset)
            elif row != NO_ROW and self.table.pending[row] == Reset.NONE:
                self.table.pending[row] = gone.reset

    def _forget_idle(self, jobs: PartitionJobs, clock: int) -> bool:
        """Forget the streams that are idle at this clock; False when one of them is busy."""
        if not any_idle(self.table, jobs.partition, clock):
            return True
        rows = [job.row for job in jobs.heads()]
        busy = dict(zip(rows, self.table.clocks[rows].tolist(), strict=True)) if rows else {}
        jobs.closed = not forget_idle(self.table, jobs.partition, clock, busy)
        return not jobs.closed

    def _row(self, jobs: PartitionJobs, name: str, begins: bool) -> int:
        """The row of a stream; NO_ROW for one that is not known and doesn't begin, and where the record must wait."""
        row = jobs.streams.rows.get(name, NO_ROW)
        if row != NO_ROW or not begins:
            return row
        if self.table.room(jobs.partition) <= 0 and self.table.longest_idle(jobs.partition) in jobs.queues:
            jobs.closed = True
            return NO_ROW
        return self.table.row(jobs.partition, name)

    def _command(self, jobs: PartitionJobs, events: Events, index: int, row: int) -> Job | Verdict:
        if row == NO_ROW:
            self.without_stream += 1
            return Verdict.COMPLETE
        table, kind, time = self.table, events.kinds[index], int(events.times[index])
        if kind == Kind.TOMBSTONE:
            table.forget(jobs.partition, events.streams[index], Reset.TOMBSTONE)
            return Verdict.COMPLETE
        records, table.records[row], table.clocks[row] = int(table.records[row]), 0, jobs.streams.clock
        if kind == Kind.SET_STATE:
            table.times[row] = NO_TIME_MS if time == NO_TIME_MS else max(int(table.times[row]), time)
            table.pending[row], table.sequences[row] = Reset.NONE, UNKNOWN_ID
        else:
            table.times[row] = max(int(table.times[row]), time)
            table.pending[row] = _lasting(int(table.pending[row]), records) or Reset.COMMAND
        reset = int(table.pending[row]) or Reset.COMMAND
        return _job(jobs, events, index, row, Unfinished(_offset(events, index), events.streams[index], reset, False))

    def _step(self, jobs: PartitionJobs, events: Events, index: int, row: int) -> Job | Verdict:
        table, clock = self.table, jobs.streams.clock
        incoming = _incoming(events, index, clock)
        times = table.times[row : row + 1].copy()
        if are_late(times, incoming.times).any():
            self.late += 1
            if self.rules.late != "accept":
                return Verdict.LATE if self.rules.late == "dead_letter" else Verdict.COMPLETE
        # What the work has left behind is known later or sooner. So it decides nothing else, and is said only where
        # nothing else is to be said.
        pending = int(table.pending[row])
        lasting = _lasting(pending, int(table.records[row]))
        before = Before(np.array([lasting], np.uint8), table.sequences[row : row + 1], times)
        reset = int(resets_before(self.rules, before, incoming)[0])
        count_before = int(table.records[row])
        count = 1 if reset else int(table.records[row]) + 1
        after = int(pending_after(self.rules, np.array([count]), incoming)[0])
        table.times[row], table.clocks[row] = max(int(times[0]), int(incoming.times[0])), clock
        table.pending[row], table.records[row] = after, 0 if after else count
        if incoming.ids is not None:
            table.sequences[row] = incoming.ids[0]
        self.resets[reset] += reset != Reset.NONE
        table.ended[reset] += bool(count_before) and reset not in (Reset.NONE, pending)
        table.ended[after] += after != Reset.NONE
        decided = Unfinished(_offset(events, index), events.streams[index], reset or pending, after != Reset.NONE)
        return _job(jobs, events, index, row, decided)

    def complete(self, job: Job, following: Job | None) -> None:
        """A job is complete. Where it leaves its stream at zero the next record says why, if it says nothing else.

        It was not finite, or its record was refused and could not say its own reason.
        """
        silent = job.refusal is not None and job.reset != Reset.NONE
        # Other reasons were counted when they were decided.
        self.resets[Reset.INVALID_STATE] += job.reset == Reset.INVALID_STATE and not silent
        if job.spoilt or silent:
            self._pass_on(job, following, Reset.INVALID_STATE if job.spoilt else job.reset)

    def _pass_on(self, job: Job, following: Job | None, reason: int) -> None:
        if following is None:
            if self.table.pending[job.row] == Reset.NONE:
                self.table.pending[job.row] = reason
        elif following.kind == Kind.STEP and following.reset == Reset.NONE:
            following.reset, unfinished = reason, job.streams.unfinished
            unfinished[following.offset] = unfinished[following.offset]._replace(reset=reason)


def _lasting(pending: int, records: int) -> int:
    """What is pending, unless a job has passed it on: records of its sequence were read, and none has ended it."""
    return Reset.NONE if records or pending == Reset.INVALID_STATE else pending


def _offset(events: Events, index: int) -> int:
    return events.batch.offsets[int(events.records[index])]


def _incoming(events: Events, index: int, clock: int) -> Incoming:
    one, time = slice(index, index + 1), int(events.times[index])
    ids: Any = None
    if events.ids is not None:
        ids = np.empty(1, np.object_)
        ids[0] = events.ids[index]
    return Incoming(
        times=np.array([clock if time == NO_TIME_MS else time]),
        clocks=np.array([clock]),
        ids=ids,
        starts=None if events.starts is None else events.starts[one],
        ends=None if events.ends is None else events.ends[one],
    )


def _job(jobs: PartitionJobs, events: Events, index: int, row: int, decided: Unfinished) -> Job:
    record = int(events.records[index])
    batch = events.batch
    sent = batch.sent.get(decided.offset, 0)
    headers = batch.headers[record] or ()
    size_bytes = len(batch.keys[record] or b"") + len(batch.values[record] or b"")
    size_bytes += sum(len(name) + len(text or b"") for name, text in headers)
    told = sent if jobs.notes_items else 0  # a whole text is sent as a whole, whatever of it was
    job = Job(
        part_of(events, record, record + 1), jobs.streams, row, decided.reset, decided.final, size_bytes, sent, told
    )
    jobs.add(job, decided._replace(sent=sent))
    return job
