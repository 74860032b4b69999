"""The hot path: one step of many streams in one TensorFlow call, all states of a stream in one packed row.

A row's result depends neither on the batch around it nor on its place, to the last bit. TensorFlow's kernels take rows
in blocks and compute the rows left over at the end in another way, so batches are padded to whole blocks. The size of a
block differs between processors, and ``settle`` finds it by trial: Eigen's blocks have 24 rows with AVX2 and 48 with
AVX-512 (``gebp_traits::mr`` in Eigen/src/Core/products/GeneralBlockPanelKernel.h), oneDNN's 16.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from worker.model.backend import tf
from worker.model.explicit import ExplicitModel
from worker.model.failing import ROW_ERRORS, failing_rows
from worker.model.graphs import Graph, as_graph
from worker.model.tensors import shared
from worker.records.arrays import BoolArray, FloatArray, IntArray
from worker.records.states import StateLayout

BATCH_MULTIPLES_ROWS = (16, 24, 48)  # the last one is a multiple of the others
TRIED_BLOCKS = (1, 2, 3, 5)  # batches of so many blocks are compared with a large one
PADDING = 0  # a valid id and a valid state, so padding never makes NaN or an index out of range


class PackedStep:
    """The explicit model with its states side by side in one row per stream.

    ``dtype`` is float32, or float64 when a state,
    the input or the output is. Batches are padded to a multiple of ``multiple_rows``.

    Of a model that ``waits`` y has a column more, the last: 1 where there is an answer, and where there is none yet all
    columns are 0. ``width`` counts it.
    """

    def __init__(self, explicit: ExplicitModel) -> None:
        self._explicit = explicit
        self._model = explicit.keras_model
        dtypes = {spec.dtype for spec in explicit.states} | {tensor.dtype for tensor in self._model.outputs}
        dtypes.add(self._model.inputs[0].dtype)
        self.dtype: type[np.floating[Any]] = np.float64 if "float64" in dtypes else np.float32
        self.layout = StateLayout.of(explicit.states, explicit.initial.astype(self.dtype))
        self.state_width = len(self.layout.initial)
        self.features, self.units, self.waits = explicit.features, explicit.units, explicit.waits
        self.width = self.units + self.waits  # of y
        self._widths = [where.stop - where.start for where, _ in self.layout.slices.values()]
        self.multiple_rows = max(BATCH_MULTIPLES_ROWS)
        self.rows_computed = 0  # in all steps, padding too

    def step(self, x: FloatArray, packed: FloatArray) -> tuple[FloatArray, FloatArray]:
        """x (n, features), packed (n, state_width) → y (n, width), packed after (n, state_width); read-only arrays.

        Raises FailingRowsError where the model raises an error at some of the rows.
        """
        try:
            return self._stepped(x, packed)
        except ROW_ERRORS as error:
            run = lambda rows: self._stepped(x[rows], packed[rows])  # noqa: E731
            raise failing_rows(error, len(x), run, self._step_padding) from error

    def _stepped(self, x: FloatArray, packed: FloatArray) -> tuple[FloatArray, FloatArray]:
        rows = len(x)
        assert packed.shape == (rows, self.state_width), f"packed {packed.shape} for {rows} rows"
        # Side by side, because to hand over two arrays takes as long as the step of a few rows.
        computed = self.padded(rows)
        self.rows_computed += computed
        joined, tensor = shared((computed, x.shape[1] + self.state_width), self.dtype)
        joined[:rows, : x.shape[1]], joined[:rows, x.shape[1] :] = x, packed
        joined[rows:] = PADDING
        y, after = self._step_graph(tensor)
        return np.asarray(y)[:rows], np.asarray(after)[:rows]

    def _step_padding(self) -> None:
        """What any model computes, unless the model itself or the machine is the trouble."""
        self._stepped(
            np.full((1, self.features), PADDING, self.dtype), np.full((1, self.state_width), PADDING, self.dtype)
        )

    def settle(self, x: FloatArray, packed: FloatArray) -> bool:
        """Pad to the fewest rows with which no row's result depends on the others, tried with these; False if none."""
        for self.multiple_rows in BATCH_MULTIPLES_ROWS:
            whole, block = self.step(x, packed), self.multiple_rows
            pieces = [
                slice(begin, begin + count * block)
                for count in TRIED_BLOCKS
                for begin in (0, block, len(x) - count * block)
            ]
            if all(_same(self.step(x[piece], packed[piece]), whole, piece) for piece in pieces):
                return True
        return False

    def scan(
        self,
        xs: FloatArray,
        packed: FloatArray,
        resets: BoolArray | None = None,
        active: BoolArray | None = None,
        initial: FloatArray | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """xs (time, n, features), packed (n, state_width) → ys (time, n, width), packed after the last step.

        The same bits as ``step`` called time after time; read-only arrays. ``resets`` (time, n): here the row is
        ``initial`` (state_width,) before the step. ``active`` (time, n): elsewhere the row stays as it is and y says
        nothing. With either, a row that was not finite after any step is NaN at the end: a reset can't hide it. Raises
        as ``step``, for rows at which the model raises an error in any step.
        """
        try:
            return self._scanned(xs, packed, resets, active, initial)
        except ROW_ERRORS as error:

            def run(rows: IntArray) -> None:
                some_resets, some_active = (None if mask is None else mask[:, rows] for mask in (resets, active))
                self._scanned(xs[:, rows], packed[rows], some_resets, some_active, initial)

            raise failing_rows(error, xs.shape[1], run, self._step_padding) from error

    def _scanned(
        self,
        xs: FloatArray,
        packed: FloatArray,
        resets: BoolArray | None,
        active: BoolArray | None,
        initial: FloatArray | None,
    ) -> tuple[FloatArray, FloatArray]:
        rows = xs.shape[1]
        if not len(xs):
            return np.zeros((0, rows, self.width), self.dtype), packed
        assert packed.shape == (rows, self.state_width), f"packed {packed.shape} for {rows} rows"
        self.rows_computed += len(xs) * self.padded(rows)
        tensors = self.with_padding(xs, 1, self.dtype), self.with_padding(packed, 0, self.dtype)
        if resets is None and active is None:
            ys, after = self._scan_graph(*tensors)
        else:
            first = np.zeros(self.state_width, self.dtype) if initial is None else initial
            masks = [
                self.with_padding(
                    (np.full(xs.shape[:2], missing) if mask is None else mask)[..., np.newaxis], 1, np.bool_
                )
                for mask, missing in ((resets, False), (active, True))
            ]
            ys, after = self._masked_scan_graph(*tensors, *masks, tf.convert_to_tensor(first.astype(self.dtype)))
        return np.asarray(ys)[:, :rows], np.asarray(after)[:rows]

    @cached_property
    def _step_graph(self) -> Graph:
        return as_graph(
            self._run_joined, [tf.TensorSpec([None, self._explicit.features + self.state_width], self.dtype)]
        )

    @cached_property
    def _scan_graph(self) -> Graph:
        vectors = tf.TensorSpec([None, None, self._explicit.features], self.dtype)
        return as_graph(self._run_scan, [vectors, tf.TensorSpec([None, self.state_width], self.dtype)])

    @cached_property
    def _masked_scan_graph(self) -> Graph:
        specs = [
            tf.TensorSpec([None, None, self._explicit.features], self.dtype),
            tf.TensorSpec([None, self.state_width], self.dtype),
            tf.TensorSpec([None, None, 1], tf.bool),
            tf.TensorSpec([None, None, 1], tf.bool),
            tf.TensorSpec([self.state_width], self.dtype),
        ]
        return as_graph(self._run_masked_scan, specs)

    def padded(self, rows: int) -> int:
        return rows + -rows % self.multiple_rows

    def with_padding(self, array: NDArray[Any], axis: int, dtype: DTypeLike) -> Any:
        """A tensor with more rows, which are neither reset nor active."""
        rows, before = array.shape[axis], (slice(None),) * axis
        padded, tensor = shared((*array.shape[:axis], self.padded(rows), *array.shape[axis + 1 :]), dtype)
        padded[*before, :rows] = array
        padded[*before, rows:] = PADDING
        return tensor

    def _run_joined(self, joined: Any) -> tuple[Any, Any]:
        """The graph of one step, x and states in one tensor."""
        return self._step(*tf.split(joined, [self._explicit.features, *self._widths], axis=1))

    def run(self, x: Any, packed: Any) -> tuple[Any, Any]:
        """The graph of one step, states packed."""
        return self._step(x, *tf.split(packed, self._widths, axis=1))

    def _step(self, x: Any, *columns: Any) -> tuple[Any, Any]:
        inputs = self._model.inputs
        states = [
            tf.cast(tf.reshape(column, (-1, *tensor.shape[1:])), tensor.dtype)
            for column, tensor in zip(columns, inputs[1:], strict=True)
        ]
        vector = tf.reshape(x, (-1, 1, *self._explicit.step_shape))
        y, *after = self._model([tf.cast(vector, inputs[0].dtype), *states], training=False)
        y = tf.cast(tf.reshape(y, (-1, self.units)), self.dtype)
        if self.waits:
            answered, *after = after
            y = _with_answered(y, tf.cast(tf.reshape(answered, (-1, 1)), self.dtype))
        flat = [
            tf.cast(tf.reshape(state, (-1, width)), self.dtype)
            for state, width in zip(after, self._widths, strict=True)
        ]
        return y, tf.concat(flat, 1)

    def _run_scan(self, xs: Any, packed: Any) -> tuple[Any, Any]:
        """The graph of many steps: one loop inside TensorFlow, without Python between the steps."""
        time = tf.shape(xs)[0]
        ys = tf.TensorArray(self.dtype, size=time, element_shape=[None, self.width])

        def body(index: Any, row: Any, ys: Any) -> tuple[Any, Any, Any]:
            y, after = self.run(xs[index], row)
            return index + 1, after, ys.write(index, y)

        loop = (tf.constant(0), packed, ys)
        _, after, ys = tf.while_loop(lambda index, *_: index < time, body, loop, parallel_iterations=1)
        return ys.stack(), after

    def _run_masked_scan(self, xs: Any, packed: Any, resets: Any, active: Any, initial: Any) -> tuple[Any, Any]:
        """As ``_run_scan``, for rows that return to ``initial`` on the way or end before the others."""
        time = tf.shape(xs)[0]
        ys = tf.TensorArray(self.dtype, size=time, element_shape=[None, self.width])

        def body(index: Any, row: Any, finite: Any, ys: Any) -> tuple[Any, Any, Any, Any]:
            row = tf.where(tf.gather(resets, index), initial, row)
            y, after = self.run(tf.gather(xs, index), row)
            with tf.control_dependencies([after]):  # one by one: to hand such small work to a thread costs more
                row = tf.where(tf.gather(active, index), after, row)
            return index + 1, row, finite & tf.math.is_finite(row), ys.write(index, y)

        loop = (tf.constant(0), packed, tf.ones_like(packed, tf.bool), ys)
        _, after, finite, ys = tf.while_loop(lambda index, *_: index < time, body, loop, parallel_iterations=1)
        return ys.stack(), tf.where(finite, after, tf.constant(np.nan, self.dtype))


def _with_answered(y: Any, answered: Any) -> Any:
    return tf.concat([tf.where(answered > 0, y, tf.zeros_like(y)), answered], 1)


def _same(part: tuple[FloatArray, FloatArray], whole: tuple[FloatArray, FloatArray], piece: slice) -> bool:
    return all(np.array_equal(one, other[piece], equal_nan=True) for one, other in zip(part, whole, strict=True))
