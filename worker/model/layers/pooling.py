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
from worker.model.layers.naming import OPS, NamedOperations
from worker.model.layers.tails import over_tail
from worker.model.layers.windows import check_axes, part
from worker.model.rules import StepBuilder, Time, refuse, run_as_it_is, streams, without_time

L = keras.layers
TIME_AXIS = 1

# (operations, this step alone (batch, units), which rows count, states before) → so far (batch, units), states after
Running: TypeAlias = Callable[[NamedOperations, Tensor, Tensor | None, list[Tensor]], tuple[Tensor, list[Tensor]]]


def running_mean(
    run: NamedOperations, x: Tensor, counted: Tensor | None, states: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Before any step that counts the mean is 0."""
    mean, rest, count = states
    more = run(OPS.Add, count, 1.0 if counted is None else run.cast(counted, x.dtype))
    divisor = more if counted is None else run(OPS.Maximum, more, 1.0)
    change = run(OPS.Divide, run(OPS.Subtract, run(OPS.Subtract, x, mean), rest), divisor)
    after, left = added(run, mean, run(OPS.Add, change, rest))
    if counted is not None:
        after, left = run(OPS.Where, counted, after, mean), run(OPS.Where, counted, left, rest)
    return after, [after, left, more]


def running_sum(
    run: NamedOperations, x: Tensor, counted: Tensor | None, states: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    before, rest = states
    after, left = added(run, before, run(OPS.Add, x, rest))
    return after, [after, left]


def running_maximum(
    run: NamedOperations, x: Tensor, counted: Tensor | None, states: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    return _extreme(run, x, states, OPS.Maximum)


def running_minimum(
    run: NamedOperations, x: Tensor, counted: Tensor | None, states: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    return _extreme(run, x, states, OPS.Minimum)


def _extreme(run: NamedOperations, x: Tensor, states: list[Tensor], further: type) -> tuple[Tensor, list[Tensor]]:
    """``begun`` is 0 before the first step, when the other state has no meaning."""
    before, begun = states
    after = run(OPS.Where, run(OPS.Greater, begun, 0.0), run(further, before, x), x)
    return after, [after, run(OPS.Maximum, begun, 1.0)]


# Names of the states, (units,) each but for ONE, which are (1,).
STATES: dict[Running, tuple[str, ...]] = {
    running_mean: ("mean", "rest", "count"),
    running_sum: ("sum", "rest"),
    running_maximum: ("max", "begun"),
    running_minimum: ("min", "begun"),
}
ONE = ("count", "begun")


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


streams(L.GlobalAveragePooling1D, tails=True)(_global(running_mean, uses_mask=True))
streams(L.GlobalAveragePooling2D, L.GlobalAveragePooling3D, tails=True)(_global(running_mean))
streams(L.GlobalMaxPooling1D, L.GlobalMaxPooling2D, L.GlobalMaxPooling3D, tails=True)(_global(running_maximum))


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


streams(OPS.Mean, tails=True)(_reduction(running_mean))
streams(OPS.Sum, tails=True)(_reduction(running_sum))
streams(OPS.Max, tails=True)(_reduction(running_maximum))
streams(OPS.Min, tails=True)(_reduction(running_minimum))
streams(OPS.Cumsum, tails=True)(_reduction(running_sum, Time.EACH_STEP))


def _so_far(call: LayerCall, builder: StepBuilder, running: Running, time: Time, mask: Tensor | None = None) -> Any:
    """The layer's copy pools the one step; ``running`` joins it with the steps before."""
    (x,), name = call.tensors, builder.name(call)
    run, copy, tail = NamedOperations(builder, name), builder.copy(call), builder.now.tail if builder.now else 0

    def alone(ahead: int) -> Tensor:
        if tail:
            return copy(part(run, x, ahead, ahead + 1))
        # A mask says which steps are joined, not what is pooled within one.
        return copy(*call.args, **call.kwargs) if mask is None else copy(run.without_mask(x))

    step = alone(0)
    copy_weights(call.layer, copy)
    units = int(np.prod(step.shape[1:]))

    def flat(step: Tensor) -> Tensor:
        return run.reshaped(run.cast(step, "float64" if step.dtype == "float64" else "float32"), (units,))

    accumulated = flat(step)
    states = [
        builder.state(name, state, (1,) if state in ONE else (units,), accumulated.dtype) for state in STATES[running]
    ]
    value, after = running(run, accumulated, mask, states)
    kept = builder.answer(after)
    values, last, _ = over_tail(
        builder, run, builder.now, kept, value, lambda ahead, before: running(run, flat(alone(ahead)), None, before)
    )
    builder.report(call, name, running.__name__.replace("_", " "))
    if time is Time.SO_FAR:
        return builder.mark(run.cast(run.reshaped(last, tuple(step.shape[1:])), step.dtype), time)
    each = [run.cast(run.reshaped(one, tuple(step.shape[1:])), step.dtype) for one in values]
    return builder.mark(run(OPS.Concatenate, each, axis=TIME_AXIS) if tail else each[0], time)


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
