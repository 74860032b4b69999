"""Rules of pooling over the last steps; what pools over a step's own axes too, does that first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from worker.model.backend import keras
from worker.model.graph import LayerCall, Tensor
from worker.model.layers.naming import OPS, NamedOperations
from worker.model.layers.tails import absent_as, present, several
from worker.model.layers.windows import Span, check_axes, part, rows, span_of
from worker.model.rules import StepBuilder, Time, run_as_it_is, streams

L = keras.layers
TIME_AXIS = 1
LOWEST = -float("inf")
FEW = 3  # rows that are joined one by one in less time than all at once


@streams(
    *(L.AveragePooling1D, L.AveragePooling2D, L.AveragePooling3D),
    *(L.MaxPooling1D, L.MaxPooling2D, L.MaxPooling3D),
    windows=True,
    tails=True,
)
def local(call: LayerCall, builder: StepBuilder) -> Any:
    """Over the last steps; with padding='same', over those of them that there are."""
    layer, time = call.layer, builder.time(call.tensors[0])
    if time not in (Time.EACH_STEP, Time.WINDOW):
        return run_as_it_is(call, builder, time)
    check_axes(call)
    span = span_of(call, builder, layer.pool_size[0] - 1, layer.strides[0])
    if span.stride == 1 and span.given_whole(builder, call.tensors[0]):
        return run_as_it_is(call, builder, span.time(builder, call.tensors[0]))
    return _over_time(_step_pooled(call, builder) if len(layer.pool_size) > 1 else call, builder, span)


def _step_pooled(call: LayerCall, builder: StepBuilder) -> LayerCall:
    """The call on steps each of which is pooled over its own axes already."""
    (x,), layer = call.tensors, call.layer
    sizes, strides = tuple(layer.pool_size[1:]), tuple(layer.strides[1:])
    if max(sizes + strides) == 1:
        return call
    alone = type(layer)(
        *((1, *sizes), (1, *strides), layer.padding, layer.data_format),
        dtype=layer.dtype_policy,
        name=builder.unique(f"{layer.name}.alone", call.path),
    )
    left, right = builder.padding(x)
    found = alone(x)
    if builder.time(x) is Time.WINDOW:
        builder.mark_padded(found, left, right, builder.padded_by(x) if right else call.layer_path)
    else:
        builder.mark(found, Time.EACH_STEP)
    return replace(call, args=(found,), kwargs={}, tensors=[found])


def _over_time(call: LayerCall, builder: StepBuilder, span: Span) -> Any:
    greatest, name = isinstance(call.layer, (L.MaxPooling1D, L.MaxPooling2D, L.MaxPooling3D)), builder.name(call)
    run = NamedOperations(builder, name)
    window = rows(call, builder, span, LOWEST if greatest and call.layer.padding == "same" else 0.0)
    if span.ends == 1 and span.reach > FEW:
        outputs = run(OPS.Max if greatest else OPS.Mean, window, axis=TIME_AXIS, keepdims=True)
    else:
        outputs = span.chosen(builder, run, (_greatest if greatest else _mean)(call, builder, run, span, window))
    builder.report(call, name, span.words(builder, call.tensors[0]))
    return builder.mark(outputs, Time.EACH_STEP, span.steps)


def _greatest(call: LayerCall, builder: StepBuilder, run: NamedOperations, span: Span, window: Tensor) -> Tensor:
    if call.layer.padding == "same" and span.left:
        known = range(-span.reach, 1 + span.given.tail)
        shown = absent_as(builder, run, span.given, part(run, window, 0, len(known)), known, LOWEST)
        window = run(OPS.Concatenate, [shown, part(run, window, len(known), None)], axis=1) if span.right else shown
    return _over(run, OPS.Maximum, window, span)


def _mean(call: LayerCall, builder: StepBuilder, run: NamedOperations, span: Span, window: Tensor) -> Tensor:
    total = _over(run, OPS.Add, window, span)
    if call.layer.padding != "same":
        return run(OPS.Divide, total, float(span.reach + 1))
    there = run.cast(present(builder, run, span.given, range(-span.reach, 1 + span.given.tail)), window.dtype)
    if span.right:
        there = run(OPS.Pad, there, pad_width=((0, 0), (0, span.right)))
    count = run(OPS.Maximum, _over(run, OPS.Add, there, span), 1.0)
    return run(OPS.Divide, total, several(run, count, total))


def _over(run: NamedOperations, joined: type, window: Tensor, span: Span) -> Tensor:
    """(batch, reach + ends, …) → (batch, ends, …), each of ``reach`` + 1 rows joined."""
    total = part(run, window, 0, span.ends)
    for back in range(1, span.reach + 1):
        total = run(joined, total, part(run, window, back, back + span.ends))
    return total
