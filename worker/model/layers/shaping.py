"""Rules of layers that change the shape of a step and keep batch and time in place, or remove time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NoReturn

from worker.model.backend import keras
from worker.model.graph import Layer, LayerCall, is_model
from worker.model.layers.cropping import cropped
from worker.model.layers.naming import NamedOperations
from worker.model.layers.operations import OPS, refuse_axes
from worker.model.layers.per_step import single_time
from worker.model.layers.tails import last_step
from worker.model.rules import StepBuilder, Time, refuse, run_as_it_is, streams, without_time

L = keras.layers


@streams(L.Flatten)
def flatten(call: LayerCall, builder: StepBuilder) -> Any:
    time = without_time(call, builder)
    if time is None and _scores(call):
        return run_as_it_is(call, builder, Time.EACH_STEP)
    if time is None:
        refuse_joined_steps(call, builder)
    return run_as_it_is(call, builder, time)


def _scores(call: LayerCall) -> bool:
    """One number per step that goes into a softmax over the steps: (batch, time, 1) → (batch, time) joins nothing."""
    after = [node.operation for node in call.layer._outbound_nodes]
    softmax = (L.Softmax, OPS.nn.Softmax)
    return call.tensors[0].shape[1:] == (1, 1) and all(
        isinstance(one, softmax) or (type(one) is L.Activation and one.activation is keras.activations.softmax)
        for one in after
    )


@streams(L.Reshape, tails=True)
def reshape(call: LayerCall, builder: StepBuilder) -> Any:
    """Over time only where the first target axis is time again."""
    time = without_time(call, builder)
    if time is not None:
        return run_as_it_is(call, builder, time)
    step = step_shape(call, tuple(call.layer.target_shape))
    if step is None:
        refuse_joined_steps(call, builder)
    return _reshaped(call, builder, (1 + (builder.now.tail if builder.now else 0), *step), Time.EACH_STEP)


@streams(OPS.numpy.Reshape)
def reshape_operation(call: LayerCall, builder: StepBuilder) -> Any:
    """As the layer, but its shape begins with the batch."""
    batch, *target = call.layer.newshape
    time = without_time(call, builder)
    trained = call.node.input_tensors[0].shape
    if batch not in (-1, trained[0]) or not target:
        refuse(
            call,
            "it mixes the streams of a batch",
            "reshape every stream alone, with keras.layers.Reshape, and train again",
        )
    if time is None:
        step = step_shape(call, tuple(target))
        if step is None:
            refuse_joined_steps(call, builder)
        return _reshaped(call, builder, (1, *step), Time.EACH_STEP)
    if batch == -1 and math.prod(target) != math.prod(call.tensors[0].shape[1:]):
        refuse(
            call,
            "it mixes the streams of a batch",
            "reshape every stream alone, with keras.layers.Reshape, and train again",
        )
    return _reshaped(call, builder, tuple(target), time)


def step_shape(call: LayerCall, target: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape of one step, when the first axis of the target (without batch) is time; else None."""
    size = math.prod(call.tensors[0].shape[2:])
    time, *step = target
    if -1 in step:
        lengths = {node.input_tensors[0].shape[1] for node in call.layer._inbound_nodes}
        known = -math.prod(step)
        if lengths != {time} or not known or size % known:
            return None
        step[step.index(-1)] = size // known
    return tuple(step) if math.prod(step) == size else None


def refuse_joined_steps(call: LayerCall, builder: StepBuilder) -> NoReturn:
    which = f" ('{builder.last_recurrent}')" if builder.last_recurrent else ""
    why = f"{call.kind} joins all steps of the window, so there is no output before the window is full"
    recurrent = any(isinstance(one, L.RNN) or is_model(one) for one in _made_of(call.layer))
    if isinstance(call.layer, L.Flatten) and not builder.last_recurrent and not recurrent:
        refuse(call, why, "put a recurrent layer with return_sequences=False in its place, and train again")
    refuse(call, why, f"remove it, set return_sequences=False in the last recurrent layer{which} and train again")


@streams(L.Permute, tails=True)
def permute(call: LayerCall, builder: StepBuilder) -> Any:
    time = without_time(call, builder)
    if time is None and call.layer.dims[0] != 1:
        refuse(
            call,
            "it moves the time axis away",
            "remove it and train again, or, where the model begins with it, do the same to the data before",
        )
    return run_as_it_is(call, builder, time or Time.EACH_STEP)


@streams(OPS.numpy.Transpose, OPS.numpy.Swapaxes, OPS.numpy.Moveaxis, tails=True)
def transpose(call: LayerCall, builder: StepBuilder) -> Any:
    time = single_time(call, builder, features=False)
    order, kept = _order(call.layer, len(call.tensors[0].shape)), 2 if time is Time.EACH_STEP else 1
    if order[:kept] != list(range(kept)):
        refuse(
            call,
            "it moves the batch axis or the time axis away",
            "leave axes 0 and 1 in place, (0, 1, 3, 2), and train again",
        )
    return run_as_it_is(call, builder, time)


def _order(layer: Any, rank: int) -> list[int]:
    """Which axis comes where."""
    order = list(range(rank))
    if isinstance(layer, OPS.numpy.Transpose):
        return [axis % rank for axis in layer.axes] if layer.axes else order[::-1]
    if isinstance(layer, OPS.numpy.Swapaxes):
        one, two = layer.axis1 % rank, layer.axis2 % rank
        order[one], order[two] = two, one
        return order
    source, destination = (
        [axis % rank for axis in (given if isinstance(given, (list, tuple)) else [given])]
        for given in (layer.source, layer.destination)
    )
    order = [axis for axis in order if axis not in source]
    for index, axis in sorted(zip(destination, source, strict=True)):
        order.insert(index, axis)
    return order


@streams(OPS.numpy.Squeeze, tails=True)
def squeeze(call: LayerCall, builder: StepBuilder) -> Any:
    time = single_time(call, builder, features=False)
    if call.layer.axis is None:
        refuse(call, "without an axis it takes every axis of size 1 away, one step's too", "name the axis: axis=-1")
    refuse_axes(call, time, call.layer.axis, len(call.tensors[0].shape))
    return run_as_it_is(call, builder, time)


@streams(OPS.numpy.GetItem, tails=True)
def get_item(call: LayerCall, builder: StepBuilder) -> Any:
    """x[:, :, 2:] is part of every step; x[:, -1] is the output after this step, as without return_sequences; x[:, 2:]
    and the like leave steps out.
    """
    key = key_of(call)
    time = without_time(call, builder)
    batch, steps, *others = per_axis(key, len(call.tensors[0].shape))
    if _everything(batch) and time is not None:
        return run_as_it_is(call, builder, time)
    if _everything(batch) and _everything(steps):
        return run_as_it_is(call, builder, Time.EACH_STEP)
    if _everything(batch) and steps in (-1, slice(-1, None)):
        return run_as_it_is(with_last_step(call, builder), builder, Time.SO_FAR)
    if _everything(batch) and _leaves_out(steps) and all(map(_everything, others)):
        return cropped(call, builder, steps.start or 0, -(steps.stop or 0), steps.step or 1)
    return refuse(
        call,
        f"it cuts {_words(key)} out of the sequence"
        if _everything(batch)
        else f"it takes {_words(key)} out of the batch, whose rows are different streams",
        "leave batch and time whole, as in x[:, :, 2:], or take the last step, x[:, -1], and train again",
    )


def with_last_step(call: LayerCall, builder: StepBuilder) -> LayerCall:
    """The call on the last step alone, where steps follow that are not settled."""
    x, run = call.tensors[0], NamedOperations(builder, builder.name(call))
    last = last_step(builder, run, x, builder.now)
    return call if last is x else replace(call, args=(last, *call.args[1:]), tensors=[last])


def key_of(call: LayerCall) -> Any:
    """What stands in the brackets."""
    return call.args[1] if len(call.args) > 1 else call.kwargs.get("key")


def per_axis(key: Any, rank: int) -> list[Any]:
    """One entry per axis of the input, then the rest; new axes among the first two stay, and get refused."""
    entries = list(key) if isinstance(key, (list, tuple)) else [key]
    named = sum(entry is not None and entry is not Ellipsis for entry in entries)
    for index, entry in enumerate(entries):
        if entry is Ellipsis:
            entries[index : index + 1] = [slice(None)] * (rank - named)
            break
    return entries + [slice(None)] * (rank - named)


def _everything(part: Any) -> bool:
    return isinstance(part, slice) and part.start in (None, 0) and part.stop is None and part.step in (None, 1)


def _leaves_out(part: Any) -> bool:
    """x[:, a:-b:c], which depends on no length."""
    if not isinstance(part, slice):
        return False
    return (part.start or 0) >= 0 and (part.stop is None or part.stop < 0) and (part.step or 1) > 0


def _words(key: Any) -> str:
    """x[:, 0] rather than (slice(None, None, None), 0)."""

    def word(part: Any) -> str:
        if not isinstance(part, slice):
            return "..." if part is Ellipsis else str(part)
        ends = ["" if end is None else str(end) for end in (part.start, part.stop)]
        return ":".join([*ends, *([] if part.step is None else [str(part.step)])])

    parts = key if isinstance(key, (list, tuple)) else [key]
    return f"x[{', '.join(word(part) for part in parts)}]"


def _reshaped(call: LayerCall, builder: StepBuilder, shape: tuple[int, ...], time: Time) -> Any:
    layer = L.Reshape(shape, name=builder.name(call), dtype=call.tensors[0].dtype)
    builder.report(call, builder.name(call), "as it is")
    return builder.mark(layer(call.tensors[0]), time)


def _made_of(layer: Layer) -> Iterator[Layer]:
    """All layers between this layer and the inputs of its graph; nested models whole."""
    seen, waiting = {id(layer)}, [layer]
    while waiting:
        for tensor in [tensor for node in waiting.pop()._inbound_nodes for tensor in node.input_tensors]:
            source = tensor._keras_history.operation
            if id(source) not in seen:
                seen.add(id(source))
                waiting.append(source)
                yield source
