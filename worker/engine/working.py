"""Working copies of the texts that are being written: many streams are fed and draw together, some steps at a time.

A text's copy stays in columns from its first step to its last, so that a call of the model gathers and scatters whole
arrays. No I/O, clock or logging.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from worker.engine.failing import spoil
from worker.engine.jobs import NO_SLOT, Job
from worker.engine.text_models import TextDecoder
from worker.records.arrays import FloatArray, IntArray
from worker.records.failing_rows import FailingRowsError
from worker.records.prompts import Finish
from worker.records.random_numbers import KEY_WORDS, KeyArray, uniforms
from worker.records.texts import NO_TOKEN
from worker.records.writing import Writing, Written

FIRST_SLOTS = 16
COLUMNS = ("packed", "outputs", "feeds", "draws", "numbers", "temperatures", "keys")


@dataclass(slots=True)
class Start:
    """Texts to begin, one row each."""

    packed: FloatArray  # (n, state_width)
    outputs: FloatArray  # (n, units) the last output; NaN where none is known
    feed: list[IntArray]  # ids to feed first; where outputs are NaN one at least
    draws: IntArray  # (n,) items to draw at most
    temperatures: FloatArray  # (n,)
    keys: KeyArray  # (n, 4) of the random numbers
    numbers: IntArray  # (n,) of the first random number


class Writer:
    """Feeds and draws. ``one_by_one``: where a result is not finite, the items drawn before it must be known."""

    def __init__(self, decoder: TextDecoder, dtype: DTypeLike, one_by_one: bool) -> None:
        self.decoder = decoder
        self.waves = 0  # calls of the model, since the start
        self.fed = 0  # items, since the start
        self.drawn = 0  # items, since the start
        self._one_by_one = one_by_one
        self._free: list[int] = []
        self._feed: list[IntArray] = []  # by slot
        self.packed: FloatArray = np.zeros((0, decoder.state_width), dtype)
        self.outputs: FloatArray = np.zeros((0, decoder.units), decoder.dtype)
        self.feeds: IntArray = np.zeros(0, np.int64)  # items that are still to be fed
        self.draws: IntArray = np.zeros(0, np.int64)  # items that are still to be drawn
        self.numbers: IntArray = np.zeros(0, np.int64)  # of the next random number
        self.temperatures: FloatArray = np.zeros(0)
        self.keys: KeyArray = np.zeros((0, KEY_WORDS), np.uint32)

    def begin(self, jobs: Sequence[Job], start: Start) -> None:
        """Give each of these jobs a working copy."""
        self._have_slots(len(jobs))
        slots = np.array([self._free.pop() for _ in jobs], np.int64)
        for job, slot, feed in zip(jobs, slots.tolist(), start.feed, strict=True):
            job.slot, self._feed[slot] = slot, feed
            if not len(feed) and not job.prompt.length:
                job.finish, job.done = job.prompt.finish, True
        self.packed[slots], self.outputs[slots] = start.packed, start.outputs
        self.feeds[slots], self.draws[slots] = [len(feed) for feed in start.feed], start.draws
        self.temperatures[slots], self.keys[slots], self.numbers[slots] = start.temperatures, start.keys, start.numbers

    def end(self, job: Job) -> None:
        """The job needs its working copy no more."""
        if job.slot != NO_SLOT:
            self._free.append(job.slot)
            job.slot = NO_SLOT

    def run(self, jobs: Sequence[Job], most_steps: int) -> int:
        """Some steps for each of these, at most so many; returns how many. What was drawn is in the jobs."""
        if not jobs:
            return 0
        slots = np.array([job.slot for job in jobs], np.int64)
        steps = min(most_steps, worthwhile(self.feeds[slots] + self.draws[slots]))
        for at in self._write(jobs, slots, steps):
            # Step by step the same comes out, as far as it is finite.
            for _ in range(steps if self._one_by_one else 0):
                if self._write([jobs[at]], slots[at : at + 1], 1):
                    break
            jobs[at].spoilt = jobs[at].done = True
        return steps

    def _write(self, jobs: Sequence[Job], slots: IntArray, steps: int) -> list[int]:
        """So many steps for each; returns which of them were not finite: nothing has changed for these."""
        feeds = np.minimum(self.feeds[slots], steps)
        draws = np.minimum(self.draws[slots], steps - feeds)
        feed = np.zeros((steps, len(slots)), np.int64)
        for at in np.flatnonzero(feeds).tolist():
            items, left = self._feed[slots[at]], int(self.feeds[slots[at]])
            begin = len(items) - left
            feed[: feeds[at], at] = items[begin : begin + int(feeds[at])]
        temperatures = self.temperatures[slots]
        chance = uniforms(self.keys[slots], self.numbers[slots] - feeds, steps) if temperatures.any() else None
        writing = Writing(
            packed=self.packed[slots],
            outputs=self.outputs[slots],
            feed=feed,
            feeds=feeds,
            draws=draws,
            uniforms=np.zeros(feed.shape) if chance is None else chance,
            temperatures=temperatures,
        )
        self.waves += 1
        try:
            written = self.decoder.write(writing)
        except FailingRowsError as failing:
            return self._write_others(jobs, slots, steps, failing)
        for job, text in zip(jobs, self._take(slots, feeds, written), strict=True):
            job.tokens += text
        finite = written.finite
        for at in np.flatnonzero((self.feeds[slots] + self.draws[slots] == 0) & finite).tolist():
            job = jobs[at]
            stopped = bool(job.tokens) and job.tokens[-1] == self.decoder.stop
            job.finish, job.done = (Finish.STOP if stopped else job.prompt.finish), True
        spoilt: list[int] = np.flatnonzero(~finite).tolist()
        return spoilt

    def _write_others(self, jobs: Sequence[Job], slots: IntArray, steps: int, failing: FailingRowsError) -> list[int]:
        """As ``_write``, where the model can't compute some of these."""
        others, computed = spoil(jobs, failing), np.flatnonzero(failing.others(len(jobs)))
        spoilt = self._write(others, slots[computed], steps) if others else []
        return sorted([*failing.reasons, *computed[spoilt].tolist()])

    def _take(self, slots: IntArray, feeds: IntArray, written: Written) -> Iterator[list[int]]:
        """Go on from what was written; yields the items drawn by each row, none where it was not finite."""
        finite = written.finite
        counts = np.where(finite, np.count_nonzero(written.tokens != NO_TOKEN, axis=0), 0)
        good = slots if finite.all() else slots[finite]
        self.packed[good], self.outputs[good] = written.packed[finite], written.outputs[finite]
        self.feeds[good] -= feeds[finite]
        self.draws[good] -= counts[finite]
        self.numbers[good] += counts[finite]
        last = np.maximum(feeds + counts - 1, 0)
        stopped = (counts > 0) & (written.tokens[last, np.arange(len(slots))] == self.decoder.stop)
        self.draws[slots[stopped]] = 0
        self.fed += int(feeds[finite].sum())
        self.drawn += int(counts.sum())
        for text, begin, count in zip(written.tokens.T.tolist(), feeds.tolist(), counts.tolist(), strict=True):
            yield text[begin : begin + count]

    def _have_slots(self, count: int) -> None:
        missing = count - len(self._free)
        if missing > 0:
            known = len(self._feed)
            size = max(FIRST_SLOTS, 2 * known, known + missing)
            for name in COLUMNS:
                column = getattr(self, name)
                wider = np.zeros((size, *column.shape[1:]), column.dtype)
                wider[:known] = column
                setattr(self, name, wider)
            self._feed += [np.empty(0, np.int64)] * (size - known)
            self._free += range(size - 1, known - 1, -1)


def worthwhile(left: IntArray) -> int:
    """Steps after which half of the rows, (n,) steps left of each, still have one to do: others wait no longer."""
    return max(1, int(np.partition(left, len(left) // 2)[len(left) // 2]))
