"""What an input must be for a layer behind it to see a certain value: masks often stand behind a scale of the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from worker.model.backend import keras
from worker.model.graph import Layer
from worker.records.arrays import FloatArray

L = keras.layers
ROUNDINGS = 8  # a value that comes out exactly is looked for so many float32 numbers around
Undo: TypeAlias = Callable[[FloatArray], FloatArray]


def scales(layer: Layer) -> bool:
    """Whether it only scales its input, so that this can be undone."""
    return _undo(layer) is not None


def undone(before: Sequence[Layer], value: Any, shape: tuple[int, ...]) -> FloatArray:
    """(*shape) what makes ``value`` out of it by way of these layers, in order, as far as they only scale.

    Layers are compared in float32: where no number near comes out as exactly ``value``, the nearest is returned, and
    the model masks no such step either.
    """
    wanted: FloatArray = np.broadcast_to(np.asarray(value, np.float64), shape)
    scaling = [layer for layer in before if scales(layer)]
    found: FloatArray = wanted.copy()
    for layer in reversed(scaling):
        undo = _undo(layer)
        assert undo is not None
        found = undo(found)
    if not scaling or not np.isfinite(found).all():
        return wanted.copy()
    near = found.astype(np.float32)
    for toward in (np.float32(-np.inf), np.float32(np.inf)):
        candidate = found.astype(np.float32)
        for _ in range(ROUNDINGS):
            wrong = _run(scaling, near) != wanted
            if not wrong.any():
                return near.astype(np.float64)
            candidate = np.nextafter(candidate, toward)
            near = np.where(wrong & (_run(scaling, candidate) == wanted), candidate, near)
    return near.astype(np.float64)


def _run(layers: Sequence[Layer], values: FloatArray) -> FloatArray:
    """What comes out of these for one step of one sequence."""
    x = keras.ops.convert_to_tensor(values[np.newaxis, np.newaxis])
    for layer in layers:
        x = layer(x)
    return np.asarray(keras.ops.convert_to_numpy(x)[0, 0], np.float64)


def _undo(layer: Layer) -> Undo | None:
    """The inverse of a layer that scales."""
    if type(layer) is L.Rescaling:
        scale, offset = np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64)
        return (lambda x: (x - offset) / scale) if scale.all() else None
    if type(layer) is L.Normalization and not layer.invert and layer.mean is not None:
        mean, variance = (np.asarray(keras.ops.convert_to_numpy(v), np.float64) for v in (layer.mean, layer.variance))
        mean, spread = (v.reshape(v.shape[2:]) if v.ndim > 2 else v.reshape(-1) for v in (mean, np.sqrt(variance)))
        return lambda x: x * np.maximum(spread, keras.config.epsilon()) + mean
    return None
