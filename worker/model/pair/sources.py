"""Sources as users give them, of any lengths → the decoder's first states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worker.model.inputs import InputPart
from worker.model.pair.source import Source
from worker.records.arrays import FloatArray
from worker.records.failing_rows import FailingRowsError
from worker.records.id_numbers import outside, unknown_ids
from worker.records.vocabulary import Vocabulary


def sources_of(
    given: Sequence[ArrayLike] | NDArray[Any], part: InputPart, vocabulary: Vocabulary | None
) -> list[FloatArray]:
    """Each source as (steps, features): ids have one feature. Raises ValueError; UnknownItemError for text."""
    if isinstance(given, str):
        raise ValueError("sources: wanted a list of them, given one text")
    return [_source(one, f"source {number}", part, vocabulary) for number, one in enumerate(given)]


def _source(one: ArrayLike, what: str, part: InputPart, vocabulary: Vocabulary | None) -> FloatArray:
    if isinstance(one, str):
        if vocabulary is None:
            raise ValueError(f"{what} is text: without a source vocabulary it must be ids or vectors")
        one = vocabulary.ids(one)
    array = np.asarray(one)
    if not len(np.atleast_1d(array)):
        raise ValueError(f"{what} is empty")
    if array.ndim > 1 and (part.shape or array.shape[1:] == (1,)):
        if array.shape[1:] not in (part.shape, (part.width,)):
            raise ValueError(f"{what}: wanted vectors {('time', *part.shape)}, given {array.shape}")
        return _known(array.reshape(len(array), part.width), part, part.ids, what)
    if array.ndim != 1:
        raise ValueError(f"{what}: wanted ids (time,), given {array.shape}")
    if part.width == 1 and part.shape and part.ids is None and "int" not in part.dtype:
        raise ValueError(f"{what}: wanted vectors {('time', *part.shape)}, given {array.shape}")
    return _known(array[:, np.newaxis], part, part.ids if part.width == 1 else part.width, what)


def _known(items: FloatArray, part: InputPart, count: int | None, what: str) -> FloatArray:
    if count is not None and unknown_ids(items, count).any():
        raise ValueError(f"{what}: its ids must be whole numbers from 0 to {count - 1}")
    whole = whole_numbers(part)
    if count is None and whole is not None and outside(items, *whole).any():
        raise ValueError(f"{what}: its items must be whole numbers from {whole[0]:,} to {whole[1]:,}")
    return items


def whole_numbers(part: InputPart) -> tuple[int, int] | None:
    """The smallest and the largest that an input of whole numbers takes; None for any numbers."""
    if "int" not in part.dtype:
        return None
    limits = np.iinfo(part.dtype)
    return int(limits.min), int(limits.max)


def encode(source: Source, items: list[FloatArray]) -> FloatArray:
    """Each (steps, features), one step at least → packed states (n, units). Raises ValueError."""
    if source.reads_whole or not items:
        answers = [_whole(source, one, number) for number, one in enumerate(items)]
        return np.array(answers).reshape(len(items), source.units)
    lengths = np.array([len(one) for one in items])
    padded = np.zeros((lengths.max(), len(items), items[0].shape[1]), source.dtype)
    for row, one in enumerate(items):
        padded[: len(one), row] = one
    active = np.arange(len(padded))[:, np.newaxis] < lengths
    try:
        return source.feed(padded, active, np.tile(source.layout.initial, (len(items), 1)))[0]
    except FailingRowsError as failing:
        number, reason = min(failing.reasons.items())
        raise ValueError(_cant(number, reason)) from failing


def _whole(source: Source, items: FloatArray, number: int) -> FloatArray:
    try:
        return source.whole(items)
    except FailingRowsError as failing:
        raise ValueError(_cant(number, failing.reasons[0])) from failing


def _cant(number: int, reason: str) -> str:
    return f"source {number}: the model can't compute its answer ({reason})"
