"""Rules of a softmax over time and of the sum that takes it: attention pooling, exact after every step.

With scores s and steps v, sum(softmax(s) · v) over the steps so far follows from its value one step earlier: ``sum + (v
− sum) · share``, where share = exp(s) / (the sum of all exp(s) so far); the greatest s keeps exp(s) small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from worker.model.backend import keras
from worker.model.graph import LayerCall, Tensor
from worker.model.layers.naming import OPS, NamedOperations
from worker.model.layers.pooling import added
from worker.model.rules import StepBuilder, Time, refuse_share, takes_shares
from worker.model.share import Share
from worker.model.unsettled import refuse_ahead

L = keras.layers
TIME_AXIS = 1


def softmax_over_time(call: LayerCall, builder: StepBuilder) -> Tensor:
    """Scores (batch, 1, …) → the share of this step; states ``max`` and ``sum`` (scores,)."""
    (x,), name = call.tensors, builder.name(call)
    refuse_ahead(call, builder)
    run, units, wide = NamedOperations(builder, name), int(np.prod(x.shape[1:])), _wide(x)
    scores = run.reshaped(run.cast(x, wide), (units,))
    greatest, total = (builder.state(name, state, (units,), wide) for state in ("max", "sum"))
    begun = run(OPS.Greater, total, 0.0)
    high = run(OPS.Where, begun, run(OPS.Maximum, greatest, scores), scores)
    kept = run(OPS.Where, begun, run(OPS.Multiply, total, run(OPS.Exp, run(OPS.Subtract, greatest, high))), 0.0)
    weight = run(OPS.Exp, run(OPS.Subtract, scores, high))
    after = run(OPS.Add, kept, weight)
    builder.answer([high, after])
    builder.report(call, name, "a share of the steps so far: the greatest score and the sum as state")
    share = run.reshaped(run(OPS.Divide, weight, after), tuple(x.shape[1:]))
    return builder.mark_share(Share(call.layer_path, run.cast(share, x.dtype), gone=share, total=None))


def divided_by_all(call: LayerCall, builder: StepBuilder) -> Tensor | None:
    """Numbers of each step by a number so far, (batch, 1, …): shares that were not made by softmax. None for others."""
    tensors = call.tensors
    if len(tensors) != 2 or [builder.time(tensor) for tensor in tensors] != [Time.EACH_STEP, Time.SO_FAR]:
        return None
    step, total = tensors
    if len(step.shape) != len(total.shape) or total.shape[TIME_AXIS] != 1:
        return None
    refuse_ahead(call, builder)
    builder.report(call, builder.name(call), "left to the sum over time")
    now = L.Identity(dtype=step.dtype, name=builder.unique(f"{builder.name(call)}.part", ()))(step)
    return builder.mark_share(Share(call.layer_path, now, gone=None, total=total))


def _wide(tensor: Tensor) -> str:
    return "float64" if tensor.dtype == "float64" else "float32"


def _called(call: LayerCall, builder: StepBuilder, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The layer's copy on tensors that take the place of its own."""
    own = {id(tensor) for tensor in call.tensors}
    copy = builder.copy(call)
    args, kwargs = keras.tree.map_structure(
        lambda leaf: change(leaf) if id(leaf) in own else leaf, (call.args, call.kwargs)
    )
    return copy(*args, **{name: value for name, value in kwargs.items() if name != "mask"})


def _shared(call: LayerCall, builder: StepBuilder) -> Share:
    """The only share that the call takes."""
    shares = [tensor for tensor in call.tensors if builder.time(tensor) is Time.SHARE]
    if len(shares) != 1 or call.kwargs.get("training"):
        refuse_share(call, builder)
    return builder.share(shares[0])


def _reshaped(call: LayerCall, builder: StepBuilder, axis: int) -> Tensor:
    """Apply an operation that only moves numbers to all parts of a share; then the time is at ``axis``."""
    share = _shared(call, builder)
    moved = _each(share, lambda part: _called(call, builder, lambda _: part), axis)
    if moved.now.shape[axis] != 1:
        refuse_share(call, builder)
    builder.report(call, builder.name(call), "as it is")
    return builder.mark_share(moved)


def _each(share: Share, change: Callable[[Tensor], Tensor], axis: int = TIME_AXIS) -> Share:
    """The same change to all parts of a share."""
    gone, total = (None if part is None else change(part) for part in (share.gone, share.total))
    return Share(share.source, change(share.now), gone, total, axis)


@takes_shares(L.Identity, L.Dropout, L.SpatialDropout1D, L.GaussianNoise, keras.src.ops.core.Cast)
def as_it_is(call: LayerCall, builder: StepBuilder) -> Tensor:
    return _reshaped(call, builder, _shared(call, builder).axis)


@takes_shares(OPS.ExpandDims)
def _new_axis(call: LayerCall, builder: StepBuilder) -> Tensor:
    share, axis = _shared(call, builder), call.layer.axis
    rank = len(share.now.shape) + 1
    if not isinstance(axis, int) or axis % rank <= share.axis:
        refuse_share(call, builder)
    return _reshaped(call, builder, share.axis)


@takes_shares(OPS.GetItem)
def _part_of_each(call: LayerCall, builder: StepBuilder) -> Tensor:
    share, key = _shared(call, builder), call.args[1] if len(call.args) > 1 else call.kwargs.get("key")
    parts = key if isinstance(key, (list, tuple)) else (key,)
    whole = [part is Ellipsis or part == slice(None) for part in parts[:2]]
    if not whole or not all(whole) or (len(whole) == 1 and parts[0] is not Ellipsis):
        refuse_share(call, builder)
    return _reshaped(call, builder, share.axis)


@takes_shares(L.Reshape)
def _steps_reshaped(call: LayerCall, builder: StepBuilder) -> Tensor:
    """(batch, time) → (batch, time, 1) and the like."""
    share, step = _shared(call, builder), call.layer.target_shape[1:]
    if share.axis != TIME_AXIS or -1 in step or int(np.prod(share.now.shape[2:])) != int(np.prod(step)):
        refuse_share(call, builder)
    run = NamedOperations(builder, builder.name(call))
    builder.report(call, builder.name(call), "as it is")
    return builder.mark_share(_each(share, lambda part: run.reshaped(part, (1, *step))))


@takes_shares(L.RepeatVector)
def _repeated(call: LayerCall, builder: StepBuilder) -> Tensor:
    """(batch, time) → (batch, n, time): the same share for n features, to be turned by Permute((2, 1))."""
    return _reshaped(call, builder, 2)


@takes_shares(L.Permute, OPS.Transpose, OPS.Swapaxes)
def _turned(call: LayerCall, builder: StepBuilder) -> Tensor:
    share, layer = _shared(call, builder), call.layer
    order = (
        list(layer.dims) if isinstance(layer, L.Permute)
        else [2, 1] if isinstance(layer, OPS.Swapaxes) and {layer.axis1 % 3, layer.axis2 % 3} == {1, 2}
        else list(layer.axes or [])[1:] if isinstance(layer, OPS.Transpose)
        else []
    )  # fmt: skip
    if order != [2, 1] or len(share.now.shape) != 3:
        refuse_share(call, builder)
    return _reshaped(call, builder, 3 - share.axis)


@takes_shares(L.Multiply, OPS.Multiply)
def product_with_steps(call: LayerCall, builder: StepBuilder) -> Tensor:
    """Shares times the steps that they are shares of."""
    share = _shared(call, builder)
    others = [tensor for tensor in call.tensors if tensor is not share.now]
    arrays = [leaf for leaf in keras.tree.flatten((call.args, call.kwargs)) if not isinstance(leaf, keras.KerasTensor)]
    aligned = all(
        builder.time(tensor) is Time.EACH_STEP and len(tensor.shape) == len(share.now.shape) for tensor in others
    )
    if share.axis != TIME_AXIS or not aligned or any(np.size(array) != 1 for array in arrays if array is not None):
        refuse_share(call, builder)
    now = _called(call, builder, lambda tensor: tensor)
    builder.report(call, builder.name(call), "as it is")
    return builder.mark_share(replace(share, now=now))


@takes_shares(OPS.Sum, OPS.Mean, L.GlobalAveragePooling1D)
def _over_time(call: LayerCall, builder: StepBuilder) -> Tensor:
    share, layer = _shared(call, builder), call.layer
    axis = getattr(layer, "axis", TIME_AXIS)
    axes = list(axis) if isinstance(axis, (list, tuple)) else [axis]
    if None in axes or [a % len(share.now.shape) for a in axes] != [share.axis] or call.kwargs.get("mask") is not None:
        refuse_share(call, builder)
    run = NamedOperations(builder, builder.name(call))
    total = _accumulated(call, builder, run, share, average=not isinstance(layer, OPS.Sum))
    # Of one step its sum and mean is that step.
    return builder.mark(_called(call, builder, lambda _: total), Time.SO_FAR)


@takes_shares(L.Lambda)
def _over_time_by_code(call: LayerCall, builder: StepBuilder) -> Tensor:
    """Nearly always ``K.sum(x, axis=1)``, which is assumed: the proof shows whether it is."""
    share = _shared(call, builder)
    node = call.node
    given, made = node.input_tensors[0].shape, node.output_tensors[0].shape
    if share.axis != TIME_AXIS or (len(made) == len(given) and made[1] != 1):
        refuse_share(call, builder)
    total = _accumulated(call, builder, NamedOperations(builder, builder.name(call)), share)
    return builder.mark(_called(call, builder, lambda _: total), Time.SO_FAR)


@takes_shares(L.Dot, OPS.Matmul, OPS.Einsum)
def _contracted(call: LayerCall, builder: StepBuilder) -> Tensor:
    """A product with the steps that sums over time and over nothing else: on one step it is that step's part."""
    share = _shared(call, builder)
    others = [tensor for tensor in call.tensors if tensor is not share.now]
    if len(others) != 1 or builder.time(others[0]) is not Time.EACH_STEP or not _sums_time_only(call, share):
        refuse_share(call, builder)
    run = NamedOperations(builder, builder.name(call))
    ones = run(OPS.OnesLike, others[0])

    def product(part: Tensor) -> Tensor:
        return _called(call, builder, lambda tensor: part if tensor is share.now else ones)

    now = _called(call, builder, lambda tensor: tensor)
    return builder.mark(_accumulated(call, builder, run, replace(_each(share, product), now=now)), Time.SO_FAR)


def _sums_time_only(call: LayerCall, share: Share) -> bool:
    layer, operands = call.layer, call.tensors
    times = [share.axis if tensor is share.now else TIME_AXIS for tensor in operands]
    if isinstance(layer, L.Dot):
        axes = layer.axes if isinstance(layer.axes, (list, tuple)) else [layer.axes] * 2
        found = [axis % len(tensor.shape) for axis, tensor in zip(axes, operands, strict=True)]
        return found == times and not layer.normalize
    if isinstance(layer, OPS.Matmul):  # (batch, n, time) · (batch, time, features)
        return operands[0] is share.now and share.axis == 2 and all(len(tensor.shape) == 3 for tensor in operands)
    given, _, result = layer.subscripts.replace(" ", "").partition("->")
    letters = given.split(",")
    time = letters[0][times[0] : times[0] + 1]
    kept = all(part.startswith(result[:1]) and set(part) <= {*result, time} for part in letters)
    return kept and result and "." not in given and time not in result and letters[1][times[1]] == time


def _accumulated(
    call: LayerCall, builder: StepBuilder, run: NamedOperations, share: Share, average: bool = False
) -> Tensor:
    """The sum over time so far, in the shape of one step's part; states ``sum``, ``rest``, if average ``count``."""
    name, now, wide = builder.name(call), share.now, _wide(share.now)
    shape = tuple(now.shape[1:])
    flat = (int(np.prod(shape)),)

    def spread(part: Tensor) -> Tensor:
        return run.reshaped(run(OPS.Multiply, run.cast(part, wide), run.cast(run(OPS.OnesLike, now), wide)), flat)

    before, rest = (builder.state(name, state, flat, wide) for state in ("sum", "rest"))
    change = run.reshaped(run.cast(now, wide), flat)
    if share.gone is not None:
        change = run(OPS.Subtract, change, run(OPS.Multiply, spread(share.gone), before))
    total, left = added(run, before, run(OPS.Add, change, rest))
    after = [total, left]
    if average:
        count = run(OPS.Add, builder.state(name, "count", (1,), wide), 1.0)
        after.append(count)
    builder.answer(after)
    builder.report(call, name, "running mean of shares" if average else "running sum of shares")
    answer = total if share.total is None else run(OPS.Divide, total, spread(share.total))
    answer = run(OPS.Divide, answer, count) if average else answer
    return run.cast(run.reshaped(answer, shape), now.dtype)
