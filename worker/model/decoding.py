"""Items fed and drawn, many steps of many streams in one TensorFlow call: a model's own output is its next input.

As with one step (``step.py``), a row's result depends neither on the rows around it nor on its place; and many steps in
one call give the same bits as one call for each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from worker.model.backend import tf
from worker.model.failing import ROW_ERRORS, failing_rows
from worker.model.graphs import Graph, as_graph
from worker.model.item_ports import vectors_of_ids
from worker.model.sampling import LARGE_ITEMS, Drawing, Sampler, softmax
from worker.model.step import BATCH_MULTIPLES_ROWS, TRIED_BLOCKS, PackedStep
from worker.records.arrays import BoolArray, FloatArray, IntArray
from worker.records.texts import NO_STOP, NO_TOKEN
from worker.records.writing import Writing, Written

SETTLING_STEPS = 6
TRIED_NUMBERS = 1_000_000  # probabilities of all rows of a trial: of large vocabularies fewer rows are enough, but
LEAST_TRIED_BLOCKS = TRIED_BLOCKS[-1]  # so many for the step alone, which compares batches of so many,
LEAST_DRAWING_BLOCKS = 3  # and so many for feeding and drawing
SETTLING_TEMPERATURES = (0.0, 1.0, 0.7, 1.3)


class PackedDecoder:
    """A packed step whose input is an item and whose output is the probability of each item to be the next.

    ``one_hot``: the step takes vectors of ``units`` numbers, of which the item's is 1; otherwise the item's id.
    ``logits``: the step answers logits, and the decoder makes probabilities of them.
    """

    def __init__(
        self, packed: PackedStep, sampler: Sampler, *, one_hot: bool, logits: bool = False, stop: int = NO_STOP
    ) -> None:
        self.packed, self.sampler = packed, sampler
        self.one_hot, self.logits, self.stop = one_hot, logits, stop
        self.units, self.state_width, self.dtype = packed.units, packed.state_width, packed.dtype
        assert packed.features == (self.units if one_hot else 1), (packed.features, self.units)
        assert sampler.units == self.units, (sampler.units, self.units)
        self._graphs: dict[Drawing | None, Graph] = {}  # None: of one step

    def write(self, writing: Writing) -> Written:
        """Feed and draw, as Writing says. Raises FailingRowsError where the model raises an error at some rows."""
        try:
            return self._written(writing)
        except ROW_ERRORS as error:
            run = lambda rows: self._written(part(writing, rows))  # noqa: E731
            sound = self._padding(writing.temperatures)
            raise failing_rows(error, len(writing.feeds), run, lambda: self._written(sound)) from error

    def _written(self, writing: Writing) -> Written:
        steps, rows = writing.feed.shape
        tokens = np.full((steps, rows), NO_TOKEN, np.int64)
        guessed = (writing.feeds == 0) & (writing.draws > 0) & ~np.isfinite(writing.outputs).all(axis=1)
        idle = writing.feeds + writing.draws == 0
        if idle.all():
            return Written(tokens, writing.packed, writing.outputs, ~guessed)
        drawing = Drawing.enough_for(writing.temperatures[writing.draws > 0])
        items, joined, ends, finite, taken = map(np.asarray, self._graph(drawing)(*self._padded(writing)))
        numbers = np.arange(int(taken))[:, np.newaxis]
        drawn = (numbers >= writing.feeds) & (numbers < ends[:rows])
        tokens[: int(taken)] = np.where(drawn, items[: int(taken), :rows], NO_TOKEN)
        packed, outputs = joined[:rows, : self.state_width], joined[:rows, self.state_width :]
        return Written(tokens, packed, outputs, (finite[:rows] & ~guessed) | idle)

    def _padding(self, temperatures: FloatArray) -> Writing:
        """What any model writes, unless the model itself or the machine is the trouble."""
        ids, numbers, one = np.zeros((2, 1), np.int64), np.zeros((1, self.state_width)), np.ones(1, np.int64)
        return Writing(numbers, np.zeros((1, self.units)), ids, one, one, np.zeros(ids.shape), temperatures[:1])

    def without_stop(self) -> PackedDecoder:
        """The same, but no item ends a text."""
        if self.stop == NO_STOP:
            return self
        return PackedDecoder(self.packed, self.sampler, one_hot=self.one_hot, logits=self.logits)

    def step(self, tokens: IntArray, packed: FloatArray) -> tuple[FloatArray, FloatArray]:
        """ids (n,), packed (n, width) → probabilities (n, units), packed after, read-only; raises as ``write``."""
        try:
            return self._stepped(tokens, packed)
        except ROW_ERRORS as error:
            run = lambda rows: self._stepped(tokens[rows], packed[rows])  # noqa: E731
            sound = np.zeros(1, np.int64), np.zeros_like(packed[:1])
            raise failing_rows(error, len(tokens), run, lambda: self._stepped(*sound)) from error

    def _stepped(self, tokens: IntArray, packed: FloatArray) -> tuple[FloatArray, FloatArray]:
        rows = len(tokens)
        ids = self.packed.with_padding(tokens, 0, np.int32)
        y, after = self._graph(None)(ids, self.packed.with_padding(packed, 0, self.packed.dtype))
        return np.asarray(y)[:rows], np.asarray(after)[:rows]

    def settle(self, rows: int, seed: int = 0) -> bool:
        """Build all graphs; find the fewest rows that batches must be padded to, and try whether that is enough.

        False where a row's result depends on the others on this processor. ``rows``: of the batch that is tried; of
        large vocabularies fewer.
        """
        most = TRIED_NUMBERS // self.units
        writing = self._trial(min(rows, max(most, LEAST_TRIED_BLOCKS * BATCH_MULTIPLES_ROWS[-1])), seed)
        vectors = vectors_of_ids(writing.feed[0], self.units, self.one_hot).astype(self.packed.dtype)
        exact = self.packed.settle(vectors, writing.packed)
        self.step(writing.feed[0], writing.packed)
        rows = min(len(writing.feeds), max(most, LEAST_DRAWING_BLOCKS * self.packed.multiple_rows))
        writing = part(writing, slice(0, rows))
        for drawing in Drawing:
            temperatures = np.select(
                [drawing is Drawing.LIKELIEST, drawing is Drawing.PLAIN],
                [np.zeros(rows), np.minimum(np.ceil(writing.temperatures), 1)],
                writing.temperatures,
            )
            draws = writing.draws * (drawing is not Drawing.NOTHING)
            tried = Writing(
                writing.packed, writing.outputs, writing.feed, writing.feeds, draws, writing.uniforms, temperatures
            )
            exact &= self._independent(tried)
        return exact

    def _trial(self, rows: int, seed: int) -> Writing:
        rng = np.random.default_rng(seed)
        feeds = rng.integers(1, SETTLING_STEPS, rows)
        first = np.broadcast_to(self.packed.layout.initial, (rows, self.state_width))
        outputs, packed = self.step(rng.integers(0, self.units, rows), first)
        return Writing(
            packed=packed,
            outputs=outputs,
            feed=rng.integers(0, self.units, (SETTLING_STEPS, rows)),
            feeds=feeds,
            draws=SETTLING_STEPS - feeds,
            uniforms=rng.random((SETTLING_STEPS, rows)),
            temperatures=rng.choice(SETTLING_TEMPERATURES, rows),
        )

    def _independent(self, writing: Writing) -> bool:
        """Whether rows in batches of other sizes, and at other places, become what they become in one batch."""
        whole, rows = self.write(writing), len(writing.feeds)
        block = self.packed.multiple_rows
        pieces = [slice(0, 1), slice(rows // 2, rows // 2 + block), slice(max(0, rows - block - 1), rows)]
        return all(_same(self.write(part(writing, piece)), whole, piece) for piece in pieces)

    def _padded(self, writing: Writing) -> list[Any]:
        """The tensors of its fields, without the steps that no row takes. Rows that are added neither feed nor draw."""
        padded, steps = self.packed.with_padding, int((writing.feeds + writing.draws).max())
        return [
            padded(np.concatenate([writing.packed, writing.outputs], axis=1), 0, self.packed.dtype),
            padded(writing.feed[:steps], 1, np.int32),
            padded(writing.feeds, 0, np.int32),
            padded(writing.draws, 0, np.int32),
            padded(writing.uniforms[:steps], 1, np.float64),
            padded(writing.temperatures, 0, np.float64),
        ]

    def _graph(self, drawing: Drawing | None) -> Graph:
        if drawing not in self._graphs:
            self._graphs[drawing] = self._built(drawing)
        return self._graphs[drawing]

    def _built(self, drawing: Drawing | None) -> Graph:
        dtype, numbers = self.packed.dtype, tf.TensorSpec([None], tf.int32)
        if drawing is None:
            return as_graph(self._answer, [numbers, tf.TensorSpec([None, self.state_width], dtype)])
        specs = [
            tf.TensorSpec([None, self.state_width + self.units], dtype),
            *(tf.TensorSpec([None, None], tf.int32), numbers, numbers),
            *(tf.TensorSpec([None, None], tf.float64), tf.TensorSpec([None], tf.float64)),
        ]
        return as_graph(lambda *given: self._run_writing(drawing, *given), specs)

    def _answer(self, items: Any, packed: Any) -> tuple[Any, Any]:
        """The graph of one step: ids (n,), packed → probabilities (n, units), packed after."""
        dtype = self.packed.dtype
        x = tf.one_hot(items, self.units, dtype=dtype) if self.one_hot else tf.cast(items, dtype)[:, tf.newaxis]
        y, after = self.packed.run(x, packed)
        return softmax(y) if self.logits else y, after

    def _drawn(self, drawing: Drawing, draws: Any, *given: Any) -> Any:
        """``Sampler.draw``; of a large vocabulary only for rows that draw (n,), because each takes long."""
        if self.units < LARGE_ITEMS:
            return self.sampler.draw(drawing, *given)
        rows = tf.where(draws)
        some = self.sampler.draw(drawing, *(tf.gather(one, rows[:, 0]) for one in given))
        return tf.scatter_nd(rows, some, tf.shape(draws, tf.int64))

    def _run_writing(
        self, drawing: Drawing, joined: Any, feed: Any, feeds: Any, draws: Any, uniforms: Any, temperatures: Any
    ) -> tuple[Any, ...]:
        """The graph of many steps: one loop inside TensorFlow, without Python between the steps.

        A row is packed states and last output side by side. It stays as it is from ``ends`` (n,) on, the step after its
        last. Here a small operation costs what it costs to start it: there are as few as possible, one after the other,
        because to hand one to a thread costs more.
        """
        steps, sizes = tf.shape(feed)[0], [self.state_width, self.units]
        taken = tf.TensorArray(tf.int32, size=steps, element_shape=[None])
        numbers, *prepared = self.sampler.prepared(uniforms, temperatures)

        def body(index: Any, row: Any, ends: Any, finite: Any, taken: Any) -> tuple[Any, ...]:
            packed, outputs = tf.split(row, sizes, axis=1)
            item = tf.gather(feed, index)
            if drawing is not Drawing.NOTHING:
                drawn = self._drawn(
                    drawing, (index >= feeds) & (index < ends), outputs, tf.gather(numbers, index), *prepared
                )
                item = tf.where(index < feeds, item, drawn)
            y, after = self._answer(item, packed)
            after = tf.concat([after, y], axis=1)
            with tf.control_dependencies([after]):
                active = index < ends
                row = tf.where(active[:, tf.newaxis], after, row)
                if self.stop != NO_STOP:
                    ends = tf.where(active & (index >= feeds) & (item == self.stop), index + 1, ends)
            with tf.control_dependencies([row]):
                finite &= tf.reduce_all(tf.math.is_finite(row), axis=1)
            return index + 1, row, ends, finite, taken.write(index, item)

        def goes_on(index: Any, row: Any, ends: Any, *_: Any) -> Any:
            more = index < steps
            return more if self.stop == NO_STOP else more & (index < tf.reduce_max(ends))

        loop = (tf.constant(0), joined, feeds + draws, tf.ones_like(feeds, tf.bool), taken)
        index, joined, ends, finite, taken = tf.while_loop(goes_on, body, loop, parallel_iterations=1)
        return taken.stack(), joined, ends, finite, index


def part(writing: Writing, rows: slice | IntArray) -> Writing:
    """Some of the rows."""
    return Writing(
        packed=writing.packed[rows],
        outputs=writing.outputs[rows],
        feed=writing.feed[:, rows],
        feeds=writing.feeds[rows],
        draws=writing.draws[rows],
        uniforms=writing.uniforms[:, rows],
        temperatures=writing.temperatures[rows],
    )


def _same(some: Written, whole: Written, rows: slice) -> bool:
    pairs: list[tuple[FloatArray | IntArray | BoolArray, FloatArray | IntArray | BoolArray]] = [
        (some.tokens, whole.tokens[:, rows]),
        (some.packed, whole.packed[rows]),
        (some.outputs, whole.outputs[rows]),
    ]
    return all(np.array_equal(one, other, equal_nan=True) for one, other in pairs)
