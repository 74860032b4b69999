"""A few events of a turn, for whoever watches the model: what it read, what it answered, which states it left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worker.engine.turns import Turn
from worker.records.arrays import FloatArray, IntArray
from worker.streams.rows import PackedRows

SAMPLED_COLUMNS = 32  # features, and output units: the first ones
SAMPLED_EVENTS = 512  # of a turn
SAMPLED_NUMBERS = 8192  # of features, and of outputs: with many columns fewer events
SAMPLED_STATE_NUMBERS = 32_768
GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Sample:
    """Of events that the model has stepped through. ``states`` are those of their streams after the turn."""

    vectors: FloatArray  # (events, features), at most SAMPLED_COLUMNS of them
    outputs: FloatArray  # (events, units), at most SAMPLED_COLUMNS of them
    states: FloatArray  # (streams, width)


class Sampler:
    """Copies some events of a turn into ``taken`` when asked: ``wanted`` stays so until a turn has live events.

    Left out are events that are replayed and those that the model gave nothing finite or no answer for, or never saw.
    """

    def __init__(self) -> None:
        self.wanted = False
        self.taken: Sample | None = None

    def look(self, turn: Turn, rows: PackedRows) -> None:
        """Take a sample of this turn, if it has anything to take."""
        stepped = (turn.steps > 0) & turn.answered
        if any(events.batch.replay for events in turn.batches):
            live = [not events.batch.replay for events in turn.batches]
            stepped &= np.repeat(live, [len(events) for events in turn.batches])
        found = np.flatnonzero(stepped)
        if not len(found):
            return
        columns = min(SAMPLED_COLUMNS, max(turn.vectors.shape[1], turn.outputs.shape[1]))
        chosen = found[spread(len(found), min(SAMPLED_EVENTS, SAMPLED_NUMBERS // columns))]
        streams = np.unique(turn.rows[chosen])
        streams = streams[spread(len(streams), max(1, SAMPLED_STATE_NUMBERS // max(1, rows.states.shape[1])))]
        self.wanted = False
        self.taken = Sample(
            turn.vectors[chosen, :SAMPLED_COLUMNS], turn.outputs[chosen, :SAMPLED_COLUMNS], rows.states[streams]
        )


def spread(count: int, most: int) -> IntArray | slice:
    """Of ``count`` things ``most`` all over them, in order; all where there are no more.

    One of each ``count / most`` is taken, at another place among them each time: where four devices take turns, every
    fourth event would always be the same one's.
    """
    if count <= most:
        return slice(None)
    numbers = np.arange(most + 1)
    begins: IntArray = numbers * count // most
    places: IntArray = begins[:-1] + (numbers[:-1] * GOLDEN_RATIO % 1.0 * np.diff(begins)).astype(np.int64)
    return places
