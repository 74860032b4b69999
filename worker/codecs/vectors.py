"""Vectors as records say them → numbers that the model takes, or the reason why it can't."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from worker.codecs.explain import not_finite
from worker.codecs.fields import InputFields
from worker.codecs.unusable import UnusableError
from worker.records.arrays import FloatArray
from worker.records.id_numbers import outside, unknown_ids


def taken(fields: InputFields, vectors: Any, dtype: DTypeLike, chunk: bool) -> FloatArray:
    """(n, width) of ``dtype``: the vectors of one record. ``chunk``: they are a list. Raises UnusableError."""
    numbers = _floats(vectors)
    with np.errstate(over="ignore"):
        found: FloatArray = numbers.astype(dtype)
    finite = np.isfinite(found)
    if not finite.all():
        raise UnusableError("not_finite", not_finite(fields, numbers, finite, chunk))
    unknown = unknown_id(fields, numbers)
    if unknown is not None:
        raise UnusableError("unknown_id", unknown)
    wrong = not_whole(fields, numbers)
    if wrong is not None:
        raise UnusableError("not_whole", wrong)
    return found


def unknown_id(fields: InputFields, vectors: FloatArray) -> str | None:
    """What is wrong with the first id that the model does not know; vectors (n, features) as the records say."""
    for columns, below in fields.ids:
        ids = vectors[:, columns]
        wrong = ids[unknown_ids(ids, below)]
        if len(wrong):
            shown = str(wrong[0]).removesuffix(".0")
            return f"{shown} is not an id that the model knows; ids are whole numbers from 0 to {below - 1}"
    return None


def not_whole(fields: InputFields, vectors: FloatArray) -> str | None:
    """What is wrong with the first number that an input of whole numbers does not take; vectors (n, features)."""
    for columns, lowest, highest in fields.wholes:
        numbers = vectors[:, columns]
        wrong = numbers[outside(numbers, lowest, highest)]
        if len(wrong):
            shown = str(wrong[0]).removesuffix(".0")
            return f"{shown} is not what the model takes: whole numbers from {lowest:,} to {highest:,}"
    return None


def _floats(vectors: Any) -> FloatArray:
    try:
        return np.array(vectors, np.float64)
    except OverflowError:  # of integers, which have no limit
        return np.array([[_float(number) for number in vector] for vector in vectors], np.float64)


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf
