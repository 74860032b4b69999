"""Rules of the convolutions: one needs the last (kernel − 1) · dilation inputs, and they are its state."""

from __future__ import annotations

from typing import Any

import numpy as np

from worker.model.backend import keras
from worker.model.graph import Layer, LayerCall, Tensor, copy_weights
from worker.model.layers.naming import OPS, NamedOperations
from worker.model.layers.windows import check_axes, rows, span_of
from worker.model.rules import StepBuilder, Time, refuse, run_as_it_is, streams, without_time
from worker.records.arrays import FloatArray

L = keras.layers


@streams(
    *(L.Conv1D, L.SeparableConv1D, L.DepthwiseConv1D),
    *(L.Conv2D, L.Conv3D, L.SeparableConv2D, L.DepthwiseConv2D),
    windows=True,
    tails=True,
)
def along_time(call: LayerCall, builder: StepBuilder) -> Any:
    """x (batch, 1, …, channels) → (batch, 1, …, filters), with the state ``inputs`` ((kernel − 1) · dilation, …).

    Time is their first axis; those of one step there look across the others only.
    """
    layer, time = call.layer, builder.time(call.tensors[0])
    if time not in (Time.EACH_STEP, Time.WINDOW):
        return run_as_it_is(call, builder, time)
    check_axes(call)
    if layer.rank > 1 and time is Time.EACH_STEP and layer.kernel_size[0] == layer.strides[0] == 1:
        return run_as_it_is(call, builder, time)
    (x,), name = call.tensors, builder.name(call)
    span = span_of(call, builder, (layer.kernel_size[0] - 1) * layer.dilation_rate[0], layer.strides[0])
    window, time = rows(call, builder, span), span.time(builder, x)
    if isinstance(layer, L.Conv1D) and time is Time.EACH_STEP and span.ends == 1:
        outputs = _one_output(call, builder, window)
    else:
        outputs = _outputs(call, builder, window, every=span.ends > 1)
    outputs = span.chosen(builder, NamedOperations(builder, name), outputs)
    builder.report(call, name, span.words(builder, x))
    return builder.mark(outputs, time, span.steps)


@streams(L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose)
def transposed(call: LayerCall, builder: StepBuilder) -> Any:
    time = without_time(call, builder)
    if time is None:
        refuse(call, f"{call.kind} spreads one step over several", "use Conv1D with padding='causal' and train again")
    return run_as_it_is(call, builder, time)


def _outputs(call: LayerCall, builder: StepBuilder, window: Tensor, every: bool) -> Tensor:
    """The layer on the window, its padding along the other axes alone; with ``every`` at each step of it."""
    layer, run = call.layer, NamedOperations(builder, builder.name(call))
    if layer.rank > 1 and layer.padding == "same":
        window = run(OPS.Pad, window, pad_width=((0, 0), (0, 0), *_zeros_beside(layer, window), (0, 0)))
    copy = builder.copy(call, padding="valid", **({"strides": 1} if every else {}))
    outputs = copy(window)
    copy_weights(layer, copy)
    beside = tuple(layer.strides[1:])
    if every and max(beside, default=1) > 1:
        # TensorFlow has no depthwise convolution with unequal strides, and gives wrong numbers in others.
        outputs = run(OPS.GetItem, outputs, (slice(None), slice(None), *(slice(None, None, one) for one in beside)))
    return outputs


def _zeros_beside(layer: Layer, window: Tensor) -> list[tuple[int, int]]:
    """What padding='same' puts around a step, along the axes between time and channels."""
    found = []
    for axis in range(1, layer.rank):
        size, stride = window.shape[1 + axis], layer.strides[axis]
        reach = (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis]
        zeros = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
        found.append((zeros // 2, zeros - zeros // 2))
    return found


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
