"""What jobs have to say → texts, or items of them, for each partition. No I/O, clock or logging."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worker.engine.jobs import Job
from worker.engine.turns import INVALID_STATE_REASON
from worker.records.events import Events, Refusal
from worker.records.ownership import Partition
from worker.records.parts import joined
from worker.records.prompts import Finish
from worker.records.texts import WHOLE_TEXT, Texts

TOLD_BYTES_AT_ONCE = 16 << 20  # outputs of one call of ``work``, beside the first one; more is told at the next one
OUTPUT_BYTES = 256  # of an output, beside its items and the name of its stream; about


class Answer:
    """The answer to some records of one partition: columns of Texts that grow."""

    def __init__(self) -> None:
        self._parts: list[Events] = []
        self._events: dict[Job, int] = {}
        self._event: list[int] = []
        self._items: list[int] = []
        self._tokens: list[list[int]] = []
        self._finishes: list[Finish | None] = []
        self._steps: list[int] = []
        self._resets: list[int] = []
        self._finals: list[bool] = []
        self._origins: list[int] = []
        self._scores: list[float] = []
        self.refusals: list[Refusal] = []

    def event(self, job: Job) -> int:
        """The index of the job's event, one for all its outputs."""
        found = self._events.setdefault(job, len(self._parts))
        if found == len(self._parts):
            self._parts.append(job.events)
        return found

    def text(self, job: Job) -> None:
        """The whole text is one output."""
        assert job.finish is not None
        self._rows(job, 1)
        self._items.append(WHOLE_TEXT)
        self._tokens.append(job.kept + _without_stop(job))
        self._finishes.append(job.finish)
        self._steps.append(job.steps + job.sees_drawn * len(job.tokens))
        self._finals.append(job.final)

    def some_items(self, job: Job, begin: int, end: int) -> None:
        """Each of these items is an output; the last one of the text says how it ends."""
        if begin == end:
            return
        self._rows(job, end - begin)
        self._items.extend(range(begin, end))
        self._tokens.extend([[item] for item in job.tokens[begin:end]])
        counted = range(job.steps + begin + 1, job.steps + end + 1) if job.sees_drawn else [job.steps] * (end - begin)
        self._steps.extend(counted)
        self._finishes.extend([None] * (end - begin))
        self._finals.extend([False] * (end - begin))
        if job.finish is not None and end == len(job.tokens):
            self._finishes[-1], self._finals[-1] = job.finish, job.final
            if job.finish is Finish.STOP:
                self._tokens[-1] = []

    def end(self, job: Job) -> None:
        """One output without an item says how the text ends.

        Of it as much or more was sent before a restart, or it has no items and ends its sequence.
        """
        assert job.finish is not None
        self._rows(job, 1)
        self._items.append(job.told)
        self._tokens.append([])
        self._finishes.append(job.finish)
        self._steps.append(job.steps + job.sees_drawn * len(job.tokens))
        self._finals.append(job.final)

    def _rows(self, job: Job, count: int) -> None:
        """What is the same for all outputs of a job."""
        self._event.extend([self.event(job)] * count)
        self._resets.extend([job.reset] * count)
        self._origins.extend([job.origin] * count)
        self._scores.extend([] if job.score is None else [job.score] * count)

    def refusal(self, job: Job) -> None:
        """A dead letter in place of the text, or of the rest of it."""
        error, reason = job.refusal or ("invalid_state", INVALID_STATE_REASON)
        self.refusals.append(Refusal(self.event(job), error, reason))

    def events(self) -> Events:
        """The records that are answered, each with one event, in the order in which they were."""
        return joined(self._parts)

    def texts(self) -> Texts:
        """The outputs."""
        return Texts(
            events=np.array(self._event, np.int64),
            items=np.array(self._items, np.int64),
            tokens=self._tokens,
            finishes=self._finishes,
            steps=np.array(self._steps, np.int64),
            resets=np.array(self._resets, np.uint8),
            finals=np.array(self._finals, np.bool_),
            origins=np.array(self._origins, np.uint8),
            scores=self._scores or None,
            refusals=self.refusals,
        )


class Answers:
    """Of one call of ``work``: at most ``most`` outputs, whose items take ``item_bytes`` each, at most."""

    def __init__(self, most: int, by_item: bool, item_bytes: int) -> None:
        self.room = most
        self._most = most
        self._bytes = TOLD_BYTES_AT_ONCE  # that are left
        self._item_bytes = item_bytes
        self._by_item = by_item
        self._of: dict[Partition, Answer] = {}

    def tell(self, job: Job, says_text: bool) -> bool:
        """Take what this job has to say, as far as there is room; returns whether that was all."""
        if job.replay:
            return True
        refused = job.spoilt or job.refusal is not None
        # Under the same settings a text whose last item was sent is complete. Now it ends sooner than it did.
        cut_short = job.sent >= max(1, len(job.tokens))
        ended = self._by_item and job.finish is not None and not refused
        without_item = ended and (cut_short or (job.final and not job.tokens))
        ready = len(job.tokens) if self._by_item else int(says_text and job.done and not refused)
        ready = job.sent + 1 if without_item else ready
        size_bytes = self._size_bytes(job)
        fitting = max(self._bytes // size_bytes, self.room == self._most)
        count = max(0, min(self.room, ready - job.told, fitting))
        if not count and (job.told < ready or not job.done):
            return job.told >= ready
        answer = self._of.get(job.partition)
        if answer is None:
            answer = self._of[job.partition] = Answer()
        if without_item and count:
            answer.end(job)
        elif self._by_item:
            answer.some_items(job, job.told, job.told + count)
        elif count:
            answer.text(job)
        job.told += count
        self.room -= count
        self._bytes -= count * size_bytes
        if job.told < ready:
            return False
        if job.done:
            answer.event(job)
            if refused:
                answer.refusal(job)
        return True

    def _size_bytes(self, job: Job) -> int:
        """About what one output of this job takes."""
        items = 1 if self._by_item else len(job.kept) + len(job.tokens)
        return OUTPUT_BYTES + len(job.stream) + items * self._item_bytes

    def pairs(self) -> list[tuple[Events, Texts]]:
        """One for each partition of which something is answered."""
        return [(answer.events(), answer.texts()) for answer in self._of.values()]


def nothing_said(refusals: Sequence[Refusal]) -> Texts:
    """The answer to records that have no output yet."""
    answer = Answer()
    answer.refusals = list(refusals)
    return answer.texts()


def _without_stop(job: Job) -> list[int]:
    return job.tokens[:-1] if job.finish is Finish.STOP else job.tokens
