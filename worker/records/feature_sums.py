"""The features of many events, summed up: their means, how far they spread, how many are beyond what is expected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worker.records.arrays import FloatArray
from worker.records.ranges import Ranges


@dataclass(frozen=True, slots=True)
class FeatureSums:
    """Of ``events``, at least one; the arrays are (features,)."""

    events: int
    mean: FloatArray
    squares: FloatArray  # squared distances from the mean, added up
    outside: FloatArray  # of ``judged`` events, those beyond the expected range
    judged: int

    @classmethod
    @np.errstate(over="ignore", invalid="ignore")  # of numbers near the greatest that there are
    def of(cls, vectors: FloatArray, expected: Ranges | None) -> FeatureSums:
        """vectors (events, features). Without ``expected`` none is judged."""
        numbers = vectors.astype(np.float64)
        events, first = len(numbers), numbers[0]
        # From the first one: numbers that are all the same then have a spread of exactly 0.
        apart = numbers - first
        shift = apart.mean(axis=0)
        squares = ((apart - shift) ** 2).sum(axis=0)
        if expected is None:
            return cls(events, first + shift, squares, np.zeros(len(first)), 0)
        return cls(events, first + shift, squares, expected.outside(vectors).astype(np.float64), events)

    @np.errstate(over="ignore", invalid="ignore")
    def joined(self, other: FeatureSums) -> FeatureSums:
        """Of both together; exact also where numbers are large and their differences small."""
        events = self.events + other.events
        apart, share = other.mean - self.mean, other.events / events
        return FeatureSums(
            events,
            self.mean + apart * share,
            self.squares + other.squares + apart * apart * (self.events * share),
            self.outside + other.outside,
            self.judged + other.judged,
        )

    @property
    def spread(self) -> FloatArray:
        """The standard deviation of each feature."""
        deviation: FloatArray = np.sqrt(self.squares / self.events)
        return deviation

    @property
    def outside_ratio(self) -> FloatArray | None:
        """The share of each feature's numbers beyond the expected range; None where none was judged."""
        return self.outside / self.judged if self.judged else None
