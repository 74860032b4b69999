"""A copy of the trained model for any batch size and length, without states of its own: it answers for prefixes."""

from __future__ import annotations

from typing import Any

from worker.model.backend import keras
from worker.model.graph import Layer, LayerCall, Tensor, copy_layer, copy_weights, walk
from worker.model.inputs import InputPart
from worker.model.proof.any_length import open_changes, opened
from worker.model.rules import Time
from worker.model.scopes import with_names_of_scopes

L = keras.layers


def flexible_copy(original: Any, parts: list[InputPart]) -> Any:
    """The same layers and weights; inputs and outputs as flat lists, in the trained model's order."""
    inputs = [
        keras.Input((None, *part.shape) if part.time is Time.EACH_STEP else part.shape, dtype=part.dtype)
        for part in parts
    ]
    lengths = [x for x, part in zip(inputs, parts, strict=True) if part.time is Time.EACH_STEP]
    outputs = walk(original, inputs, _Copier(lengths[0] if lengths else None).visit)
    return with_names_of_scopes(keras.Model(inputs, outputs))


class _Copier:
    """Copies each layer once, without what binds it to one length."""

    def __init__(self, reference: Tensor | None) -> None:
        self._reference = reference
        self._copies: dict[int, Layer] = {}
        self._names: set[str] = set()

    def visit(self, call: LayerCall) -> Any:
        layer = call.layer
        if isinstance(layer, L.RepeatVector) and self._reference is not None and call.tensors[0].shape[1] is not None:
            return RepeatAlong()([*call.tensors, self._reference])
        if id(layer) not in self._copies:
            self._copies[id(layer)] = self._copy(call)
        copy = self._copies[id(layer)]
        if type(copy) is not type(layer):
            return copy(call.tensors[0])
        if isinstance(layer, L.TimeDistributed):
            outputs = _folded(copy, call)
        else:
            # A mask given to the nested model around is attached to a tensor in the graph, but not when that runs.
            takes_mask = getattr(layer, "_call_has_mask_arg", False) and call.mask is not None
            outputs = copy(*call.args, **call.kwargs | ({"mask": call.mask} if takes_mask else {}))
        copy_weights(layer, copy)
        return outputs

    def _copy(self, call: LayerCall) -> Layer:
        layer = call.layer
        name = layer.name if layer.name not in self._names else f"{layer.name}.{len(self._names)}"
        self._names.add(name)
        return opened(call, name) or copy_layer(layer, name, **open_changes(layer))


def _folded(wrapper: Layer, call: LayerCall) -> Tensor:
    """TimeDistributed with time as part of the batch: its own loop does not run in a graph of open length."""
    tensor = call.tensors[0]
    wrapper.build(tensor.shape)
    wrapper.built = True
    inside = call.mask is not None and len(call.mask.shape) > 2 and wrapper.layer._call_has_mask_arg
    return FoldedTime(wrapper.layer)(tensor, **({"mask": call.mask} if inside else {}))


class FoldedTime(keras.layers.Layer):  # type: ignore[misc]
    """(batch, time, …) → the layer on (batch · time, …) → (batch, time, …)."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(dtype=layer.dtype_policy)
        self.layer = layer
        self.supports_masking = True  # as TimeDistributed does: merging layers look for it

    def call(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        batch, time = keras.ops.shape(x)[:2]
        # Only a mask with axes behind the time is one inside the steps.
        masks = {} if mask is None or len(mask.shape) < 3 else {"mask": _fold(mask)}
        y = self.layer(_fold(x), training=False, **masks)
        return keras.ops.reshape(y, (batch, time, *y.shape[1:]))

    def compute_output_shape(self, shape: Any) -> Any:
        return (*shape[:2], *self.layer.compute_output_shape((None, *shape[2:]))[1:])


def _fold(x: Tensor) -> Tensor:
    return keras.ops.reshape(x, (-1, *x.shape[2:]))


class RepeatAlong(keras.layers.Layer):  # type: ignore[misc]
    """RepeatVector with the length of another tensor: [(batch, units), (batch, time, …)] → (batch, time, units)."""

    def call(self, tensors: list[Tensor]) -> Tensor:
        vector, reference = tensors
        return keras.ops.repeat(vector[:, None], keras.ops.shape(reference)[1], axis=1)

    def compute_output_shape(self, shapes: Any) -> Any:
        (batch, *units), (_, time, *_) = shapes
        return (batch, time, *units)
