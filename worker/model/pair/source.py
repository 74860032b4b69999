"""Encoders: item by item where the streaming form exists, else on the whole source at once, as it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeAlias
from warnings import catch_warnings

import numpy as np

from worker.errors import ModelRefusedError
from worker.model.backend import tf
from worker.model.building import LayerReport
from worker.model.failing import ROW_ERRORS, failing_rows
from worker.model.graph import call_model, graph_of, layers_of
from worker.model.graphs import Graph, as_graph
from worker.model.inputs import InputPart, part_over_time
from worker.model.item_ports import refuse_waiting
from worker.model.pair.items import depth_of
from worker.model.proof.flexible import flexible_copy
from worker.model.rules import Time
from worker.model.streaming import StreamingModel
from worker.records.arrays import BoolArray, FloatArray
from worker.records.states import StateLayout

TRIED_LENGTHS_ITEMS = (2, 5)

Source: TypeAlias = "StreamedSource | WholeSource"


def source_of(encoder: Any, dtype: type[np.floating[Any]]) -> Source:
    """``encoder``: a Keras model source → states. ``dtype``: of its answers, as the decoder packs its states.

    Raises ModelRefusedError naming the layer that is in the way.
    """
    graph = graph_of(encoder)
    if len(graph.inputs) != 1:
        raise ModelRefusedError(
            encoder.name,
            f"the encoder has {len(graph.inputs)} inputs, and task seq2seq needs one, the source",
            "join what belongs to an item into one vector, and train again",
        )
    try:
        with catch_warnings(action="ignore"):
            source: Source = StreamedSource(StreamingModel(encoder), dtype)
    except ModelRefusedError as refusal:
        source = WholeSource(encoder, part_over_time(graph, graph.inputs[0]), dtype, refusal.with_second(""))
    part = source.part
    if part.ids is None and part.width == 1 and "int" in part.dtype:  # the model itself makes vectors of ids
        source.part = replace(part, ids=depth_of(graph, graph.inputs[0]))
    return source


class _Items:
    """Items as records have them → vectors as the encoder takes them."""

    def __init__(self, part: InputPart, units: int, dtype: type[np.floating[Any]]) -> None:
        self.part, self.units, self.dtype = part, units, dtype
        self.features = part.width  # of an item as ``feed`` gets it
        self.layers: list[LayerReport] = []
        self.why_whole = ""  # why it can't be streamed, where it reads sources as a whole

    def vectors(self, items: FloatArray) -> FloatArray:
        """(…, features) → the same, or (…, 1) ids → one-hot vectors where the encoder takes these."""
        if items.shape[-1] == self.part.width:
            return items
        assert items.shape[-1] == 1, f"items {items.shape} for vectors of {self.part.width} numbers"
        return np.asarray(np.eye(self.part.width, dtype=self.dtype)[items[..., 0].astype(np.int64)])


class StreamedSource(_Items):
    """Keeps the encoder's own states of each stream, and answers after each item (``text_models.SourceEncoder``)."""

    reads_whole = False

    def __init__(self, model: StreamingModel, dtype: type[np.floating[Any]]) -> None:
        (part,) = model.inputs
        super().__init__(part, model.units, dtype)
        self.model, self.layout, self.layers = model, model.layout, model.layers
        refuse_waiting("encoder", model.waits)
        late = next((each for each in model.outputs if each.time is Time.EACH_STEP), None)
        if late is not None:
            raise ModelRefusedError(
                late.name,
                "the decoder takes what the encoder gives of each item, and a stream keeps its last states alone",
                "let it take the encoder's last state, and train again",
            )

    def feed(
        self, items: FloatArray, active: BoolArray, packed: FloatArray
    ) -> tuple[FloatArray, FloatArray, BoolArray]:
        """items (steps, n, features), active (steps, n), packed (n, width) → the answer after the last active step of
        each row (n, units), packed after, finite (n,).
        """
        ys, after = self.model.scan_packed(self.vectors(items).astype(self.model.dtype), packed, active=active)
        answers = ys[active.sum(axis=0) - 1, np.arange(ys.shape[1])].astype(self.dtype)
        return answers, after, np.isfinite(after).all(axis=1) & np.isfinite(answers).all(axis=1)

    def whole(self, items: FloatArray) -> FloatArray:
        """A source (steps, features) → (units,), the answer after its last item."""
        return np.asarray(self.after(items[np.newaxis], [len(items)])[0, 0])

    def after(self, sources: FloatArray, lengths: Sequence[int]) -> FloatArray:
        """sources (n, steps, features) → the answers (n, lengths, units) after so many items of each."""
        packed = np.tile(self.layout.initial, (len(sources), 1))
        xs = np.swapaxes(self.vectors(sources), 0, 1).astype(self.model.dtype)
        ys = self.model.scan_packed(xs, packed)[0]
        return np.asarray(np.swapaxes(ys[np.asarray(lengths) - 1], 0, 1), self.dtype)

    def warm_up(self, max_batch: int) -> bool:
        """As ``StreamingModel.warm_up``."""
        return self.model.warm_up(max_batch)


class WholeSource(_Items):
    """Runs the trained layers on a source once it is complete: they look back from its end."""

    reads_whole = True

    def __init__(
        self, encoder: Any, part: InputPart, dtype: type[np.floating[Any]], refusal: ModelRefusedError
    ) -> None:
        """Raises ``refusal``, why the encoder can't be streamed, where it is bound to one length, too."""
        super().__init__(part, sum(int(np.prod(tensor.shape[1:])) for tensor in graph_of(encoder).outputs), dtype)
        self.layout = StateLayout({}, np.zeros(0, dtype))
        self.why_whole = f"layer '{refusal.layer}': {refusal.why}"
        refuse_chance(encoder)
        try:
            with catch_warnings(action="ignore"):
                self._copy = flexible_copy(encoder, [part])
            tried = [self.whole(np.zeros((length, part.width), dtype)) for length in TRIED_LENGTHS_ITEMS]
        except Exception as error:  # whatever Keras raises when a layer does not fit another number of steps
            raise refusal from error
        if any(answer.shape != (self.units,) for answer in tried):
            raise refusal

    def feed(
        self, items: FloatArray, active: BoolArray, packed: FloatArray
    ) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Never called: there is no answer before the source is complete."""
        raise AssertionError("this encoder reads a source as a whole")

    def whole(self, items: FloatArray) -> FloatArray:
        """A source (steps, features), one step at least → (units,); alone in its batch, so nothing depends on it.

        Raises FailingRowsError where the model raises an error at it.
        """
        try:
            return self._answered(items)
        except ROW_ERRORS as error:
            sound = np.zeros((TRIED_LENGTHS_ITEMS[0], self.part.width), self.dtype)
            raise failing_rows(error, 1, lambda _: None, lambda: self._answered(sound)) from error

    def _answered(self, items: FloatArray) -> FloatArray:
        vectors = self.vectors(items).reshape(1, len(items), *self.part.shape)
        return np.asarray(self._run(tf.cast(vectors, self.part.dtype))[0])

    def warm_up(self, max_batch: int) -> bool:
        """The graph is built already; a source is alone in its batch."""
        return True

    def after(self, sources: FloatArray, lengths: Sequence[int]) -> FloatArray:
        """sources (n, steps, features) → the answers (n, lengths, units) to so many items of each."""
        return np.stack([[self.whole(source[:length]) for length in lengths] for source in sources])

    @cached_property
    def _run(self) -> Graph:
        """One graph for all lengths."""

        def run(x: Any) -> Any:
            outputs = call_model(self._copy, [x])
            return tf.concat([tf.cast(tf.reshape(output, [-1]), self.dtype) for output in outputs], 0)

        spec = tf.TensorSpec([1, None, *self.part.shape], self.part.dtype)
        return as_graph(run, [spec])


def refuse_chance(model: Any) -> None:
    """A source that is read again, after a restart, must give the same states."""
    for layer in layers_of(model):
        if any(node.arguments.kwargs.get("training") for node in layer._inbound_nodes):
            raise ModelRefusedError(
                layer.name,
                "it is called with training=True, so its output is drawn at random",
                "build the model without that argument",
            )
