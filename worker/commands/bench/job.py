"""The job that every contender does: events of some streams wait in a topic, and each gets one answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

from worker.records.arrays import FloatArray, IntArray

Keys: TypeAlias = Literal["uniform", "zipf", "hot"]

STRIDE = 7919  # a prime: streams come by turns, and not in the order of their names
ZIPF_EXPONENT = 1.1
HOT_SHARE = 0.5  # of all events belong to stream 0
PERIODS = (17, 23, 31, 37, 41, 43, 47, 53)  # of the features' sawtooth waves
BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Job:
    """``keys``: every stream as often as every other, by Zipf's law, or half of all events of one stream."""

    events: int
    streams: int
    keys: Keys = "uniform"
    features: int = 3
    seed: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """The fields of a value."""
        return tuple(f"f{number}" for number in range(self.features))

    def numbers(self) -> IntArray:
        """(events,) the stream of each event."""
        numbers = np.arange(self.events, dtype=np.int64)
        in_turn: IntArray = numbers * STRIDE % self.streams
        if self.keys == "uniform":
            return in_turn
        draw = np.random.default_rng(self.seed)
        if self.keys == "hot":
            return np.where(draw.random(self.events) < HOT_SHARE, 0, in_turn)
        weights = np.cumsum(np.arange(1, self.streams + 1, dtype=np.float64) ** -ZIPF_EXPONENT)
        drawn: IntArray = np.searchsorted(weights, draw.random(self.events) * weights[-1])
        return drawn

    def vectors(self, events: NDArray[np.integer]) -> FloatArray:
        """(n, features) the values of these events, 0 ≤ value < 1."""
        periods = np.array([PERIODS[number % len(PERIODS)] + number // len(PERIODS) for number in range(self.features)])
        vectors: FloatArray = (events[:, np.newaxis] % periods) / periods
        return vectors

    def messages(self) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """Keys and values in the order in which they are produced, some thousands at a time."""
        numbers, names = self.numbers(), self.names
        for start in range(0, self.events, BATCH):
            chosen = np.arange(start, min(start + BATCH, self.events))
            rows = self.vectors(chosen).tolist()
            yield (
                [key_of(number) for number in numbers[chosen].tolist()],
                [orjson.dumps(dict(zip(names, row, strict=True))) for row in rows],
            )


def key_of(stream: int) -> bytes:
    """The name of a stream, 14 characters."""
    return b"device-%07d" % stream
