"""Rules where a result so far is joined with each step: the last ``model.memory`` steps are kept, and looked at anew.

As in attention whose scores compare the last step with all: the query changes with each event, and with it all scores.
Tensors of Time.REMEMBERED hold those steps on axis 1; a softmax and a sum over them leave out those that are not there.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from worker.errors import counted
from worker.model.backend import keras
from worker.model.graph import LayerCall, Tensor, copy_weights
from worker.model.layers.attention import NOT_THERE
from worker.model.layers.naming import OPS, NamedOperations
from worker.model.rules import StepBuilder, Time, refuse, takes_remembered
from worker.model.unsettled import refuse_ahead

L = keras.layers
TIME_AXIS = 1
_NN = keras.src.ops.nn
_MERGES = (L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum)
_JOINS = (OPS.Add, OPS.Subtract, OPS.Multiply, OPS.Maximum, OPS.Minimum)
_NUMBERS = (
    *(OPS.Tanh, OPS.Exp, OPS.Negative, OPS.Square, OPS.Sqrt, OPS.Divide, OPS.TrueDivide, keras.src.ops.core.Cast),
    *(_NN.Relu, _NN.Sigmoid, _NN.LeakyRelu, _NN.Elu, _NN.Gelu, _NN.Silu),
    *(L.ReLU, L.LeakyReLU, L.ELU, L.Identity, L.Dropout, L.SpatialDropout1D, L.GaussianNoise),
)


@takes_remembered(object)
def otherwise(call: LayerCall, builder: StepBuilder) -> NoReturn:
    refuse_looking_back(call)


def refuse_looking_back(call: LayerCall) -> NoReturn:
    refuse(
        call,
        "it takes the steps that a result so far was joined with otherwise than one by one, in a softmax or a sum",
        "sum them over time, keras.ops.sum(steps * shares, axis=1), and train again",
    )


def _kept(call: LayerCall, builder: StepBuilder, tensor: Tensor) -> Tensor:
    """(batch, 1, …) of each step → the last ones (batch, steps, …); states ``steps`` and ``count``, once per tensor."""
    if builder.time(tensor) is not Time.EACH_STEP:
        return tensor
    if id(tensor) in builder.remembered:
        return builder.remembered[id(tensor)]
    assert builder.memory is not None, "without memory nothing is kept"
    steps, shape = builder.memory, tuple(tensor.shape[2:])
    name = builder.unique(f"{tensor._keras_history.operation.name}.kept", call.path)
    run = NamedOperations(builder, name)
    flat, after = run.reshaped(tensor, (1, int(np.prod(shape)))), []
    if steps > 1:
        before = builder.state(name, "steps", (steps - 1, flat.shape[-1]), flat.dtype)
        flat = run(OPS.Concatenate, [before, flat], axis=1)
        after.append(L.Cropping1D((1, 0), dtype=flat.dtype, name=run.name("after"))(flat))
    more = run(OPS.Minimum, run(OPS.Add, builder.state(name, "count", (1,), "float32"), 1.0), float(steps))
    builder.answer([*after, more])
    builder.exact_up_to(steps)
    builder.report(call, name, f"the last {counted(steps, 'step')} as state, looked at anew")
    ages = keras.ops.convert_to_tensor(np.arange(steps, 0, -1, dtype="float32")[np.newaxis])
    kept = builder.mark_remembered(run.reshaped(flat, (steps, *shape)), run(OPS.LessEqual, ages, more))
    builder.remembered[id(tensor)] = kept
    return kept


def _called(call: LayerCall, builder: StepBuilder, instead: dict[int, Tensor]) -> Tensor:
    if call.kwargs.get("training") or call.kwargs.get("mask") is not None:
        refuse_looking_back(call)
    copy = builder.copy(call)
    args, kwargs = keras.tree.map_structure(lambda leaf: instead.get(id(leaf), leaf), (call.args, call.kwargs))
    outputs = copy(*args, **{name: value for name, value in kwargs.items() if name != "mask"})
    copy_weights(call.layer, copy)
    builder.report(call, builder.name(call), "as it is")
    return outputs


def _all_kept(call: LayerCall, builder: StepBuilder) -> tuple[dict[int, Tensor], list[Tensor]]:
    """What each tensor of the call is replaced by; those that hold steps."""
    refuse_ahead(call, builder)
    instead = {id(tensor): _kept(call, builder, tensor) for tensor in call.tensors}
    return instead, [tensor for tensor in instead.values() if builder.time(tensor) is Time.REMEMBERED]


def _there(builder: StepBuilder, run: NamedOperations, tensor: Tensor, absent: float) -> Tensor:
    """The steps with ``absent`` in place of those that are not there."""
    present = builder.present(tensor)
    present = run(OPS.Reshape, present, newshape=(-1, present.shape[1], *[1] * (len(tensor.shape) - 2)))
    return run(OPS.Where, present, tensor, absent)


def _one_by_one(call: LayerCall, builder: StepBuilder, time_last: bool = True) -> Tensor:
    """The copy on all steps kept; with ``time_last`` (batch, steps) will do."""
    instead, steps = _all_kept(call, builder)
    length, rank = steps[0].shape[1], max(len(tensor.shape) for tensor in steps)
    for tensor in instead.values():
        whole = tensor.shape[1:2] == (length,) if builder.time(tensor) is Time.REMEMBERED else None
        aligned = len(tensor.shape) == rank and tensor.shape[1] in (1,) if whole is None else whole
        if not aligned and not (isinstance(call.layer, _MERGES) and len(tensor.shape) < rank and whole is None):
            refuse_looking_back(call)
    outputs = _called(call, builder, instead)
    if outputs.shape[1] != length or (not time_last and rank < 3):
        refuse_looking_back(call)
    return builder.mark_remembered(outputs, builder.present(steps[0]))


@takes_remembered(*_JOINS, *_MERGES, joins=True)
@takes_remembered(*_NUMBERS)
def numbers(call: LayerCall, builder: StepBuilder) -> Tensor:
    arrays = [leaf for leaf in keras.tree.flatten((call.args, call.kwargs)) if hasattr(leaf, "shape")]
    if any(not isinstance(leaf, keras.KerasTensor) and np.ndim(leaf) > 1 for leaf in arrays):
        refuse_looking_back(call)
    return _one_by_one(call, builder)


@takes_remembered(L.Dense)
def vectors(call: LayerCall, builder: StepBuilder) -> Tensor:
    return _one_by_one(call, builder, time_last=False)


@takes_remembered(OPS.ExpandDims, OPS.Squeeze)
def axes(call: LayerCall, builder: StepBuilder) -> Tensor:
    axis, rank = call.layer.axis, len(call.tensors[0].shape)
    if not isinstance(axis, int) or axis % (rank + isinstance(call.layer, OPS.ExpandDims)) <= TIME_AXIS:
        refuse_looking_back(call)
    return _one_by_one(call, builder)


@takes_remembered(L.Flatten)
def flatten(call: LayerCall, builder: StepBuilder) -> Tensor:
    if any(size != 1 for size in call.tensors[0].shape[2:]):
        refuse_looking_back(call)
    return _one_by_one(call, builder)


@takes_remembered(L.Softmax, _NN.Softmax, L.Activation)
def softmax(call: LayerCall, builder: StepBuilder) -> Tensor:
    (x,), layer = call.tensors, call.layer
    rank, axis = len(x.shape), getattr(layer, "axis", -1)
    if isinstance(layer, L.Activation) and layer.activation is not keras.activations.softmax:
        return _one_by_one(call, builder)
    if not isinstance(axis, int) or axis % rank == 0:
        refuse_looking_back(call)
    if axis % rank != TIME_AXIS:
        return _one_by_one(call, builder)
    run = NamedOperations(builder, builder.name(call))
    low = NOT_THERE if x.dtype in ("float32", "float64", "bfloat16") else -6e4
    shares = _called(call, builder, {id(x): _there(builder, run, x, low)})
    return builder.mark_remembered(shares, builder.present(x))


@takes_remembered(OPS.Sum)
def total(call: LayerCall, builder: StepBuilder) -> Tensor:
    (x,), axis = call.tensors, call.layer.axis
    found = [one % len(x.shape) for one in (axis if isinstance(axis, (list, tuple)) else [axis]) if one is not None]
    if not found or 0 in found:
        refuse_looking_back(call)
    if TIME_AXIS not in found:
        return _one_by_one(call, builder)
    run = NamedOperations(builder, builder.name(call))
    return builder.mark(_called(call, builder, {id(x): _there(builder, run, x, 0.0)}), Time.SO_FAR)


@takes_remembered(L.Lambda)
def code(call: LayerCall, builder: StepBuilder) -> Tensor:
    """Nearly always a sum over time, which is assumed: the proof shows whether it is."""
    (x,), run = call.tensors, NamedOperations(builder, builder.name(call))
    outputs = _called(call, builder, {id(x): _there(builder, run, x, 0.0)})
    if len(outputs.shape) >= len(x.shape):
        refuse_looking_back(call)
    return builder.mark(outputs, Time.SO_FAR)


@takes_remembered(L.Dot, joins=True)
def dot(call: LayerCall, builder: StepBuilder) -> Tensor:
    """Of a result so far and each step's features: scores; of steps and their shares: the sum over time."""
    instead, steps = _all_kept(call, builder)
    given, layer = [instead[id(tensor)] for tensor in call.tensors], call.layer
    axes_of = layer.axes if isinstance(layer.axes, (list, tuple)) else [layer.axes] * 2
    found = [axis % len(tensor.shape) for axis, tensor in zip(axes_of, given, strict=True)]
    over_time = [
        axis == TIME_AXIS and builder.time(tensor) is Time.REMEMBERED for axis, tensor in zip(found, given, strict=True)
    ]
    if layer.normalize or any(over_time) != all(over_time):
        refuse_looking_back(call)
    if all(over_time):
        run = NamedOperations(builder, builder.name(call))
        instead[id(call.tensors[0])] = _there(builder, run, given[0], 0.0)
        return builder.mark(_called(call, builder, instead), Time.SO_FAR)
    first_is_so_far = builder.time(given[0]) is not Time.REMEMBERED
    if len(steps) != 1 or (first_is_so_far and len(given[0].shape) != 2):
        refuse_looking_back(call)
    return builder.mark_remembered(_called(call, builder, instead), builder.present(steps[0]))
