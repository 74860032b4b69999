"""The rule of classes that have none: users' own layers and models are followed where they are made of Keras."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from worker.model.advice import FIXED_LENGTH, OPEN_LENGTH
from worker.model.backend import keras
from worker.model.graph import LayerCall, Tensor, first_line, subclassed, tensors_in, walk_graph
from worker.model.layers.masking import carrying, mask_of
from worker.model.rules import StepBuilder, Time, refuse, run_as_it_is, streams, without_time
from worker.model.tracing import Function, UntraceableError, followed, graph_within, is_own
from worker.model.unknown_kinds import refuse_unknown

TRIED_STEPS = 16  # where the number of steps is open


@streams(object)
def unknown(call: LayerCall, builder: StepBuilder) -> Any:
    """A kind without a rule may do anything with time, so its code is followed; without a time axis it only computes.

    Plain operations may also work across the batch, so that one stream would affect another.
    """
    time = without_time(call, builder)
    if isinstance(call.layer, keras.Layer) and time is not None:
        return run_as_it_is(call, builder, time)
    if not is_own(call.layer):
        refuse_unknown(call)
    try:
        graph = followed(call.node)
    except UntraceableError as error:
        _refuse_open_length(call)
        if isinstance(call.layer, keras.Model):
            raise subclassed(call.layer_path, first_line(error)) from error
        refuse_unknown(call, first_line(error))
    return _walked(call, builder, graph)


def _walked(call: LayerCall, builder: StepBuilder, graph: Function) -> Any:
    given = tensors_in((call.args, call.kwargs))
    if len(given) != len(graph.inputs):
        refuse_unknown(call, "it is called in several ways")
    outputs = walk_graph(
        graph,
        given,
        lambda inner: builder.visit(_with_numbers(inner, call.layer)),
        (*call.path, call.layer.name),
    )
    return keras.tree.pack_sequence_as(graph._outputs_struct, _with_masks(call, builder, outputs))


def _refuse_open_length(call: LayerCall) -> None:
    """Refuse code that could be followed if the number of steps were known."""

    def fixed(leaf: Any) -> Any:
        if not isinstance(leaf, keras.KerasTensor) or leaf.shape[1:2] != (None,):
            return leaf
        return keras.KerasTensor((leaf.shape[0], TRIED_STEPS, *leaf.shape[2:]), leaf.dtype)

    given = call.node.arguments.args, call.node.arguments.kwargs
    if all(tensor.shape[1:2] != (None,) for tensor in tensors_in(given)):
        return
    try:
        graph_within(call.node, keras.tree.map_structure(fixed, given))
    except UntraceableError:
        return
    refuse(call, f"its code asks for the number of steps: {OPEN_LENGTH}", FIXED_LENGTH)


def _with_masks(call: LayerCall, builder: StepBuilder, outputs: list[Tensor]) -> list[Tensor]:
    """What runs over time gets the mask of the layer's input, where the layer says so and those within it did not."""
    mask = call.mask if call.mask is not None else mask_of(call.tensors[0])
    over_time = [tensor for tensor in outputs if builder.time(tensor) is Time.EACH_STEP and mask_of(tensor) is None]
    if mask is None or not over_time or not call.layer.supports_masking:
        return outputs
    first = next(iter((*call.node.arguments.args, *call.node.arguments.kwargs.values())))
    symbols = keras.tree.map_structure(lambda tensor: keras.Input(tensor.shape[1:2], dtype="bool"), first)
    try:
        found = keras.tree.flatten(call.layer.compute_mask(first, symbols))
    except Exception:  # noqa: BLE001 (whatever its Python code may raise)
        found = [call]
    if all(one is None for one in found):
        return outputs
    if len(outputs) > 1 or found != [symbols] or builder.steps(outputs[0]) != builder.steps(call.tensors[0]):
        refuse(
            call,
            "its compute_mask makes a mask that the layers within it don't",
            "remove Masking or mask_zero, or let its compute_mask return None, and train again",
        )
    carried = carrying(builder, outputs[0], mask, call.layer.name)
    return [builder.mark(carried, Time.EACH_STEP, builder.steps(outputs[0]))]


def _with_numbers(call: LayerCall, layer: Any) -> LayerCall:
    """The values that the layer's own weights have now, in place of the weights."""

    def number(leaf: Any) -> Any:
        if not isinstance(leaf, keras.Variable):
            return leaf
        cast = layer.autocast and keras.backend.is_float_dtype(leaf.dtype)
        return keras.ops.cast(keras.ops.copy(leaf.value), layer.compute_dtype if cast else leaf.dtype)

    args, kwargs = keras.tree.map_structure(number, (call.args, call.kwargs))
    return replace(call, args=args, kwargs=kwargs)
