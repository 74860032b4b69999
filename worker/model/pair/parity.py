"""The proof of a pair: encoder fed item by item, then decoder step by step, against what was trained.

That is the one model under teacher forcing, or the two files as a user runs them: the encoder on the whole source, then
the decoder with each item in turn. It may be bound to one batch size and length, so a flexible copy answers for other
lengths, and the copy is compared with what was trained once, at the shape that it takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worker.model.facts import TrainedFacts, facts_of
from worker.model.graph import call_model, graph_of, layers_of
from worker.model.inputs import InputPart, part_over_time
from worker.model.keras2_masks import looks_at_its_mask
from worker.model.pair.items import refuse_masked
from worker.model.pair.one_step import is_step
from worker.model.pair.source import Source
from worker.model.proof.flexible import flexible_copy
from worker.model.proof.parity import FREE_BATCH_ROWS, FREE_LENGTH_STEPS, Parity, answers_at_zero, worst
from worker.model.proof.samples import draw, split
from worker.model.rules import Time
from worker.model.step import PackedStep
from worker.records.arrays import FloatArray


class Trained(Protocol):
    """What was trained: the one model, or the two."""

    def draw(self, sequences: int, steps: int, seed: int) -> tuple[FloatArray, FloatArray]:
        """Sources and targets it takes, (sequences, steps, features) each. Their first items are not masked."""

    def answers(self, source: FloatArray, target: FloatArray) -> FloatArray:
        """source (n, steps, features), target (n, steps, features) → y after each item of the target
        (n, steps, units).
        """

    def refuse_start(self, start: int) -> None:
        """Raises ModelRefusedError where this id of the target is masked."""

    def facts(self) -> TrainedFacts:
        """What it says about its training; ``window``: steps of the source."""

    def difference(self, seed: int) -> float:
        """The greatest between the copy that answers and what was trained, at its own shape."""


def measure(
    trained: Trained,
    source: Source,
    decoder: PackedStep,
    sequences: int,
    steps: int,
    seed: int,
    start: FloatArray | None = None,
) -> Parity:
    """Compare on random sources of three lengths, up to ``steps``, and targets of ``steps`` items.

    Every other target begins with ``start`` (features,), where it is given: that item may be masked.
    """
    assert sequences > 0, "no sequences, no proof"
    assert steps > 0, "no steps, no proof"
    sources, targets = trained.draw(sequences, steps, seed)
    if start is not None:
        targets[::2, 0] = start
    lengths = sorted({1, max(1, steps // 3), steps})
    firsts = source.after(sources, lengths)
    ys = np.swapaxes(targets, 0, 1)
    found: list[tuple[float, str]] = []
    largest = 0.0
    for number, length in enumerate(lengths):
        streamed = np.swapaxes(decoder.scan(ys, firsts[:, number])[0], 0, 1)
        wanted = trained.answers(sources[:, :length], targets)
        difference, where = worst(streamed, wanted)
        found.append((difference, f"{where}, after a source of {length} items, streamed against the trained model"))
        largest = max(largest, float(np.nanmax(np.abs(wanted), initial=0)))
    prefixes = max((one for one, _ in found), key=_or_endless)
    batching, where = _against_alone(source, decoder, sources, targets, firsts[:, -1], streamed)
    found.append((batching, f"{where}, in a batch against alone"))
    original = trained.difference(seed + 1)
    found.append((original, "flexible copy against the trained model"))
    greatest, where = max(found, key=lambda one: _or_endless(one[0]))
    return Parity(greatest, where, prefixes, batching, original, largest, sequences, steps)


def _against_alone(
    source: Source,
    decoder: PackedStep,
    sources: FloatArray,
    targets: FloatArray,
    firsts: FloatArray,
    streamed: FloatArray,
) -> tuple[float, str]:
    """Each row by itself: the states after its source, and each answer to its target."""
    states, answers = [], []
    for row in range(len(sources)):
        states.append(source.after(sources[row : row + 1], [sources.shape[1]])[:, 0])
        answers.append(decoder.scan(np.swapaxes(targets[row : row + 1], 0, 1), states[row])[0][:, 0])
    found = worst(firsts, np.concatenate(states)), worst(streamed, np.stack(answers))
    return max(found, key=lambda one: _or_endless(one[0]))


def _or_endless(difference: float) -> float:
    return np.inf if np.isnan(difference) else difference


@dataclass
class OneModel:
    """The model that was trained on [source, target], in any order."""

    model: Any
    target: int  # which input
    step: Time  # whether its answer runs over time

    def __post_init__(self) -> None:
        graph = graph_of(self.model)
        self.parts = beside_each_other([part_over_time(graph, tensor) for tensor in graph.inputs])
        self._shapes = [tensor.shape for tensor in graph.inputs]
        self._copy = flexible_copy(self.model, self.parts, as_long_as=self.target)

    def draw(self, sequences: int, steps: int, seed: int) -> tuple[FloatArray, FloatArray]:
        vectors = beginning(self.model, self.parts, sequences, steps, seed)
        source, target = self.parts[1 - self.target], self.parts[self.target]
        return vectors[..., source.columns], vectors[..., target.columns]

    def answers(self, source: FloatArray, target: FloatArray) -> FloatArray:
        if self.step is Time.EACH_STEP:
            return self._run(source, target)
        prefixes = [self._run(source, target[:, : step + 1]) for step in range(target.shape[1])]
        return np.concatenate(prefixes, axis=1)

    def _run(self, source: FloatArray, target: FloatArray) -> FloatArray:
        order = [source, target] if self.target == 1 else [target, source]
        inputs = [shaped(part, vectors) for part, vectors in zip(self.parts, order, strict=True)]
        (y,) = call_model(self._copy, inputs)
        return np.asarray(y, np.float64).reshape(len(source), -1, y.shape[-1])

    def refuse_start(self, start: int) -> None:
        refuse_masked(self.model, self.target, start)

    def facts(self) -> TrainedFacts:
        return replace(facts_of(self.model, self.parts), window=self._shapes[1 - self.target][1])

    def difference(self, seed: int) -> float:
        return own_shape_difference(self.model, self._copy, self.parts, seed)


@dataclass
class TwoModels:
    """Encoder → states, and decoder [x, *states] → [y, *states after], as they were given."""

    encoder: Any
    decoder: Any

    def __post_init__(self) -> None:
        graph = graph_of(self.encoder)
        self.source = [part_over_time(graph, graph.inputs[0])]
        graph = graph_of(self.decoder)
        states = [
            InputPart(x.name, x.dtype, Time.CONSTANT, tuple(x.shape[1:]), slice(0, int(np.prod(x.shape[1:]))))
            for x in graph.inputs[1:]
        ]
        self.target = beside_each_other([part_over_time(graph, graph.inputs[0]), *states])
        self._encoder = flexible_copy(self.encoder, self.source)
        self._decoder = self.decoder if is_step(self.decoder) else flexible_copy(self.decoder, self.target)

    def draw(self, sequences: int, steps: int, seed: int) -> tuple[FloatArray, FloatArray]:
        source = beginning(self.encoder, self.source, sequences, steps, seed)
        # Called for one step, Keras answers zeros to a masked item, and in a sequence what it answered before.
        target = draw(self.decoder, self.target, sequences, steps, seed + 1, masks=False).vectors
        return source, target[..., self.target[0].columns]

    def answers(self, source: FloatArray, target: FloatArray) -> FloatArray:
        states = [np.asarray(one) for one in call_model(self._encoder, [shaped(self.source[0], source)])]
        answers = []
        for step in range(target.shape[1]):
            item = shaped(self.target[0], target[:, step : step + 1])
            y, *states = [np.asarray(one) for one in call_model(self._decoder, [item, *states])]
            answers.append(np.asarray(y, np.float64).reshape(len(source), -1))
        return np.stack(answers, axis=1)

    def refuse_start(self, start: int) -> None:
        refuse_masked(self.decoder, 0, start)

    def facts(self) -> TrainedFacts:
        read, written = facts_of(self.encoder, self.source), facts_of(self.decoder, self.target)
        return TrainedFacts(
            read.window,
            read.batch if read.batch == written.batch else None,
            read.stateful + written.stateful,
            read.skipped + written.skipped,
            read.half + written.half,
            read.code + written.code,
        )

    def difference(self, seed: int) -> float:
        pairs = [(self.encoder, self._encoder, self.source), (self.decoder, self._decoder, self.target)]
        return max((own_shape_difference(*pair, seed) for pair in pairs), key=_or_endless)


def beginning(
    model: Any, parts: list[InputPart], sequences: int, steps: int, seed: int, masks: bool = True
) -> FloatArray:
    """Vectors (sequences, steps, features) that begin with an item that counts.

    A source of masked items alone may have no answer, such as the mean of no step, and to a masked item at the
    beginning of a target Keras answers as if there were no source.
    """
    vectors = draw(model, parts, sequences, steps, seed, masks).vectors
    vectors[:, 0] = draw(model, parts, sequences, 1, seed, masks=False).vectors[:, 0]
    return vectors


def own_shape_difference(model: Any, copy: Any, parts: list[InputPart], seed: int) -> float:
    """The greatest between a flexible copy and its model, at the batch size and the lengths that this has."""
    shapes = [tensor.shape for tensor in graph_of(model).inputs]
    batch = next((shape[0] for shape in shapes if shape[0]), FREE_BATCH_ROWS)
    lengths = [
        shape[1] or FREE_LENGTH_STEPS if part.time is Time.EACH_STEP else 1
        for shape, part in zip(shapes, parts, strict=True)
    ]
    # Keras 3 runs a model of Keras 2 as it was trained only where no step is masked.
    masks = not any(looks_at_its_mask(layer) for layer in layers_of(model))
    vectors = beginning(model, parts, batch, max(lengths), seed, masks)
    inputs = [
        array[:, :length] if part.time is Time.EACH_STEP else array
        for part, length, array in zip(parts, lengths, split(parts, vectors), strict=True)
    ]
    wanted = answers_at_zero(model, inputs)
    given = [np.asarray(y, np.float64) for y in call_model(copy, inputs)]
    return max((worst(one, two)[0] for one, two in zip(given, wanted, strict=True)), key=_or_endless)


def beside_each_other(parts: list[InputPart]) -> list[InputPart]:
    """The same parts as columns of one vector."""
    ends = np.cumsum([part.width for part in parts]).tolist()
    return [replace(part, columns=slice(end - part.width, end)) for part, end in zip(parts, ends, strict=True)]


def shaped(part: InputPart, vectors: FloatArray) -> NDArray[Any]:
    """(n, steps, features) of this part alone → what its model takes, (n, steps, *shape)."""
    return split([replace(part, columns=slice(0, part.width))], vectors)[0]
