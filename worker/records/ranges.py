"""The ranges in which the numbers of events are expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.records.arrays import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Ranges:
    """``low`` and ``high`` (features,): both ends belong to the range."""

    low: FloatArray
    high: FloatArray

    @classmethod
    def nothing(cls, features: int) -> Ranges:
        """Of no events: every number is outside."""
        return cls(np.full(features, np.inf), np.full(features, -np.inf))

    def with_(self, vectors: FloatArray) -> Ranges:
        """Wide enough for these events, (events, features), too."""
        return Ranges(
            np.minimum(self.low, vectors.min(axis=0, initial=np.inf)),
            np.maximum(self.high, vectors.max(axis=0, initial=-np.inf)),
        )

    def outside(self, vectors: FloatArray) -> IntArray:
        """(features,) how many of these events, (events, features), are beyond it.

        The ends are rounded as the numbers were: 0.1 as float32 is above 0.1, and yet within a range that ends there.
        """
        low, high = (self._rounded(end, vectors.dtype) for end in (self.low, self.high))
        count: IntArray = ((vectors < low) | (vectors > high)).sum(axis=0)
        return count

    @staticmethod
    @np.errstate(over="ignore")
    def _rounded(end: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        """To the nearest number of this type. None of them lies in between, so that no number is lost by it."""
        return end.astype(dtype) if np.issubdtype(dtype, np.floating) else end
