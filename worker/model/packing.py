"""States as arrays, one per layer and name, and as packed rows: all states of a stream side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from worker.errors import StateShapeError, counted
from worker.records.arrays import FloatArray
from worker.records.states import StateLayout, StateSpec

# One array (batch, *shape) per state, in order or as {layer: {name: array}}.
States: TypeAlias = Sequence[ArrayLike] | Mapping[str, Mapping[str, ArrayLike]]


def pack(
    states: States, batch: int, specs: Sequence[StateSpec], layout: StateLayout, dtype: type[np.floating[Any]]
) -> FloatArray:
    """Arrays (batch, *shape) → packed rows (batch, state_width). Raises StateShapeError."""
    given = in_order(states, specs) if isinstance(states, Mapping) else list(states)
    if len(given) != len(specs):
        names = ", ".join(f"{spec.layer}.{spec.name}" for spec in specs)
        nearest = specs[min(len(given), len(specs) - 1)].layer
        raise StateShapeError(nearest, f"{counted(len(specs), 'state')} ({names})", f"{len(given)}")
    packed = np.empty((batch, len(layout.initial)), dtype)
    for spec, value in zip(specs, given, strict=True):
        array, wanted = np.asarray(value), (batch, *spec.shape)
        if array.shape != wanted:
            raise StateShapeError(spec.layer, f"{spec.name} {wanted}", f"{array.shape}")
        packed[:, layout.slices[spec.layer, spec.name][0]] = array.reshape(batch, int(np.prod(spec.shape)))
    return packed


def rows_of(states: States) -> int:
    """How many rows they are of, by the first of them."""
    arrays: Any = (
        [one for parts in states.values() for one in parts.values()] if isinstance(states, Mapping) else states
    )
    return len(np.atleast_1d(arrays[0])) if len(arrays) else 0


def unpack(packed: FloatArray, specs: Sequence[StateSpec], layout: StateLayout) -> list[FloatArray]:
    """Packed rows (batch, state_width) → one new array (batch, *shape) per state."""
    arrays = []
    for spec in specs:
        where, shape = layout.slices[spec.layer, spec.name]
        dtype = "float32" if spec.dtype == "bfloat16" else spec.dtype  # numpy has no bfloat16
        arrays.append(packed[:, where].astype(dtype).reshape(len(packed), *shape))
    return arrays


def in_order(states: Mapping[str, Mapping[str, ArrayLike]], specs: Sequence[StateSpec]) -> list[ArrayLike]:
    """{layer: {name: array}} → the arrays in the order of the states. Raises StateShapeError."""
    known = {(spec.layer, spec.name) for spec in specs}
    for layer, parts in states.items():
        for name in parts:
            if (layer, name) not in known:
                raise StateShapeError(layer, f"one of {', '.join(f'{a}.{b}' for a, b in sorted(known))}", name)
    for spec in specs:
        if spec.name not in states.get(spec.layer, ()):
            raise StateShapeError(spec.layer, f"{spec.name} (batch, {str(spec.shape)[1:]}", "nothing")
    return [states[spec.layer][spec.name] for spec in specs]


def masked(y: FloatArray, waits: bool) -> FloatArray:
    """A copy of y (…, units). Where the model ``waits``: of y (…, units + 1), masked where there is no answer yet."""
    if not waits:
        return np.array(y)
    outputs, answered = y[..., :-1], y[..., -1:] > 0
    return np.ma.MaskedArray(outputs, np.broadcast_to(~answered, outputs.shape), copy=True)
