"""What would be without any fault: plain Keras layers over whole sequences, nothing of the worker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tests.sequences import FEATURES, Log, expected

LABELS = ("a", "b", "c")


def cut(log: Log, events: int) -> Log:
    """The first so many events of a log, as a log."""
    sequences = [[index for index in sequence if index < events] for sequence in log.sequences]
    return Log(
        log.keys[:events], log.values[:events], log.vectors[:events],
        [sequence for sequence in sequences if sequence], log.reasons[:events],
    )  # fmt: skip


@dataclass(slots=True)
class StreamState:
    """A stream after its last event: (12,), (12,), (8,) and how many events since zero."""

    steps: int
    lstm_h: np.ndarray
    lstm_c: np.ndarray
    gru_h: np.ndarray


class Reference:
    """The undisturbed answer to a log. ``every`` answers all prefixes of a sequence, see ``tests.sequences``."""

    def __init__(self, log: Log, every: Any) -> None:
        self.log, self._every = log, every
        self.index_of = {value: index for index, value in enumerate(log.values)}
        assert len(self.index_of) == len(log.values), "two events of the log have the same value"

    @cached_property
    def answers(self) -> tuple[np.ndarray, list[int]]:
        """(events, units) probabilities, and the step of each event."""
        return expected(self.log, self._every)

    def fields(self, index: int) -> dict[str, Any]:
        """What the output of an event says beside its probabilities, which follows from the event itself."""
        value = json.loads(self.log.values[index])
        return {
            "stream": self.log.keys[index].decode(),
            "sequence": value["id"],
            "step": self.answers[1][index],
            "final": value.get("last", False),
            "reset": self.log.reasons[index],
            "time": value["time"],
        }

    @cached_property
    def states(self) -> dict[str, StreamState]:
        """Stream → its state at the end: plain layers over the stream's last sequence, from zero."""
        from tests.models import L
        from worker.model.backend import keras

        x = keras.Input((None, len(FEATURES)))
        lstm, gru = L.LSTM(12, return_sequences=True, return_state=True), L.GRU(8, return_state=True)
        outer, h, c = lstm(x)
        _, inner = gru(L.LeakyReLU()(outer))
        states = keras.Model(x, [h, c, inner])
        lstm.set_weights(self._every.layers[0].get_weights())
        gru.set_weights(self._every.layers[2].get_weights())
        last = {self.log.keys[sequence[-1]].decode(): sequence for sequence in sorted(self.log.sequences, key=max)}
        found = {}
        for stream, sequence in last.items():
            vectors = np.array([[self.log.vectors[index] for index in sequence]], np.float32)
            h, c, inner = (keras.ops.convert_to_numpy(state)[0] for state in states(vectors))
            found[stream] = StreamState(len(sequence), h, c, inner)
        return found
