"""A candidate model on the events of another: own states, own outputs, and how its answers differ.

Rule of this file: no I/O, clock or logging, as in the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worker.codecs.encoding import Encoder
from worker.codecs.naming import KEY_BYTES_LIMIT
from worker.engine.engine import Engine
from worker.engine.failing import MODEL_ERROR
from worker.engine.turns import INVALID_STATE
from worker.pipeline.pipeline import OUTPUT_BYTES_LIMIT
from worker.records.arrays import FloatArray, IntArray
from worker.records.events import Events, Predictions, Refusal
from worker.records.messages import NO_MESSAGES, Messages

FAILURES = (MODEL_ERROR, INVALID_STATE)
MIDDLE = 0.5  # of the one output of a model that says yes or no


@dataclass(slots=True)
class Compared:
    """How answers differ, over the events that both models have answered.

    ``labels``: events whose most likely unit is another one (a single unit: one that is on the other side of 0.5).
    ``difference``: for each event the greatest difference of a unit, added up.
    """

    events: int = 0
    labels: int = 0
    difference: float = 0.0

    def add(self, ours: FloatArray, others: FloatArray) -> None:
        """ours, others (events, units): answers to the same events."""
        self.events += len(ours)
        if ours.shape[1] == 1:
            self.labels += int(np.count_nonzero((ours >= MIDDLE) != (others >= MIDDLE)))
        else:
            self.labels += int(np.count_nonzero(ours.argmax(axis=1) != others.argmax(axis=1)))
        if len(ours):
            self.difference += float(np.abs(ours.astype(np.float64) - others).max(axis=1).sum())


@dataclass(slots=True)
class Followed:
    """What a candidate made of a turn: its outputs per batch, and how many of them no topic would take.

    ``failed``: records that it can't answer and the other can; ``first``: why, of the first of them.
    """

    outputs: list[Messages]
    compared: Compared
    too_large: int = 0
    failed: int = 0
    first: Refusal | None = None


class ShadowPipeline:
    """Follows a Pipeline of task score turn by turn. Its engine has a table of its own."""

    def __init__(self, engine: Engine, encoder: Encoder, output_bytes: int = OUTPUT_BYTES_LIMIT) -> None:
        self.engine = engine
        self.encoder = encoder
        self.output_bytes = output_bytes

    def follow(self, decoded: Sequence[Events], answered: Sequence[Predictions]) -> Followed:
        """Advance the candidate's states by these events; ``answered``: what the model said to each batch."""
        followed = Followed([], Compared())
        for events, ours, theirs in zip(decoded, self.engine.process(decoded), answered, strict=True):
            outputs = self.encoder.encode(events, ours) if len(ours.outputs) else NO_MESSAGES
            fitting = self._fitting(outputs)
            followed.outputs.append(fitting)
            followed.too_large += len(outputs) - len(fitting)
            failed = [] if events.batch.replay else _failed(ours, theirs)
            followed.failed += len(failed)
            followed.first = followed.first or next(iter(failed), None)
            _compare(followed.compared, len(events), ours, theirs)
        return followed

    def _fitting(self, outputs: Messages) -> Messages:
        """Without those that are larger than a topic takes: the first model has a dead letter for such, if it must."""
        if outputs.largest_bytes() + KEY_BYTES_LIMIT <= self.output_bytes:
            return outputs
        sizes = np.array([outputs.bytes_of(index) for index in range(len(outputs))])
        return outputs.chosen(np.flatnonzero(sizes <= self.output_bytes))


def _failed(ours: Predictions, theirs: Predictions) -> list[Refusal]:
    """Of the records that the other has answered: what is late is so for both."""
    others = {each.record for each in theirs.refusals}
    return [each for each in ours.refusals if each.error in FAILURES and each.record not in others]


def _compare(compared: Compared, events: int, ours: Predictions, theirs: Predictions) -> None:
    if ours.outputs.shape[1] != theirs.outputs.shape[1]:
        return  # of models with other units there is nothing to compare
    if isinstance(ours.events, slice) and ours.events == theirs.events:
        compared.add(ours.outputs, theirs.outputs)
        return
    first, second = _numbers(ours, events), _numbers(theirs, events)
    _, at_first, at_second = np.intersect1d(first, second, assume_unique=True, return_indices=True)
    compared.add(ours.outputs[at_first], theirs.outputs[at_second])


def _numbers(predictions: Predictions, events: int) -> IntArray:
    where = predictions.events
    return np.arange(events)[where] if isinstance(where, slice) else where
