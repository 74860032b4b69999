"""Rules of pooling over time: a running mean, maximum or sum, which is the pooled value of the steps so far.

Every state begins at zero. Accumulators are at least float32, with the rounding errors of the sum carried along
(Kahan), so that small changes still count after many steps. A count in float32 stops growing after 2**24 steps: from
there on the mean forgets, each step weighing 2**-24, and stays finite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from worker.model.backend import keras
from worker.model.graph import LayerCall, Tensor, copy_weights
from worker.model.layers.convolution import check_axes, shortened
from worker.model.layers.naming import OPS, NamedOperations
from worker.model.rules import StepBuilder, Time, refuse, run_as_it_is, streams, without_time

L = keras.layers
TIME_AXIS = 1

# (builder, name of the layer, operations, this step alone (batch, units), which rows count) → (batch, units) so far
Running: TypeAlias = Callable[[StepBuilder, str, NamedOperations, Tensor, Tensor | None], Tensor]


def running_mean(builder: StepBuilder, name: str, run: NamedOperations, x: Tensor, counted: Tensor | None) -> Tensor:
    """States ``mean`` and ``rest`` (units,), ``count`` (1,). Before any step that counts the mean is 0."""
    mean, rest = (builder.state(name, state, tuple(x.shape[1:]), x.dtype) for state in ("mean", "rest"))
    count = builder.state(name, "count", (1,), x.dtype)
    more = run(OPS.Add, count, 1.0 if counted is None else run.cast(counted, x.dtype))
    divisor = more if counted is None else run(OPS.Maximum, more, 1.0)
    change = run(OPS.Divide, run(OPS.Subtract, run(OPS.Subtract, x, mean), rest), divisor)
    after, left = added(run, mean, run(OPS.Add, change, rest))
    if counted is not None:
        after, left = run(OPS.Where, counted, after, mean), run(OPS.Where, counted, left, rest)
    builder.answer([after, left, more])
    return after


def running_sum(builder: StepBuilder, name: str, run: NamedOperations, x: Tensor, counted: Tensor | None) -> Tensor:
    """States ``sum`` and ``rest`` (units,)."""
    before, rest = (builder.state(name, state, tuple(x.shape[1:]), x.dtype) for state in ("sum", "rest"))
    after, left = added(run, before, run(OPS.Add, x, rest))
    builder.answer([after, left])
    return after


def running_maximum(builder: StepBuilder, name: str, run: NamedOperations, x: Tensor, counted: Tensor | None) -> Tensor:
    return _extreme(builder, name, run, x, "max", OPS.Maximum)


def running_minimum(builder: StepBuilder, name: str, run: NamedOperations, x: Tensor, counted: Tensor | None) -> Tensor:
    return _extreme(builder, name, run, x, "min", OPS.Minimum)


def _extreme(builder: StepBuilder, name: str, run: NamedOperations, x: Tensor, state: str, further: type) -> Tensor:
    """States ``max`` or ``min`` (units,), ``begun`` (1,): 0 before the first step, when the other has no meaning."""
    before, begun = builder.state(name, state, tuple(x.shape[1:]), x.dtype), builder.state(name, "begun", (1,), x.dtype)
    after = run(OPS.Where, run(OPS.Greater, begun, 0.0), run(further, before, x), x)
    builder.answer([after, run(OPS.Maximum, begun, 1.0)])
    return after


def added(run: NamedOperations, total: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """total + change, and the part of it that was lost to rounding."""
    after = run(OPS.Add, total, change)
    return after, run(OPS.Subtract, change, run(OPS.Subtract, after, total))


def _global(running: Running, uses_mask: bool = False) -> Callable[[LayerCall, StepBuilder], Any]:
    def rule(call: LayerCall, builder: StepBuilder) -> Any:
        time = without_time(call, builder)
        if time is not None:
            return run_as_it_is(call, builder, time)
        check_axes(call)
        return _so_far(call, builder, running, Time.SO_FAR, call.mask if uses_mask else None)

    return rule


streams(L.GlobalAveragePooling1D)(_global(running_mean, uses_mask=True))
streams(L.GlobalAveragePooling2D, L.GlobalAveragePooling3D)(_global(running_mean))
streams(L.GlobalMaxPooling1D, L.GlobalMaxPooling2D, L.GlobalMaxPooling3D)(_global(running_maximum))


def _reduction(running: Running, result: Time = Time.SO_FAR) -> Callable[[LayerCall, StepBuilder], Any]:
    def rule(call: LayerCall, builder: StepBuilder) -> Any:
        """keras.ops.mean(x, axis=1) and the like; along other axes than time each step is reduced alone."""
        rank, axis = len(call.tensors[0].shape), call.layer.axis
        axes = {a % rank for a in (axis if isinstance(axis, (list, tuple)) else [] if axis is None else [axis])}
        if not axes or 0 in axes:
            refuse(call, f"axis={axis} goes across the sequences of a batch", "use axis=1, the time, and train again")
        time = without_time(call, builder)
        if time is not None or TIME_AXIS not in axes:
            return run_as_it_is(call, builder, Time.EACH_STEP if time is None else time)
        if rank < 3:
            refuse(
                call, "its input (batch, time) has no feature axis", "feed it (batch, time, features) and train again"
            )
        return _so_far(call, builder, running, result)

    return rule


streams(OPS.Mean)(_reduction(running_mean))
streams(OPS.Sum)(_reduction(running_sum))
streams(OPS.Max)(_reduction(running_maximum))
streams(OPS.Min)(_reduction(running_minimum))
streams(OPS.Cumsum)(_reduction(running_sum, Time.EACH_STEP))


def _so_far(call: LayerCall, builder: StepBuilder, running: Running, time: Time, mask: Tensor | None = None) -> Any:
    """The layer's copy pools the one step; ``running`` joins it with the steps before."""
    name = builder.name(call)
    run = NamedOperations(builder, name)
    copy = builder.copy(call)
    # A mask says which steps are joined, not what is pooled within one.
    step = copy(*call.args, **call.kwargs) if mask is None else copy(run.without_mask(call.tensors[0]))
    copy_weights(call.layer, copy)
    units = int(np.prod(step.shape[1:]))
    accumulated = run.reshaped(run.cast(step, "float64" if step.dtype == "float64" else "float32"), (units,))
    value = running(builder, name, run, accumulated, mask)
    builder.report(call, name, running.__name__.replace("_", " "))
    return builder.mark(run.cast(run.reshaped(value, tuple(step.shape[1:])), step.dtype), time)


@streams(L.AveragePooling1D, L.MaxPooling1D, windows=True)
def local(call: LayerCall, builder: StepBuilder) -> Any:
    """Over the last steps; at the beginning of a stream it needs zeros there, so ZeroPadding1D before it."""
    time = builder.time(call.tensors[0])
    if time not in (Time.EACH_STEP, Time.WINDOW):
        return run_as_it_is(call, builder, time)
    check_axes(call)
    reach, stride = call.layer.pool_size[0] - 1, call.layer.strides[0]
    if stride > 1:
        refuse(
            call,
            f"pooling with strides={stride} makes one step out of {stride}, so most steps have no output",
            "remove it and train again",
        )
    if not reach:
        return run_as_it_is(call, builder, time)
    if time is Time.EACH_STEP:
        refuse(
            call,
            f"pooling over {reach + 1} steps with padding='{call.layer.padding}' has no output for some steps or "
            "needs later ones",
            f"put ZeroPadding1D(({reach}, 0)) before it, set padding='valid' and train again",
        )
    return run_as_it_is(call, builder, shortened(call, builder, reach)[1])


@streams(L.AveragePooling2D, L.MaxPooling2D, L.AveragePooling3D, L.MaxPooling3D)
def across_time(call: LayerCall, builder: StepBuilder) -> Any:
    """Their first axis is time; with a pool of one step there they pool over the others only."""
    time = without_time(call, builder)
    if time is not None:
        return run_as_it_is(call, builder, time)
    check_axes(call)
    if call.layer.pool_size[0] > 1 or call.layer.strides[0] > 1:
        refuse(
            call,
            "pooling over several steps makes one out of them",
            "let its pool_size begin with 1, the time, or put a layer of one dimension less into TimeDistributed; "
            "train again",
        )
    return run_as_it_is(call, builder, Time.EACH_STEP)


_ADAPTIVE = [getattr(L, f"Adaptive{kind}Pooling{rank}D", None) for kind in ("Average", "Max") for rank in (1, 2, 3)]


@streams(*(kind for kind in _ADAPTIVE if kind is not None))
def adaptive(call: LayerCall, builder: StepBuilder) -> Any:
    time = without_time(call, builder)
    if time is None:
        refuse(
            call,
            "pooling into a fixed number of parts needs the whole sequence",
            "pool over all of time, with GlobalAveragePooling1D or GlobalMaxPooling1D, and train again",
        )
    return run_as_it_is(call, builder, time)
