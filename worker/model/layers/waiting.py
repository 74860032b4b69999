"""Tensors whose steps come with some events only: joined where they come together, held where they don't."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

from worker.model.backend import keras
from worker.model.graph import LayerCall, Tensor
from worker.model.layers.masking import mask_of
from worker.model.layers.naming import NamedOperations
from worker.model.layers.tails import last_step, where_each
from worker.model.layers.windows import kept_inputs, last_words, part
from worker.model.rules import StepBuilder, Time, refuse
from worker.model.steps import PLAIN, Steps

OPS = keras.src.ops.numpy
# With a branch beside that is not masked, as none is that looks ahead, these compute the same as without masks.
LOOK_AT_NO_MASK = (keras.layers.Add, keras.layers.Subtract, keras.layers.Average)
FLOATS = ("float16", "bfloat16", "float32", "float64")


def aligned(call: LayerCall, builder: StepBuilder) -> tuple[LayerCall, Steps | None]:
    """The call, and the steps that its inputs have in common.

    Results so far that come at different events are held. Raises ModelRefusedError for steps that don't come together.
    """
    over_time: set[Steps] = set()
    so_far: set[Steps] = set()
    for tensor in call.tensors:
        time, steps = builder.time(tensor), builder.steps(tensor)
        if steps is not None:
            (so_far if time is Time.SO_FAR else over_time).add(steps)
    if len(over_time) > 1:
        late = max(over_time, key=lambda steps: steps.delay)
        call, over_time = _replaced(call, {id(x): lagged(call, builder, x, late) for x in call.tensors}), {late}
    if over_time and so_far - over_time:
        _refuse_speeds(call)
    if len(so_far) <= 1:
        return call, next(iter(over_time or so_far), None)
    kept = {id(x): held(builder, x) for x in call.tensors if builder.time(x) is Time.SO_FAR}
    return _replaced(call, kept), Steps(first=max(steps.first for steps in so_far))


def _replaced(call: LayerCall, instead: dict[int, Tensor]) -> LayerCall:
    def swapped(leaf: Any) -> Any:
        return instead.get(id(leaf), leaf)

    args, kwargs = keras.tree.map_structure(swapped, (call.args, call.kwargs))
    return replace(call, args=args, kwargs=kwargs, tensors=[swapped(tensor) for tensor in call.tensors])


def _refuse_speeds(call: LayerCall) -> NoReturn:
    refuse(
        call,
        "its inputs have different numbers of steps",
        "let both branches make as many steps out of an event, and train again",
    )


def lagged(call: LayerCall, builder: StepBuilder, x: Tensor, late: Steps) -> Tensor:
    """``x`` with the steps ``late``, the same steps settled later; those in between are the state ``inputs``."""
    steps = builder.steps(x)
    if steps is None or builder.time(x) in (Time.SO_FAR, Time.CONSTANT) or steps == late:
        return x
    if mask_of(x) is not None and type(call.layer) not in LOOK_AT_NO_MASK:
        refuse(
            call,
            "it joins a branch whose steps are masked with one that looks ahead",
            "leave the mask out, or join them by Add, and train again",
        )
    lag, rest = divmod(late.delay - steps.delay, steps.every)
    if replace(steps, delay=late.delay) != late or rest or builder.time(x) is not Time.EACH_STEP:
        _refuse_speeds(call)
    name = builder.unique(f"{x._keras_history.operation.name}.lagged", ())
    run = NamedOperations(builder, name)
    builder.now = steps
    parts = [*kept_inputs(builder, run, name, lag, x)]
    if steps.tail:
        parts.append(part(run, x, 1, None))
    builder.add_report(name, "lagged", f"{last_words(lag)}: {late.words}")
    return builder.mark(run(OPS.Concatenate, parts, axis=1), Time.EACH_STEP, late)


def held(builder: StepBuilder, tensor: Tensor) -> Tensor:
    """``tensor`` as it was when its last step came, without a time axis of its own; the state ``held`` if need be."""
    steps = builder.steps(tensor) or PLAIN
    if builder.time(tensor) is Time.EACH_STEP and steps.tail:
        run = NamedOperations(builder, builder.unique(f"{tensor._keras_history.operation.name}.last", ()))
        tensor = builder.mark(last_step(builder, run, tensor, steps), Time.EACH_STEP, steps)
    if steps.fresh:
        return tensor
    over_time = builder.time(tensor) is Time.EACH_STEP
    dtype = tensor.dtype if tensor.dtype in FLOATS else "float32"
    name = builder.unique(f"{tensor._keras_history.operation.name}.held", ())
    now = tensor if tensor.dtype == dtype else keras.src.ops.core.Cast(dtype, name=builder.unique("cast", ()))(tensor)
    shape = tuple(now.shape[2 if over_time else 1 :])
    builder.now = PLAIN
    before = builder.state(name, "output", shape, dtype)
    if over_time:
        now = keras.layers.Reshape(shape, dtype=dtype, name=builder.unique(f"{name}.reshape", ()))(now)
    (after,) = where_each(builder, builder.count.fresh(steps), [now], [before])
    builder.answer([after])
    builder.add_report(name, "held", f"the last output as state; {steps.words}")
    if over_time:
        after = keras.layers.Reshape((1, *shape), dtype=dtype, name=builder.unique(f"{name}.reshape", ()))(after)
    if tensor.dtype != dtype:
        after = keras.src.ops.core.Cast(tensor.dtype, name=builder.unique("cast", ()))(after)
    return builder.mark(after, builder.time(tensor), Steps(first=steps.first))
