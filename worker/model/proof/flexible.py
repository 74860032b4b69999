"""A copy of the trained model for any batch size and length, without states of its own: it answers for prefixes."""

from __future__ import annotations

from typing import Any

from worker.model.backend import keras
from worker.model.graph import Layer, LayerCall, Tensor, copy_layer, copy_weights, tensors_in, walk
from worker.model.inputs import InputPart
from worker.model.keras2_masks import looks_at_its_mask, mask_of
from worker.model.proof.any_length import open_changes, opened
from worker.model.proof.as_trained import AsTrained
from worker.model.proof.tables import at_each_step
from worker.model.rules import Time, has_rule
from worker.model.scopes import with_names_of_scopes
from worker.model.tracing import is_own

L = keras.layers


def flexible_copy(
    original: Any, parts: list[InputPart], as_long_as: int | None = None, *, steps: int | None = None
) -> Any:
    """The same layers and weights; inputs and outputs as flat lists, in the trained model's order.

    ``as_long_as``: the input that has as many steps as the outputs; the first over time when left out. ``steps``: it is
    for so many steps alone.
    """
    inputs = [
        keras.Input((steps, *part.shape) if part.time is Time.EACH_STEP else part.shape, dtype=part.dtype)
        for part in parts
    ]
    lengths = [x for x, part in zip(inputs, parts, strict=True) if part.time is Time.EACH_STEP]
    if as_long_as is not None:
        lengths = [inputs[as_long_as]]
    copier = Copier(lengths[0] if lengths else None, [] if as_long_as is not None else lengths)
    outputs = walk(original, inputs, copier.visit)
    return with_names_of_scopes(keras.Model(inputs, outputs))


class Copier:
    """Copies each layer once, without what binds it to one length.

    ``over_time``: of what follows from these inputs, a result that is repeated gets an axis of its own.
    """

    def __init__(self, reference: Tensor | None, over_time: list[Tensor]) -> None:
        self._reference = reference
        self._copies: dict[int, Layer] = {}
        self._names: set[str] = set()
        self._following = list(over_time)  # the tensors themselves: ids of freed ones would come again

    def visit(self, call: LayerCall) -> Any:
        return self.follow(call, self._visited(call))

    def follow(self, call: LayerCall, outputs: Any) -> Any:
        """What this call gives, which follows from what it takes; returns it."""
        following = {id(tensor) for tensor in self._following}
        if any(id(tensor) in following for tensor in call.tensors):
            self._following += tensors_in(outputs)
        return outputs

    def _repeats_along(self, call: LayerCall) -> bool:
        if not isinstance(call.layer, L.RepeatVector) or self._reference is None or call.tensors[0].shape[1] is None:
            return False
        return all(tensor is not call.tensors[0] for tensor in self._following)

    def _visited(self, call: LayerCall) -> Any:
        layer = call.layer
        if self._repeats_along(call):
            return RepeatAlong()([*call.tensors, self._reference])
        if is_own(layer) and not has_rule(type(layer)):
            return AsTrained(layer, call.node)(*call.args, **call.kwargs)
        call = at_each_step(call)
        if id(layer) not in self._copies:
            self._copies[id(layer)] = self._copy(call)
        copy = self._copies[id(layer)]
        if type(copy) is not type(layer):
            return copy(call.tensors[0])
        if isinstance(layer, L.TimeDistributed):
            outputs = _folded(copy, call)
        else:
            # A mask given to the nested model around is attached to a tensor in the graph, but not when that runs.
            mask = call.mask
            if mask is None and looks_at_its_mask(layer):  # Keras 2 did with an initial state, too
                mask = mask_of(call.tensors[0])
            takes_mask = getattr(layer, "_call_has_mask_arg", False) and mask is not None
            outputs = copy(*call.args, **call.kwargs | ({"mask": mask} if takes_mask else {}))
        copy_weights(layer, copy)
        return outputs

    def _copy(self, call: LayerCall) -> Layer:
        layer = call.layer
        name = layer.name if layer.name not in self._names else f"{layer.name}.{len(self._names)}"
        self._names.add(name)
        return opened(call, name) or copy_layer(layer, name, **open_changes(call))


def _folded(wrapper: Layer, call: LayerCall) -> Tensor:
    """TimeDistributed with time as part of the batch: its own loop does not run in a graph of open length."""
    tensor = call.tensors[0]
    wrapper.build(tensor.shape)
    wrapper.built = True
    inside = call.mask is not None and len(call.mask.shape) > 2 and wrapper.layer._call_has_mask_arg
    return FoldedTime(wrapper.layer, tensor.shape[2:])(tensor, **({"mask": call.mask} if inside else {}))


class FoldedTime(keras.layers.Layer):  # type: ignore[misc]
    """(batch, time, *step) → the layer on (batch · time, *step) → (batch, time, …).

    The shape of a step is given: TensorFlow forgets it behind a dilated convolution.
    """

    def __init__(self, layer: Layer, step: tuple[int | None, ...]) -> None:
        super().__init__(dtype=layer.dtype_policy)
        self.layer = layer
        self._step = step
        self.supports_masking = True  # as TimeDistributed does: merging layers look for it

    def call(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        batch, time = keras.ops.shape(x)[:2]
        # Only a mask with axes behind the time is one inside the steps.
        masks = {} if mask is None or len(mask.shape) < 3 else {"mask": _fold(mask, mask.shape[2:])}
        y = self.layer(_fold(x, self._step), training=False, **masks)
        return keras.ops.reshape(y, (batch, time, *y.shape[1:]))

    def compute_output_shape(self, shape: Any) -> Any:
        return (*shape[:2], *self.layer.compute_output_shape((None, *shape[2:]))[1:])


def _fold(x: Tensor, step: tuple[int | None, ...]) -> Tensor:
    return keras.ops.reshape(x, (-1, *step))


class RepeatAlong(keras.layers.Layer):  # type: ignore[misc]
    """RepeatVector with the length of another tensor: [(batch, units), (batch, time, …)] → (batch, time, units)."""

    def call(self, tensors: list[Tensor]) -> Tensor:
        vector, reference = tensors
        return keras.ops.repeat(vector[:, None], keras.ops.shape(reference)[1], axis=1)

    def compute_output_shape(self, shapes: Any) -> Any:
        (batch, *units), (_, time, *_) = shapes
        return (batch, time, *units)
