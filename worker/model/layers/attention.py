"""Rules of attention over time: the keys and values of the last steps are the state.

A causal layer looks at the steps so far, which is what there is in a stream. A query that is a result so far, such as a
decoder's, looks at all of them, too. With room for N steps in the state the answer is exact for sequences up to N.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.errors import counted
from worker.model.backend import keras
from worker.model.graph import LayerCall, Tensor, copy_layer, copy_weights, tensors_in
from worker.model.layers.masking import mask_of
from worker.model.layers.naming import OPS, NamedOperations
from worker.model.layers.per_step import of_length
from worker.model.rules import StepBuilder, Time, refuse, run_as_it_is, streams, without_time

L = keras.layers
NOT_THERE = -1e30


@dataclass(frozen=True, slots=True)
class _Looked:
    """``query`` looks at ``value`` by ``key``, each step's own; ``time`` of the answer; ``steps`` to look back over."""

    query: Tensor
    value: Tensor
    key: Tensor
    time: Time
    steps: int


@streams(L.MultiHeadAttention, L.GroupQueryAttention)
def heads(call: LayerCall, builder: StepBuilder) -> Any:
    """The projected keys and values (steps, heads · size) are the state."""
    time = without_time(call, builder)
    if time is not None:
        return run_as_it_is(call, builder, time)
    if len(call.tensors[0].shape) != 3:
        refuse(call, "it looks along several axes", "give it (batch, time, features) and train again")
    looked, layer, name = _looked(call, builder), call.layer, builder.name(call)
    run = NamedOperations(builder, name)
    query = _projected(layer._query_dense, looked.query, run, "query")
    keys, values, present = _kept(
        call,
        builder,
        run,
        looked,
        _projected(layer._key_dense, looked.key, run, "key"),
        _projected(layer._value_dense, looked.value, run, "value"),
    )
    answer = _product(run, query, keys, values, present)
    if getattr(layer, "_use_gate", getattr(layer, "use_gate", False)):
        answer = run(OPS.Multiply, answer, _projected(layer._gate_dense, looked.query, run, "gate"))
    return builder.mark(_projected(layer._output_dense, answer, run, "output"), looked.time)


def _product(run: NamedOperations, query: Tensor, keys: Tensor, values: Tensor, present: Tensor) -> Tensor:
    """(batch, n, heads, size) by (batch, steps, heads, size) → (batch, n, heads, size of the values)."""
    groups = query.shape[2] // keys.shape[2]
    if groups > 1:
        keys, values = (run(OPS.Repeat, each, repeats=groups, axis=2) for each in (keys, values))
    wide = "float64" if query.dtype == "float64" else "float32"  # softmax is never less exact, as in Keras
    scores = run.cast(run(OPS.Einsum, query, keys, subscripts="btnh,bsnh->bnts"), wide)
    scores = run(OPS.Multiply, scores, 1 / float(np.sqrt(query.shape[-1])))
    there = run(OPS.Reshape, present, newshape=(-1, 1, 1, keys.shape[1]))
    shares = keras.src.ops.nn.Softmax(axis=-1, name=run.name("softmax"))(run(OPS.Where, there, scores, NOT_THERE))
    return run(OPS.Einsum, run.cast(shares, values.dtype), values, subscripts="bnts,bsnh->btnh")


@streams(L.Attention, L.AdditiveAttention)
def single(call: LayerCall, builder: StepBuilder) -> Any:
    """The steps themselves (steps, features) are the state; the layer's copy leaves out those that are not there."""
    time = without_time(call, builder)
    if time is not None:
        return run_as_it_is(call, builder, time)
    looked, run = _looked(call, builder), NamedOperations(builder, builder.name(call))
    dtype = call.layer.compute_dtype
    key, value = (run.cast(tensor, dtype) for tensor in (looked.key, looked.value))
    keys, values, present = _kept(call, builder, run, looked, key, value)
    copy = builder.copy(call)
    answer = copy([looked.query, values, keys], mask=[None, present])
    copy_weights(call.layer, copy)
    return builder.mark(answer, looked.time)


def _looked(call: LayerCall, builder: StepBuilder) -> _Looked:
    values = inspect.signature(call.layer.call).bind(*call.args, **call.kwargs).arguments
    given = (
        values["inputs"] if "inputs" in values else [values[one] for one in ("query", "value", "key") if one in values]
    )
    query, value, *more = [tensor for tensor in given if tensor is not None]
    key = more[0] if more else value
    causal = bool(values.get("use_causal_mask")) or is_causal(values.get("attention_mask"))
    times = [builder.time(tensor) for tensor in (query, value, key)]
    if times[1:] != [Time.EACH_STEP] * 2 or (times[0] is Time.EACH_STEP and not causal):
        refuse(
            call,
            f"{call.kind}: each step looks at all the others, those that have not arrived yet",
            "call it with use_causal_mask=True, and train again",
        )
    sliding = getattr(call.layer, "_sliding_window", getattr(call.layer, "sliding_window", None))
    if times[0] is not Time.EACH_STEP and (causal or sliding):
        refuse(
            call,
            "it compares the place of its query, a result so far, with those of the steps",
            "call it without use_causal_mask and sliding_window, and train again",
        )
    masks = [value for name, value in values.items() if name.endswith("mask") and name != "use_causal_mask"]
    masks = tensors_in(masks) + [mask_of(tensor) for tensor in (query, value, key) if mask_of(tensor) is not None]
    if masks or values.get("training") or values.get("return_attention_scores"):
        refuse(
            call,
            "it is called with a mask of the steps, with training=True, or for its scores",
            "call it with use_causal_mask=True alone, remove mask_zero or Masking before it, and train again",
        )
    return _Looked(query, value, key, times[0], sliding or _memory(call, builder))


def is_causal(mask: Any) -> bool:
    """An array that lets each step look at itself and those before."""
    if mask is None or isinstance(mask, keras.KerasTensor):
        return False
    array = np.asarray(mask).astype(bool)
    steps = array.shape[-1] if array.ndim > 1 else 0
    return array.size == steps * steps > 0 and np.array_equal(array.reshape(steps, steps), np.tri(steps, dtype=bool))


def _memory(call: LayerCall, builder: StepBuilder) -> int:
    """The steps that the caller gives room for."""
    if builder.memory is None:
        trained = tensors_in(call.layer.input)[-1].shape[1]
        refuse(
            call,
            "it looks back over all steps so far, and how many a state must hold is not known",
            f"set model.memory: {trained or 128}, the steps to look back over",
        )
    builder.exact_up_to(builder.memory)
    return builder.memory


def _kept(
    call: LayerCall, builder: StepBuilder, run: NamedOperations, looked: _Looked, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Keys and values of the last steps, this one last, each (batch, steps, …), and which are there (batch, steps).

    States ``keys``, ``values`` (steps − 1, numbers) and ``count`` (1,), of all steps so far up to those.
    """
    name, steps = builder.name(call), looked.steps
    windows, after = [], []
    for state, now in (("keys", key), ("values", value)):
        shape = tuple(now.shape[2:])
        flat = run.reshaped(now, (1, int(np.prod(shape))))
        if steps > 1:
            before = builder.state(name, state, (steps - 1, flat.shape[-1]), flat.dtype)
            flat = run(OPS.Concatenate, [before, flat], axis=1)
            after.append(L.Cropping1D((1, 0), dtype=flat.dtype, name=run.name("after"))(flat))
        windows.append(run.reshaped(flat, (steps, *shape)))
    count = builder.state(name, "count", (1,), "float32")
    more = run(OPS.Minimum, run(OPS.Add, count, 1.0), float(steps))
    builder.answer([*after, more])
    ages = keras.ops.convert_to_tensor(np.arange(steps, 0, -1, dtype="float32")[np.newaxis])  # this step is 1 old
    builder.report(call, name, f"keys and values of the last {counted(steps, 'step')} as state")
    return windows[0], windows[1], run(OPS.LessEqual, ages, more)


def _projected(layer: Any, x: Tensor, run: NamedOperations, part: str) -> Tensor:
    copy = copy_layer(layer, run.name(part), **of_length(layer, x.shape[1]))
    y = copy(x)
    copy_weights(layer, copy)
    return y
