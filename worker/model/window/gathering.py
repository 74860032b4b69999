"""Which windows come up in a scan over time: of rows that return to zero on the way or end before the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from worker.model.window.window import Window
from worker.records.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Gathered:
    """Of xs (time, n, features). ``due`` (time, n): the windows to be answered.

    ``line`` (n, (steps + time) · features): of each row the vectors before the scan and then those of its active
    steps, packed. ``place`` (time, n): active steps so far; ``since`` (time, n): of those, how many since the row
    returned to ``initial``, where ``reset`` (time, n), or to what it was before the scan. ``count`` (time, n): the
    count of events after the step.
    """

    steps: int
    features: int
    line: FloatArray
    place: IntArray
    since: IntArray
    reset: BoolArray
    count: FloatArray
    due: BoolArray
    initial: FloatArray

    def windows(self, times: IntArray, rows: IntArray) -> FloatArray:
        """(m, steps · features) the windows after these steps."""
        width, stride = self.steps * self.features, self.line.strides[1]
        view = as_strided(
            self.line,
            (len(self.line), self.line.shape[1] // self.features - self.steps + 1, width),
            (self.line.strides[0], self.features * stride, stride),
            writeable=False,
        )
        found: FloatArray = view[rows, self.place[times, rows]]
        since = self.since[times, rows]
        short = np.flatnonzero(self.reset[times, rows] & (since < self.steps))
        if len(short):
            steps = np.arange(self.steps)
            initial = self.initial[:-1].reshape(self.steps, self.features)
            begun = initial[np.minimum(steps + since[short, np.newaxis], self.steps - 1)]
            older = (steps < self.steps - since[short, np.newaxis])[..., np.newaxis]
            whole = found[short].reshape(len(short), self.steps, self.features)
            found[short] = np.where(older, begun, whole).reshape(len(short), width)
        return found

    def last(self) -> FloatArray:
        """(n, state_width) the rows after the last step."""
        rows = np.arange(len(self.line))
        inputs = self.windows(np.full(len(rows), len(self.place) - 1), rows)
        return np.concatenate([inputs, self.count[-1][:, np.newaxis].astype(inputs.dtype)], axis=1)

    def finite(self) -> BoolArray:
        """(n,) whether the row was finite after every step."""
        width = self.steps * self.features
        before = np.isfinite(self.line[:, :width]).all(axis=1) | self.reset[0]
        since = np.isfinite(self.line[:, width:]).all(axis=1) & np.isfinite(self.count).all(axis=0)
        return np.asarray(before & since)


def gather(
    window: Window,
    xs: FloatArray,
    packed: FloatArray,
    resets: BoolArray | None,
    active: BoolArray | None,
    initial: FloatArray,
) -> Gathered:
    """See PackedStep.scan."""
    time, rows, features = xs.shape
    steps = np.ones((time, rows), np.bool_) if active is None else np.asarray(active, np.bool_)
    returns = np.zeros((time, rows), np.bool_) if resets is None else np.asarray(resets, np.bool_)
    place: IntArray = np.cumsum(steps, axis=0)
    reset = np.logical_or.accumulate(returns, axis=0)
    # Active steps before the last return to zero: none where there was none.
    before = np.maximum.accumulate(np.where(returns, place - steps, 0), axis=0)
    since = place - before
    first = np.where(reset, initial[-1], packed[:, -1])
    count = np.where(since > 0, window.after(first, since), first)
    return Gathered(
        steps=window.steps,
        features=features,
        line=_line(xs, packed[:, :-1], steps),
        place=place,
        since=since,
        reset=reset,
        count=count,
        due=steps & window.due(count),
        initial=initial,
    )


def _line(xs: FloatArray, inputs: FloatArray, active: BoolArray) -> FloatArray:
    """Zeros stand behind the active steps of a row."""
    time, rows, features = xs.shape
    if not active.all():
        order = np.argsort(~active, axis=0, kind="stable")
        xs = np.take_along_axis(np.where(active[..., np.newaxis], xs, 0), order[..., np.newaxis], axis=0)
    moved = np.swapaxes(xs, 0, 1).reshape(rows, time * features)
    return np.concatenate([inputs, moved.astype(inputs.dtype, copy=False)], axis=1)
