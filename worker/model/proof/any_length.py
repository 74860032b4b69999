"""Removes what binds a layer to one number of steps, so that the proof can run the trained layers on every prefix.

Only for calls whose rule has said that each step stays alone.
"""

from __future__ import annotations

import math
from typing import Any

from worker.model.backend import keras
from worker.model.graph import Layer, LayerCall, Tensor
from worker.model.layers import code
from worker.model.layers.categories import one_hot
from worker.model.layers.per_step import of_length
from worker.model.layers.repeating import unbound
from worker.model.layers.shaping import key_of, per_axis

L = keras.layers


def open_changes(call: LayerCall) -> dict[str, Any]:
    """Changes of the configuration with which a copy of the layer takes any number of steps."""
    layer = call.layer
    if isinstance(layer, (L.RNN, L.Bidirectional)):
        return unbound(layer)
    if call.tensors and call.tensors[0].shape[1:2] != (None,):  # an axis that is no time keeps its length
        return {}
    if isinstance(layer, L.Lambda):
        return code.of_length(layer, None)
    return of_length(layer, None) if isinstance(layer, L.EinsumDense) else {}


def opened(call: LayerCall, name: str) -> Layer | None:
    """Another layer that does the same to any number of steps; None where the layer itself does."""
    layer = call.layer
    shape: tuple[Any, ...] = call.tensors[0].shape if call.tensors else ()
    if len(shape) < 2 or shape[1] is not None:
        # The operation's shape begins with the batch, which the trained model may have fixed.
        fixed = isinstance(layer, keras.src.ops.numpy.Reshape)
        return L.Reshape(layer.newshape[1:], name=name, dtype=call.tensors[0].dtype) if fixed else None
    if isinstance(layer, (L.Reshape, keras.src.ops.numpy.Reshape)):
        target = list(layer.target_shape if isinstance(layer, L.Reshape) else layer.newshape[1:])[1:]
        if -1 in target:
            target[target.index(-1)] = math.prod(shape[2:]) // -math.prod(target)
        return L.Reshape((-1, *target), name=name, dtype=call.tensors[0].dtype)
    if isinstance(layer, L.CategoryEncoding) and len(shape) == 2:
        return one_hot(layer, name)
    if isinstance(layer, keras.src.ops.numpy.GetItem):
        key = per_axis(key_of(call), len(shape))
        return LastStep(key[2:], name=name) if key[1] == slice(-1, None) else None
    return None


class LastStep(keras.layers.Layer):  # type: ignore[misc]
    """x[:, -1:, …] with one step in its shape: Keras does not count it where the number of steps is open."""

    def __init__(self, key: list[Any], name: str) -> None:
        super().__init__(name=name)
        self._key = (slice(None), slice(None), *key)

    def call(self, x: Tensor) -> Tensor:
        return keras.ops.expand_dims(x[:, -1], 1)[self._key]
