"""The window form as a packed step: the last events of each stream are its state, and the model runs on them.

The same interface as ``step.PackedStep``. Only windows that are due are computed, many at a time, padded to whole
blocks; a scan over time first gathers all its windows and then computes them, instead of stepping through.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from worker.model.backend import tf
from worker.model.building import LayerReport
from worker.model.explicit import ExplicitModel
from worker.model.failing import ROW_ERRORS, computable, failing_rows
from worker.model.graphs import Graph, as_graph
from worker.model.rules import Time
from worker.model.step import BATCH_MULTIPLES_ROWS, PADDING, TRIED_BLOCKS
from worker.model.tensors import shared
from worker.model.window.gathering import Gathered, gather
from worker.model.window.opening import Opened, answer_of, tensors_of
from worker.model.window.window import Window
from worker.records.arrays import BoolArray, FloatArray, IntArray
from worker.records.failing_rows import FailingRowsError
from worker.records.states import StateLayout, StateSpec

LAYER, INPUTS, EVENTS = "window", "inputs", "events"
STEPS_AT_ONCE = 65_536  # of all windows in one call of the model: what its layers give for them is in memory
WINDOWS_AT_ONCE = 4096
TRIED_WINDOWS = 480


class WindowForm:
    """A trained model on the last ``window.steps`` events. A row is the vectors, the oldest first, and their count."""

    def __init__(self, opened: Opened, window: Window) -> None:
        self.window, self.inputs, self.outputs = window, opened.inputs, opened.outputs
        self.opened, self.dtype = opened, opened.dtype
        self.features = sum(part.width for part in opened.inputs)
        self.units = sum(part.width for part in opened.outputs)
        self.waits, self.width = window.waits, self.units + window.waits
        dtype = np.dtype(self.dtype).name
        self.states = [
            StateSpec(LAYER, INPUTS, (window.steps, self.features), dtype),
            StateSpec(LAYER, EVENTS, (1,), dtype),
        ]
        self.state_width = window.steps * self.features + 1
        self.layout = StateLayout.of(self.states, np.zeros(self.state_width, self.dtype))
        self.multiple_rows = max(BATCH_MULTIPLES_ROWS)
        self.one_size = False  # every call has the same number of windows
        self.rows_computed = 0  # one for each event, and the padding

    @property
    def layers(self) -> list[LayerReport]:
        """How it runs, as of layers."""
        window, model = self.window, self.opened.model
        every = f", every {window.every:,} events" if window.every > 1 else ""
        fill = "answers once full" if window.fill == "wait" else "zeros before them"
        over_time = any(part.time is Time.EACH_STEP for part in self.outputs)
        last = "; its last step" if over_time else ""
        return [
            LayerReport(LAYER, "Window", f"last {window.steps:,} events; {fill}", tuple(self.states)),
            LayerReport(model.name, type(model).__name__, f"as it is{every}{last}"),
        ]

    def facts(self) -> ExplicitModel:
        """What is known of it, without a Keras model."""
        return ExplicitModel(
            keras_model=None,
            states=self.states,
            layers=self.layers,
            inputs=self.inputs,
            step_shape=(self.features,),
            features=self.features,
            units=self.units,
            outputs=self.outputs,
            initial=self.layout.initial,
            waits=self.waits,
            first_answer=self.window.first_answer,
        )

    def step(self, x: FloatArray, packed: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See PackedStep."""
        assert packed.shape == (len(x), self.state_width), f"packed {packed.shape} for {len(x)} rows"
        after = np.empty((len(x), self.state_width), self.dtype)
        after[:, : -1 - self.features] = packed[:, self.features : -1]
        after[:, -1 - self.features : -1] = x
        after[:, -1] = self.window.after(packed[:, -1])
        due = self.window.due(after[:, -1])
        self.rows_computed += len(x)
        y = np.zeros((len(x), self.width), self.dtype)
        rows = np.flatnonzero(due)
        y[rows, : self.units] = self._answers(after[rows, :-1], rows)
        if self.waits:
            y[:, -1] = due
        return y, after

    def scan(
        self,
        xs: FloatArray,
        packed: FloatArray,
        resets: BoolArray | None = None,
        active: BoolArray | None = None,
        initial: FloatArray | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """See PackedStep."""
        time, rows = xs.shape[:2]
        ys = np.zeros((time, rows, self.width), self.dtype)
        if not time:
            return ys, packed
        assert packed.shape == (rows, self.state_width), f"packed {packed.shape} for {rows} rows"
        first = self.layout.initial if initial is None else initial
        gathered = gather(self.window, xs, packed, resets, active, first.astype(self.dtype))
        self.rows_computed += time * rows
        self._answer(gathered, ys)
        after = gathered.last()
        if resets is not None or active is not None:
            after[~gathered.finite()] = np.nan
        return ys, after

    def _answer(self, gathered: Gathered, ys: FloatArray) -> None:
        times, rows = np.nonzero(gathered.due)
        failing: dict[int, str] = {}
        for begin in range(0, len(times), self.at_once):
            at, row = times[begin : begin + self.at_once], rows[begin : begin + self.at_once]
            ys[at, row, : self.units] = self._call(gathered.windows(at, row), row, failing)
        if failing:
            raise FailingRowsError(failing)
        if self.waits:
            ys[..., -1] = gathered.due

    @property
    def at_once(self) -> int:
        """Windows in one call of the model, at most."""
        most = self.multiple_rows if self.one_size else min(WINDOWS_AT_ONCE, STEPS_AT_ONCE // self.window.steps)
        return max(self.multiple_rows, most - most % self.multiple_rows)

    def _answers(self, windows: FloatArray, rows: IntArray) -> FloatArray:
        """windows (m, steps · features) → (m, units). Raises FailingRowsError, for these ``rows``."""
        failing: dict[int, str] = {}
        y = np.empty((len(windows), self.units), self.dtype)
        for begin in range(0, len(windows), self.at_once):
            part = slice(begin, begin + self.at_once)
            y[part] = self._call(windows[part], rows[part], failing)
        if failing:
            raise FailingRowsError(failing)
        return y

    def _call(self, windows: FloatArray, rows: IntArray, failing: dict[int, str]) -> FloatArray:
        """Where the model raises an error it says nothing, and ``failing`` says why."""
        try:
            return self._called(windows)
        except ROW_ERRORS as error:
            sound = np.full((1, windows.shape[1]), PADDING, self.dtype)
            found = failing_rows(
                error, len(windows), lambda some: self._called(windows[some]), lambda: self._called(sound)
            )
        failing.update((int(rows[place]), why) for place, why in found.reasons.items())
        return np.zeros((len(windows), self.units), self.dtype)

    def _called(self, windows: FloatArray) -> FloatArray:
        count = self.at_once if self.one_size else len(windows) + -len(windows) % self.multiple_rows
        self.rows_computed += count - len(windows)
        array, tensor = shared((count, windows.shape[1]), self.dtype)
        array[: len(windows)], array[len(windows) :] = windows, PADDING
        (y,) = self._graph(tensor)
        return np.asarray(y)[: len(windows)]

    @cached_property
    def _graph(self) -> Graph:
        steps, features = self.window.steps, self.features

        def run(flat: Any) -> Any:
            vectors = tf.reshape(flat, [-1, steps, features])
            return answer_of(self.opened.call(tensors_of(vectors, self.inputs)), self.outputs, self.dtype)

        return as_graph(run, [tf.TensorSpec([None, steps * features], self.dtype)])

    def settle(self, x: FloatArray) -> bool:
        """Pad to the fewest windows with which none depends on the others, tried with random ones of
        the vectors x (n, features); False if none.

        Where no padding is enough, every call has the same number of windows. Those that the model can't compute are
        left out.
        """
        windows = _shuffled(x, min(TRIED_WINDOWS, max(self.at_once, TRIED_BLOCKS[-1] * max(BATCH_MULTIPLES_ROWS))),
                            self.window.steps)  # fmt: skip
        try:
            windows = windows[computable(len(windows), lambda rows: self._answers(windows[rows], rows))]
        except FailingRowsError:
            return False
        for self.one_size in (False, True):
            for self.multiple_rows in BATCH_MULTIPLES_ROWS:
                if self._is_settled(windows):
                    return True
        self.one_size = False
        return False

    def _is_settled(self, windows: FloatArray) -> bool:
        whole, block = self._answers(windows, np.arange(len(windows))), self.multiple_rows
        pieces = [slice(begin, begin + count * block) for count in TRIED_BLOCKS
                  for begin in (0, block, 7, len(windows) - count * block)]  # fmt: skip
        pieces.append(slice(3, 4))
        return all(
            np.array_equal(self._answers(windows[piece], np.arange(len(windows))[piece]), whole[piece], equal_nan=True)
            for piece in pieces
        )


def _shuffled(x: FloatArray, count: int, steps: int) -> FloatArray:
    """Windows (count, steps · features) of these vectors (n, features), each in another order."""
    chosen = np.random.default_rng(0).integers(0, len(x), (count, steps))
    return np.asarray(x[chosen].reshape(count, -1))
