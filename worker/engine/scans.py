"""Few streams with many events each: planned ahead of the model, so that it steps through them in one call over time.

Which of a stream's consecutive events return it to zero follows from the events alone. It is found by the functions of
``boundaries``, over columns in which each event stands beside what the event before it leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from worker.engine.boundaries import Before, BoundaryRules, Incoming, pending_after, resets_before
from worker.engine.failing import ScanPacked, scanned
from worker.records.arrays import BoolArray, CodeArray, FloatArray, IntArray
from worker.records.events import Reset

SCAN_ROWS = (256, 64, 16)  # streams in one scan, at most; where a wave fits the next number, another scan begins
SCAN_STEPS_MIN = 3  # so few steps are as fast one by one
SCAN_STEPS_LIMIT = 4096  # in one scan: its vectors are copied, and padded as the rows of a step are

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(slots=True)
class Runs:
    """Consecutive steps of some streams: run after run, each in log order."""

    events: IntArray  # (events,) indices into the turn
    begins: IntArray  # (runs,) where in ``events`` each run begins
    number: IntArray  # (events,) the run of each event
    nth: IntArray  # (events,) its index in the run, from 0

    @classmethod
    def of(cls, events: IntArray, rows: IntArray) -> Runs:
        """``rows`` of these events, at least one, ordered by row: a run is all events of one row."""
        first = np.ones(len(rows), np.bool_)
        first[1:] = rows[1:] != rows[:-1]
        begins, number = np.flatnonzero(first), np.cumsum(first) - 1
        return cls(events, begins, number, np.arange(len(events)) - begins[number])

    def only(self, kept: BoolArray) -> Runs | None:
        """Only these events, (events,): runs may begin later, end earlier or vanish; None if none is left."""
        return Runs.of(self.events[kept], self.number[kept]) if kept.any() else None

    def until(self, marked: BoolArray) -> BoolArray:
        """(events,) whether neither the event nor any before it in its run is ``marked``, (events,)."""
        count = np.cumsum(marked)
        return count == (count - marked)[self.begins][self.number]

    @property
    def lasts(self) -> IntArray:
        """(runs,) where in ``events`` each run's last event is."""
        return np.append(self.begins[1:], len(self.events)) - 1

    def found(self, first: NDArray[Scalar], left: NDArray[Scalar]) -> NDArray[Scalar]:
        """What each event finds: what the one before it ``left``, (events,); ``first``, (runs,), where a run begins."""
        column = np.empty_like(left)
        column[1:] = left[:-1]
        column[self.begins] = first
        return column

    def anchors(self, zeroed: BoolArray) -> IntArray:
        """(events,) the last event at or before each one that is ``zeroed``, (events,), or begins its run."""
        anchored = zeroed.copy()
        anchored[self.begins] = True
        latest: IntArray = np.maximum.accumulate(np.where(anchored, np.arange(len(zeroed)), 0))
        return latest

    def since(self, zeroed: BoolArray, first: NDArray[Scalar], fresh: NDArray[Scalar]) -> NDArray[Scalar]:
        """(events,) ``fresh``, (events,), of the last event zeroed; before any of them ``first``, (runs,)."""
        latest: NDArray[Scalar] = np.where(zeroed, fresh, first[self.number])[self.anchors(zeroed)]
        return latest

    def greatest(self, first: IntArray, column: IntArray) -> IntArray:
        """(events,) the greatest of ``first``, (runs,), and of ``column``, (events,), before each one in its run."""
        square = self.by_time(column)
        before = np.empty_like(square)
        before[0] = first
        before[1:] = square[:-1]
        np.maximum.accumulate(before, axis=0, out=before)
        return before[self.nth, self.number]

    def by_time(self, column: NDArray[Scalar]) -> NDArray[Scalar]:
        """(events, …) → (time, runs, …), zero or False where a run has ended."""
        square = np.zeros((int(self.nth.max()) + 1, len(self.begins), *column.shape[1:]), column.dtype)
        square[self.nth, self.number] = column
        return square


@dataclass(slots=True)
class BoundaryPlan:
    """What the events find and leave, (events,) each."""

    resets: CodeArray
    steps: IntArray
    pending: CodeArray


@dataclass(slots=True)
class ScannedRuns:
    """Runs that the model has stepped through."""

    runs: Runs
    plan: BoundaryPlan
    outputs: FloatArray  # (events, units), or with a column more (PackedModel.waits)
    states: FloatArray  # (runs, width) after the last step
    finite: BoolArray  # (runs,) every result on the way was finite

    def only(self, runs: BoolArray) -> ScannedRuns:
        """Only these runs, (runs,), at least one."""
        if runs.all():
            return self
        kept, plan = runs[self.runs.number], self.plan
        return ScannedRuns(
            Runs.of(self.runs.events[kept], self.runs.number[kept]),
            BoundaryPlan(plan.resets[kept], plan.steps[kept], plan.pending[kept]),
            self.outputs[kept],
            self.states[runs],
            self.finite[runs],
        )


def plan_boundaries(
    rules: BoundaryRules, runs: Runs, before: Before, steps: IntArray, incoming: Incoming
) -> BoundaryPlan:
    """``before`` and ``steps`` (runs,): how the streams' last events left them; ``incoming`` (events,)."""
    ids = None
    if incoming.ids is not None:
        assert before.ids is not None
        ids = runs.found(before.ids, incoming.ids)
    times = runs.greatest(before.times, incoming.times)

    def resets_after(pending: CodeArray) -> CodeArray:
        return resets_before(rules, Before(runs.found(before.pending, pending), ids, times), incoming)

    # First as if sequences had no maximal length: their lengths then follow from the other boundaries.
    pending = pending_after(replace(rules, length=None), np.zeros(len(runs.events), np.int64), incoming)
    resets = resets_after(pending)
    counted = _count(runs, resets != Reset.NONE, steps, rules.length)
    if rules.length is not None:
        pending = pending_after(rules, counted, incoming)
        resets = resets_after(pending)
    # Each event agrees with the one before it: the plan equals stepping them one by one.
    assert np.array_equal(counted, np.where(resets != Reset.NONE, 0, runs.found(steps, counted)) + 1)
    return BoundaryPlan(resets, counted, pending)


def _count(runs: Runs, zeroed: BoolArray, steps: IntArray, length: int | None) -> IntArray:
    """(events,) steps since zero, this one included, in sequences of at most ``length`` between the events zeroed."""
    carried = runs.since(zeroed, steps, np.zeros(len(zeroed), np.int64))
    behind: IntArray = np.arange(len(zeroed)) - runs.anchors(zeroed)
    if length is None:
        return behind + carried + 1
    # A stream restored under another length may already exceed it: then its next step is its last.
    counted: IntArray = (behind + np.minimum(carried, length - 1)) % length + 1
    return np.where(behind == 0, carried + 1, counted)


def scan_runs(
    scan_packed: ScanPacked,
    runs: Runs,
    plan: BoundaryPlan,
    vectors: FloatArray,
    states: FloatArray,
    initial: FloatArray,
) -> ScannedRuns:
    """Step through vectors (events, features) from states (runs, width); nothing given is changed."""
    resets, active = plan.resets != Reset.NONE, np.ones(len(runs.events), np.bool_)
    by_time, after = scanned(
        scan_packed, runs.by_time(vectors), states, runs.by_time(resets), runs.by_time(active), initial
    )
    outputs = by_time[runs.nth, runs.number]
    finite = np.logical_and.reduceat(np.isfinite(outputs).all(axis=1), runs.begins)
    return ScannedRuns(runs, plan, outputs, after, finite & np.isfinite(after).all(axis=1))


def stretches(events: IntArray, nth: IntArray, scan_rows: tuple[int, ...]) -> Iterator[tuple[IntArray, IntArray, bool]]:
    """Cut events, ordered by row and numbered in it, into those of large waves and those worth a scan.

    Yields (events, their numbers, whether to scan): of a row, earlier events first. ``scan_rows``, falling, says how
    many rows a scan may have: a scan ends where the next number would suffice, since it steps all its rows to its end.
    """
    sizes = np.bincount(nth)  # rows in each wave: never more than in the one before
    edges = [0, *(int(np.count_nonzero(sizes > rows)) for rows in scan_rows), len(sizes)]
    for index, (begin, end) in enumerate(pairwise(edges)):
        worth_a_scan = index > 0 and end - begin >= SCAN_STEPS_MIN
        if end - begin == len(sizes):
            yield events, nth, worth_a_scan
        elif begin < end:
            inside = (nth >= begin) & (nth < end)
            yield events[inside], nth[inside], worth_a_scan
