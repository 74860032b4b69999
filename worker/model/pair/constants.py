"""Tensors that are the same for every source, made by layers that any Keras model may have."""

from __future__ import annotations

from typing import Any

import numpy as np

from worker.model.backend import keras
from worker.model.graph import Tensor
from worker.records.arrays import FloatArray

L = keras.layers


def always(value: FloatArray, anything: Tensor, dtype: str, name: str) -> Tensor:
    """(batch, *shape) with ``value`` in each row; ``anything`` tells how many rows there are."""
    flat = anything if len(anything.shape) == 2 else L.Flatten(name=f"{name}.flat")(anything)
    computed = dtype if "float" in dtype else "float32"
    layer = L.Dense(value.size, name=name, dtype=computed)
    tensor: Any = layer(flat)
    layer.set_weights([np.zeros(layer.kernel.shape), value.reshape(-1)])
    tensor = tensor if value.ndim == 1 else L.Reshape(value.shape, name=f"{name}.shape", dtype=computed)(tensor)
    return tensor if computed == dtype else keras.ops.cast(tensor, dtype)
