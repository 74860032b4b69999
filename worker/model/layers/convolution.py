"""Rules of the convolutions: a causal one needs the last (kernel − 1) · dilation inputs, and they are its state.

Before the first step there are zeros, as in Keras' own padding, so the state of a new stream is zeros, too.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from worker.errors import counted
from worker.model.backend import keras
from worker.model.graph import Layer, LayerCall, Tensor, copy_weights
from worker.model.layers.naming import OPS, NamedOperations
from worker.model.rules import StepBuilder, Time, refuse, run_as_it_is, streams, without_time
from worker.records.arrays import FloatArray

L = keras.layers
TIME_AXIS = 1


@streams(L.Conv1D, L.SeparableConv1D, L.DepthwiseConv1D, windows=True)
def along_time(call: LayerCall, builder: StepBuilder) -> Any:
    """x (batch, 1, channels) → (batch, 1, filters), with the state ``inputs`` ((kernel − 1) · dilation, channels)."""
    layer = call.layer
    time = builder.time(call.tensors[0])
    if time not in (Time.EACH_STEP, Time.WINDOW):
        return run_as_it_is(call, builder, time)
    check_axes(call)
    if layer.strides[0] > 1:
        refuse(
            call,
            f"strides={layer.strides[0]}: {layer.strides[0]} steps become one, so most steps have no output",
            "set strides=1 and train again",
        )
    reach = (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
    if not reach:
        return _outputs(call, builder, call.tensors[0], time, "as it is")
    if time is Time.WINDOW:
        return _outputs(call, builder, *shortened(call, builder, reach), "on the last inputs")
    if layer.padding != "causal":
        _refuse_padding(call, reach)
    window = last_inputs(call, builder, reach)
    return _outputs(call, builder, window, Time.EACH_STEP, _last(reach))


@streams(L.ZeroPadding1D)
def padding(call: LayerCall, builder: StepBuilder) -> Any:
    """Zeros before the first step, the old way to make a convolution causal: its window of the padded steps."""
    time = without_time(call, builder)
    if time is not None:
        return run_as_it_is(call, builder, time)
    check_axes(call)
    return _padded(call, builder, *call.layer.padding)


@streams(OPS.Pad)
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
    if right:
        refuse(
            call,
            f"it adds {counted(right, 'step')} after the last, and a stream has no last step",
            f"pad ({left + right}, 0), zeros before the first step only, and train again",
        )
    if not left:
        return run_as_it_is(call, builder, Time.EACH_STEP)
    window = last_inputs(call, builder, left)
    builder.report(call, builder.name(call), _last(left))
    return builder.mark(window, Time.WINDOW)


@streams(L.Conv2D, L.Conv3D, L.SeparableConv2D, L.DepthwiseConv2D)
def across_time(call: LayerCall, builder: StepBuilder) -> Any:
    """Their first axis is time; with a kernel of one step there they look across the others only."""
    time = without_time(call, builder)
    if time is not None:
        return run_as_it_is(call, builder, time)
    if call.layer.data_format != "channels_last" or call.layer.kernel_size[0] > 1 or call.layer.strides[0] > 1:
        refuse(
            call,
            f"{call.kind} reaches over several steps, and not only over earlier ones",
            "let its kernel_size and strides begin with 1, the time, or put a layer of one dimension less "
            "into TimeDistributed; train again",
        )
    return run_as_it_is(call, builder, Time.EACH_STEP)


@streams(L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose)
def transposed(call: LayerCall, builder: StepBuilder) -> Any:
    time = without_time(call, builder)
    if time is None:
        refuse(call, f"{call.kind} spreads one step over several", "use Conv1D with padding='causal' and train again")
    return run_as_it_is(call, builder, time)


def _last(steps: int) -> str:
    return "the last input as state" if steps == 1 else f"the last {steps} inputs as state"


def check_axes(call: LayerCall) -> None:
    """Refuses layers that run along another axis than axis 1, the time."""
    if call.layer.data_format != "channels_last":
        refuse(
            call,
            "data_format='channels_first' takes the features for the steps",
            "use data_format='channels_last' and train again",
        )


def last_inputs(call: LayerCall, builder: StepBuilder, steps: int) -> Tensor:
    """x (batch, 1, channels) → (batch, steps + 1, channels), x last; opens and answers the state ``inputs``."""
    (x,), name = call.tensors, builder.name(call)
    dtype = getattr(call.layer, "compute_dtype", x.dtype)  # an operation computes in the dtype of its input
    run = NamedOperations(builder, name)
    before = builder.state(name, "inputs", (steps, x.shape[-1]), dtype)
    window = run(OPS.Concatenate, [before, run.cast(x, dtype)], axis=1)
    builder.answer([L.Cropping1D((1, 0), dtype=dtype, name=run.name("after"))(window)])
    return window


def shortened(call: LayerCall, builder: StepBuilder, reach: int) -> tuple[Tensor, Time]:
    """The window that a layer without padding takes, and what is left of it: each output has ``reach`` steps before."""
    (window,) = call.tensors
    padded = window.shape[1] - 1
    if call.layer.padding != "valid" or reach > padded:
        refuse(
            call,
            f"it reaches back {counted(reach, 'step')} with padding='{call.layer.padding}', and "
            f"{counted(padded, 'step')} of zeros stand before",
            f"set padding='valid' here and ZeroPadding1D(({reach}, 0)) before it, and train again",
        )
    return window, Time.EACH_STEP if reach == padded else Time.WINDOW


def _refuse_padding(call: LayerCall, reach: int) -> NoReturn:
    why = {
        "valid": f"padding='valid': there is no output before step {reach + 1}, so fewer steps come out than in",
        "same": "padding='same': an output needs steps that have not arrived yet",
    }
    instead = (
        "set padding='causal' and train again"
        if isinstance(call.layer, L.Conv1D)
        else f"put ZeroPadding1D(({reach}, 0)) before it, set padding='valid' and train again"
    )
    refuse(call, why[call.layer.padding], instead)


def _outputs(call: LayerCall, builder: StepBuilder, window: Tensor, time: Time, report: str) -> Tensor:
    """The layer without padding on the window."""
    if isinstance(call.layer, L.Conv1D) and time is Time.EACH_STEP:
        outputs = _one_output(call, builder, window)
    else:
        copy = builder.copy(call, padding="valid")
        outputs = copy(window)
        copy_weights(call.layer, copy)
    builder.report(call, builder.name(call), report)
    return builder.mark(outputs, time)


def _one_output(call: LayerCall, builder: StepBuilder, window: Tensor) -> Tensor:
    """A convolution with a single output is a matrix product: (batch, 1, kernel · channels) → (batch, 1, filters).

    TensorFlow runs it several times faster, and convolutions in groups it would compile anew for each batch size.
    """
    layer, run = call.layer, NamedOperations(builder, builder.name(call))
    if call.mask is not None:
        window = run.without_mask(window)  # convolutions pass no mask on, Dense does
    if layer.dilation_rate[0] > 1 and layer.kernel_size[0] > 1:
        window = run(OPS.GetItem, window, (slice(None), slice(None, None, layer.dilation_rate[0])))
    kernel = _kernel_of_one_group(layer)
    product = L.Dense(
        layer.filters,
        activation=layer.activation,
        use_bias=layer.use_bias,
        dtype=layer.dtype_policy,
        name=builder.name(call),
    )
    outputs = product(run.reshaped(window, (1, len(kernel))))
    product.set_weights([kernel, *([layer.bias] if layer.use_bias else [])])
    return outputs


def _kernel_of_one_group(layer: Layer) -> FloatArray:
    """(kernel · channels, filters) with zeros where a filter does not see a channel."""
    kernel = np.asarray(keras.ops.convert_to_numpy(layer.kernel))
    size, channels, filters = kernel.shape
    whole = np.zeros((size, channels * layer.groups, filters), kernel.dtype)
    for group in range(layer.groups):
        seen = slice(group * channels, (group + 1) * channels)
        own = slice(group * filters // layer.groups, (group + 1) * filters // layer.groups)
        whole[:, seen, own] = kernel[:, :, own]
    return whole.reshape(-1, filters)
