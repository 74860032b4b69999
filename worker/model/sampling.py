"""Probabilities → an item, as a TensorFlow graph: the same bits for a row whatever the rows around it.

Everything is float64. The vocabulary's axis is padded to whole vectors of the processor's instructions, because exp and
log of the numbers left over at the end are computed in another way. Sums are running ones, in the order of the items.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from numbers import Real
from typing import Any

import numpy as np

from worker.model.backend import tf
from worker.records.arrays import FloatArray, is_whole

MULTIPLE_ITEMS = 16  # numbers of 64 bits in two of the widest registers
LARGE_ITEMS = 1024  # to sort so many takes longer than all else that is done to draw one
HEAD_ITEMS = 256  # of these, with which most texts reach a top_p
BELOW_1 = 1 - 2.0**-52  # times any number is less than that number, also when rounded
NEARLY_ZERO = float(np.finfo(np.float64).tiny)  # TensorFlow takes smaller temperatures for 0


class Drawing(IntEnum):
    """What a graph has to be able to do. A row's item is the same with each that suffices for it."""

    NOTHING = 0
    LIKELIEST = 1  # all temperatures are 0
    PLAIN = 2  # 0 or 1
    TEMPERED = 3

    @classmethod
    def enough_for(cls, temperatures: FloatArray) -> Drawing:
        """``temperatures`` (n,) of the rows that draw."""
        if not len(temperatures):
            return cls.NOTHING
        zero = temperatures < NEARLY_ZERO
        if zero.all():
            return cls.LIKELIEST
        return cls.PLAIN if (zero | (temperatures == 1)).all() else cls.TEMPERED


@dataclass(frozen=True, slots=True)
class Sampler:
    """Draws of ``units`` items: temperature, then the ``top_k`` likeliest, then the likeliest that reach ``top_p``.

    The first of equally likely items counts as the likelier one. None: all items, as with a ``top_k`` of ``units`` or
    more. A random number takes an item by the shares of the items before it: those with smaller ids, or with either
    limit those that are likelier.
    """

    units: int
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if self.top_k is not None and not (is_whole(self.top_k) and self.top_k >= 1):
            raise ValueError(f"top_k is {self.top_k!r}: a whole number, at least 1, or None for all items")
        number = isinstance(self.top_p, Real) and not isinstance(self.top_p, bool)
        if self.top_p is not None and not (number and 0 < self.top_p <= 1):
            raise ValueError(f"top_p is {self.top_p!r}: a number above 0 and at most 1, or None for all items")

    def prepared(self, uniforms: Any, temperatures: Any) -> tuple[Any, Any, Any]:
        """uniforms (…, n), temperatures (n,) float64 → what ``draw`` takes; once for many steps.

        Where the temperature is 0 the first of the likeliest is drawn: of those alone, with the random number 0.
        """
        likeliest = temperatures < NEARLY_ZERO
        numbers = tf.where(likeliest, tf.zeros_like(uniforms), tf.minimum(uniforms, BELOW_1))
        floors = tf.cast(likeliest, tf.float64)[:, tf.newaxis]
        return numbers, floors, tf.where(likeliest, tf.ones_like(temperatures), temperatures)[:, tf.newaxis]

    def draw(self, drawing: Drawing, probabilities: Any, uniforms: Any, floors: Any, temperatures: Any) -> Any:
        """probabilities (n, units), and what ``prepared`` gives of one step → ids (n,) int32, valid in any case.

        ``drawing`` isn't NOTHING.
        """
        count = min(self.top_k or self.units, self.units)
        if drawing is Drawing.LIKELIEST or (count == self.units and self.top_p is None):
            weights = widened(probabilities, 0.0)
            top = tf.reduce_max(weights, axis=1, keepdims=True)
            if drawing is Drawing.LIKELIEST:
                return tf.minimum(_first(weights >= top), self.units - 1)
            below = tf.cumsum(_shaped(drawing, weights, top, floors, temperatures), axis=1)
            return tf.minimum(_first(below > uniforms[:, tf.newaxis] * below[:, -1:]), self.units - 1)
        # To sort what isn't a number is to read beyond the end of the row.
        numbers = tf.where(probabilities > 0, probabilities, 0.0)
        if count == self.units >= LARGE_ITEMS:
            return self._from_the_head(drawing, numbers, uniforms, floors, temperatures)
        return self._of_the_likeliest(drawing, count, numbers, None, uniforms, floors, temperatures)[0]

    def _from_the_head(self, drawing: Drawing, numbers: Any, uniforms: Any, floors: Any, temperatures: Any) -> Any:
        """As ``draw``, by top_p. A whole row is sorted only where the likeliest HEAD_ITEMS don't reach top_p.

        What is to be reached is a share of the sum in the order of the items, so that it is the same either way.
        """
        weights = widened(numbers, 0.0)
        shaped = _shaped(drawing, weights, tf.reduce_max(weights, axis=1, keepdims=True), floors, temperatures)
        total = tf.cumsum(shaped, axis=1)[:, -1:]
        given = numbers, total, uniforms, floors, temperatures
        # Where the head would not even do if all in it were as likely as the first, it isn't looked for.
        head = tf.where(HEAD_ITEMS * tf.reduce_max(shaped, axis=1) >= self.top_p * total[:, 0])
        found = self._of_the_likeliest(drawing, HEAD_ITEMS, *(tf.gather(one, head[:, 0]) for one in given))
        items, reaches = (tf.scatter_nd(head, tf.cast(one, tf.int32), tf.shape(uniforms, tf.int64)) for one in found)
        short = tf.where(reaches == 0)
        others, _ = self._of_the_likeliest(drawing, self.units, *(tf.gather(one, short[:, 0]) for one in given))
        return tf.tensor_scatter_nd_update(items, short, others)

    def _of_the_likeliest(
        self, drawing: Drawing, count: int, numbers: Any, total: Any, uniforms: Any, floors: Any, temperatures: Any
    ) -> tuple[Any, Any]:
        """Ids (n,) drawn of the ``count`` likeliest; (n,) whether these reach top_p.

        ``total`` (n, 1), of which top_p is a share; None: the sum of these.
        """
        values, items = tf.math.top_k(numbers, count)  # of equal ones the first comes first
        weights = widened(values, 0.0)
        below = tf.cumsum(_shaped(drawing, weights, weights[:, :1], floors, temperatures), axis=1)
        kept, reaches = below[:, -1:], None
        if self.top_p is not None:
            reached = _first(below >= self.top_p * (kept if total is None else total))
            reaches = reached < below.shape[1]
            kept = tf.gather(below, tf.minimum(reached, count - 1)[:, tf.newaxis], batch_dims=1)
        drawn = tf.minimum(_first(below > uniforms[:, tf.newaxis] * kept), count - 1)
        return tf.gather(items, drawn, batch_dims=1), reaches


def softmax(logits: Any) -> Any:
    """logits (n, units) → probabilities (n, units) of the same type; a row with NaN or plus infinity is NaN."""
    given = widened(logits, -np.inf)
    shares = tf.exp(given - tf.reduce_max(given, axis=1, keepdims=True))
    total = tf.cumsum(shares, axis=1)[:, -1:]
    return tf.cast((shares / total)[:, : logits.shape[1]], logits.dtype)


def widened(rows: Any, filling: float) -> Any:
    """(n, units) → float64 (n, whole registers)."""
    missing = -rows.shape[1] % MULTIPLE_ITEMS
    wide = tf.cast(rows, tf.float64)
    return tf.pad(wide, [[0, 0], [0, missing]], constant_values=filling) if missing else wide


def _shaped(drawing: Drawing, weights: Any, top: Any, floors: Any, temperatures: Any) -> Any:
    """Weights that are probabilities → p^(1/T), the greatest 1; at T = 1 the probabilities, at 0 the greatest of them.

    ``top`` (n, 1) the greatest.
    """
    weights = tf.where(weights >= top * floors, weights, 0.0)
    if drawing is Drawing.PLAIN:
        return weights
    powers = tf.exp(tf.math.log(weights / top) / temperatures)
    # exp of minus infinity needn't be 0.
    return tf.where((temperatures == 1) | (weights <= 0), weights, powers)


def _first(condition: Any) -> Any:
    """(n, items) → (n,) int32 the first item for which it is true; the number of items where none is."""
    count = condition.shape[1]
    return tf.reduce_min(tf.where(condition, tf.range(count)[tf.newaxis], count), axis=1)
