"""Keras' operations under names of our own: automatic ones could meet the names of a loaded model's layers."""

from __future__ import annotations

from typing import Any

from worker.model.backend import keras
from worker.model.graph import Tensor
from worker.model.rules import StepBuilder

OPS = keras.src.ops.numpy
_CAST = keras.src.ops.core.Cast


class NamedOperations:
    """Calls operations in the model that is being built; all their names begin with ``prefix``."""

    def __init__(self, builder: StepBuilder, prefix: str) -> None:
        self._builder = builder
        self._prefix = prefix

    def __call__(self, kind: type, *operands: Any, **config: Any) -> Tensor:
        return kind(**config, name=self.name(kind.__name__.lower()))(*operands)

    def name(self, part: str) -> str:
        return self._builder.unique(f"{self._prefix}.{part}", ())

    def cast(self, tensor: Tensor, dtype: str) -> Tensor:
        return tensor if tensor.dtype == dtype else self(_CAST, tensor, dtype=dtype)

    def without_mask(self, tensor: Tensor) -> Tensor:
        """The same numbers in a new tensor; a cast to its own type would be the old one, mask and all."""
        return self(OPS.Reshape, tensor, newshape=(-1, *tensor.shape[1:]))

    def reshaped(self, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """(batch, …) → (batch, *shape)."""
        if tuple(tensor.shape[1:]) == shape:
            return tensor
        return keras.layers.Reshape(shape, dtype=tensor.dtype, name=self.name("reshape"))(tensor)
