"""A layer of a user's own in the copy that answers for prefixes: the trained layer itself, whatever its code does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker.model.backend import keras
from worker.model.graph import Layer, Tensor

TRIED_STEPS = 16  # where any number would do


class AsTrained(keras.layers.Layer):  # type: ignore[misc]
    """Calls the layer; it is not found within, and nothing is copied."""

    def __init__(self, layer: Layer, node: Any) -> None:
        super().__init__(autocast=False)
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        self.built = True
        self.needs_numbers = False  # whether its code wants to know the number of steps
        # In a function, or Keras would count the layer among those within.
        self._hidden: Callable[[], tuple[Layer, Any]] = lambda: (layer, node)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self._hidden()[0](*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().compute_output_spec(*args, **kwargs)
        except Exception:  # noqa: BLE001 (whatever its code may raise where the number of steps is not known)
            self.needs_numbers = True
        outputs = self._opened(args, kwargs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _opened(self, args: Any, kwargs: Any) -> list[Tensor]:
        """What it gives, open where two lengths make a difference."""
        node = self._hidden()[1]
        trained = node.input_tensors[0].shape[1:2]
        steps = trained[0] if trained and trained[0] else TRIED_STEPS
        for other in (steps - 1, steps + 1):
            try:
                one, two = (self._given_steps(args, kwargs, length) for length in (steps, other))
            except Exception:  # noqa: BLE001, S112 (there may be no answer to so many)
                continue
            return [
                keras.KerasTensor([a if a == b else None for a, b in zip(x.shape, y.shape, strict=True)], x.dtype)
                for x, y in zip(one, two, strict=True)
            ]
        open_time = [(None,) if tensor.shape[1:2] == trained else tensor.shape[1:2] for tensor in node.output_tensors]
        return [
            keras.KerasTensor((None, *time, *tensor.shape[2:]), tensor.dtype)
            for time, tensor in zip(open_time, node.output_tensors, strict=True)
        ]

    def _given_steps(self, args: Any, kwargs: Any, steps: int) -> list[Tensor]:
        def long(leaf: Any) -> Any:
            if not isinstance(leaf, keras.KerasTensor) or leaf.shape[1:2] != (None,):
                return leaf
            return keras.KerasTensor((leaf.shape[0], steps, *leaf.shape[2:]), leaf.dtype)

        args, kwargs = keras.tree.map_structure(long, (args, kwargs))
        return list(keras.tree.flatten(super().compute_output_spec(*args, **kwargs)))


def as_trained(model: Any) -> list[AsTrained]:
    return [layer for layer in model.layers if isinstance(layer, AsTrained)]


def needs_numbers(model: Any) -> bool:
    """Whether the model can only be called on sequences of a known length."""
    return any(layer.needs_numbers for layer in as_trained(model))
