"""Rules of zeros put before the first step or behind the last one."""

from __future__ import annotations

from typing import Any

from worker.model.backend import keras
from worker.model.graph import LayerCall, Tensor
from worker.model.layers.naming import OPS, NamedOperations
from worker.model.layers.windows import check_axes, last_inputs, last_words
from worker.model.rules import StepBuilder, Time, refuse, run_as_it_is, streams, without_time
from worker.model.steps import PLAIN

L = keras.layers
TIME_AXIS = 1


@streams(L.ZeroPadding1D, tails=True)
def padding(call: LayerCall, builder: StepBuilder) -> Any:
    """Zeros before the first step, the old way to make a convolution causal: its window of the padded steps."""
    time = without_time(call, builder)
    if time is not None:
        return run_as_it_is(call, builder, time)
    check_axes(call)
    return _padded(call, builder, *call.layer.padding)


@streams(OPS.Pad, tails=True)
def padding_operation(call: LayerCall, builder: StepBuilder) -> Any:
    """keras.ops.pad(x, [[0, 0], [n, 0], [0, 0]]) is ZeroPadding1D((n, 0)); along the features it pads each step."""
    widths = [tuple(width) for width in call.layer.pad_width]
    value = [*call.args[1:], *(value for name, value in call.kwargs.items() if name != "x")]
    if len(widths) != len(call.tensors[0].shape) or any(widths[0]):
        refuse(
            call,
            f"pad_width={call.layer.pad_width} pads the batch",
            "pad the time only, [[0, 0], [n, 0], [0, 0]], and train again",
        )
    time = without_time(call, builder)
    if time is not None or not any(widths[TIME_AXIS]):
        return run_as_it_is(call, builder, Time.EACH_STEP if time is None else time)
    if call.layer.mode != "constant" or any(one is not None and one != 0 for one in value) or any(map(any, widths[2:])):
        refuse(
            call,
            "it puts something other than zeros before the first step",
            "pad the time only, with zeros, and train again",
        )
    return _padded(call, builder, *widths[TIME_AXIS])


def _padded(call: LayerCall, builder: StepBuilder, left: int, right: int) -> Tensor:
    (x,), name = call.tensors, builder.name(call)
    if not left and not right:
        return run_as_it_is(call, builder, Time.EACH_STEP)
    if right or not (builder.steps(x) or PLAIN).plain:
        builder.report(call, name, "left to the layer that looks at them")
        return builder.mark_padded(NamedOperations(builder, name).without_mask(x), left, right, call.layer_path)
    window = last_inputs(call, builder, left, x)
    builder.report(call, name, last_words(left))
    return builder.mark_padded(window, left, 0, call.layer_path)
