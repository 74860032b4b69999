"""Turns what users pass to ``step`` and ``scan``, one array or one for each input of the model, into vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worker.model.inputs import InputPart
from worker.model.ports import columns_words
from worker.model.rules import Time
from worker.records.id_numbers import outside, unknown_ids

# One array of vectors; or the inputs as the trained model takes them: by name, or in its order.
Inputs: TypeAlias = ArrayLike | Mapping[str, ArrayLike] | Sequence[ArrayLike]

STEP, SCAN = ("batch",), ("time", "batch")


def vectors_of(
    x: Inputs, parts: Sequence[InputPart], axes: tuple[str, ...], wholes: Sequence[tuple[slice, int, int]] = ()
) -> NDArray[Any]:
    """``x`` as vectors (*axes, features). ``axes`` are STEP or SCAN.

    Inputs of their own are (*axes, *shape) each, without the time axis in a step; in a scan those that are constant per
    stream also (batch, *shape). ``wholes``: columns of whole numbers, the smallest, the largest. Raises a ValueError
    that says what is wanted for which input.
    """
    if isinstance(x, Mapping):
        array = _joined(_named(x, parts, axes), parts, axes)
    elif len(parts) > 1 and isinstance(x, list | tuple):
        array = _joined(_listed(x, parts, axes), parts, axes)
        if all(isinstance(one, list | tuple) and _sizes(one) == array.shape[1:] for one in x) and len(x) == len(array):
            raise ValueError(f"x: nested lists may be its inputs or its rows; {_ways(parts, axes)}")
    else:
        array = _single(np.asarray(x), parts, axes)
    for part in parts:
        if part.ids is not None and unknown_ids(array[..., part.columns], part.ids).any():
            which = f"of input '{part.name}' " if len(parts) > 1 else ""
            raise ValueError(f"x: its ids {which}must be whole numbers from 0 to {part.ids - 1}")
    for columns, lowest, highest in wholes:
        if outside(array[..., columns], lowest, highest).any():
            raise ValueError(f"x: this model takes whole numbers from {lowest:,} to {highest:,}")
    return array


def _sizes(nested: Any) -> tuple[int, ...]:
    """The shape of nested lists, judged by the first of each; () for anything else."""
    return (len(nested), *_sizes(nested[0])) if isinstance(nested, list | tuple) and nested else ()


def _single(array: NDArray[Any], parts: Sequence[InputPart], axes: tuple[str, ...]) -> NDArray[Any]:
    features, lead = sum(part.width for part in parts), len(axes)
    if len(parts) == 1 and array.ndim == lead + len(parts[0].shape) and array.shape[lead:] == parts[0].shape:
        return array.reshape(*array.shape[:lead], features)
    if array.ndim != lead + 1 or array.shape[-1] != features:
        hint = "" if len(parts) == 1 else f"; {_ways(parts, axes)}"
        raise ValueError(f"x: wanted {_shape(axes, (features,))}, given {array.shape}{hint}")
    return array


def _named(x: Mapping[str, ArrayLike], parts: Sequence[InputPart], axes: tuple[str, ...]) -> list[NDArray[Any]]:
    names = [part.name for part in parts]
    for name in [*(name for name in x if name not in names), *(name for name in names if name not in x)]:
        wrong = "this model has no input" if name not in names else "it lacks the input"
        raise ValueError(f"x: {wrong} '{name}'; {_ways(parts, axes)}")
    return [np.asarray(x[name]) for name in names]


def _listed(x: Sequence[ArrayLike], parts: Sequence[InputPart], axes: tuple[str, ...]) -> list[NDArray[Any]]:
    if len(x) != len(parts):
        raise ValueError(f"x: a list of {len(x)} for the {len(parts)} inputs of this model; {_ways(parts, axes)}")
    if any(part.keyed for part in parts):
        raise ValueError(f"x: this model takes its inputs by name, not as a list; {_ways(parts, axes)}")
    return [np.asarray(value) for value in x]


def _joined(arrays: list[NDArray[Any]], parts: Sequence[InputPart], axes: tuple[str, ...]) -> NDArray[Any]:
    """The inputs over time determine the number of rows and steps; constant inputs must have as many rows."""
    first = next((i for i, part in enumerate(parts) if part.time is Time.EACH_STEP), 0)
    lead = arrays[first].shape[: len(axes)]
    columns = []
    for part, array in zip(parts, arrays, strict=True):
        rows = _rows(part, array, lead)
        if rows is None:
            other = parts[first]
            rest = "" if part is other else f", and '{other.name}' has {array_words(lead, axes)}"
            raise ValueError(f"x: input '{part.name}': wanted {_shape(axes, part.shape)}, given {array.shape}{rest}")
        columns.append(rows)
    return np.concatenate(columns, axis=-1)


def _rows(part: InputPart, array: NDArray[Any], lead: tuple[int, ...]) -> NDArray[Any] | None:
    """One input's columns (*lead, width); None where the array does not fit."""
    shapes = {part.shape, (part.width,), *([()] if part.width == 1 else [])}
    if any(array.shape == (*lead, *shape) for shape in shapes):
        return array.reshape(*lead, part.width)
    if part.time is Time.CONSTANT and any(array.shape == (*lead[1:], *shape) for shape in shapes if len(lead) > 1):
        return np.broadcast_to(array.reshape(*lead[1:], part.width), (*lead, part.width))
    return None


def array_words(lead: tuple[int, ...], axes: tuple[str, ...]) -> str:
    """``time 5, batch 2``."""
    return ", ".join(f"{axis} {size}" for axis, size in zip(axes, lead, strict=False))


def _shape(axes: tuple[str, ...], shape: tuple[int, ...]) -> str:
    return f"({', '.join([*axes, *map(str, shape)])}{',' if len(axes) + len(shape) == 1 else ''})"


def _ways(parts: Sequence[InputPart], axes: tuple[str, ...]) -> str:
    """How to pass x to a model with several inputs."""
    names = ", ".join(f"'{part.name}': {_shape(axes, part.shape)}" for part in parts)
    columns = ", ".join(f"{part.name} in {columns_words(part.columns)}" for part in parts)
    whole = _shape(axes, (sum(part.width for part in parts),))
    return f"give {{{names}}}, or one array {whole} with {columns}"
