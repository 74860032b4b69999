"""Rules of the layers that treat every step alone: they run as they are, once it is certain that they do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from worker.model.backend import keras
from worker.model.graph import LayerCall
from worker.model.rules import Form, Time, refuse, refuse_unknown, run_as_it_is, streams, without_time

L = keras.layers
_OPS = keras.src.ops.numpy
TIME_AXIS = 1


@streams(
    *(L.Activation, L.ReLU, L.LeakyReLU, L.ELU, L.Identity, L.Dense),
    *(L.Dropout, L.SpatialDropout1D, L.AlphaDropout, L.GaussianNoise, L.GaussianDropout, L.ActivityRegularization),
)
def per_step(call: LayerCall, form: Form) -> Any:
    """Works on single values or on the last axis, whatever stands before."""
    return run_as_it_is(call, form, _time(call, form))


@streams(
    L.LayerNormalization, L.BatchNormalization, L.UnitNormalization, L.RMSNormalization, L.Normalization, L.Softmax
)
def along_features(call: LayerCall, form: Form) -> Any:
    """Has an axis of its own: it must not be time."""
    time = _time(call, form)
    rank = len(call.tensors[0].shape)
    if time is Time.EACH_STEP and TIME_AXIS in _axes(call.layer.axis, rank):
        refuse(
            call,
            f"axis={call.layer.axis} includes time, so a step depends on how long the sequence is",
            "use axis=-1, the features",
        )
    return run_as_it_is(call, form, time)


@streams(L.Rescaling)
def rescaling(call: LayerCall, form: Form) -> Any:
    """By one number, or one per feature. Keras tells no other output shape when there is one per step."""
    time = _time(call, form)
    if time is Time.EACH_STEP and max(np.ndim(call.layer.scale), np.ndim(call.layer.offset)) > 1:
        refuse(call, "it has a number for each step of the window", "use one number, or one per feature")
    return run_as_it_is(call, form, time)


@streams(L.PReLU)
def learned_slopes(call: LayerCall, form: Form) -> Any:
    time = _time(call, form)
    if time is Time.EACH_STEP and TIME_AXIS not in (call.layer.shared_axes or ()):
        refuse(call, "it has learned a slope for each step of the window", "use shared_axes=[1]: a slope per feature")
    return run_as_it_is(call, form, time)


@streams(L.Embedding)
def embedding(call: LayerCall, form: Form) -> Any:
    """Ids (batch, 1) → (batch, 1, width); with more axes of ids each is embedded alone."""
    return run_as_it_is(call, form, form.time(call.tensors[0]))


@streams(L.TimeDistributed)
def time_distributed(call: LayerCall, form: Form) -> Any:
    """The layer inside sees every step alone, so any layer of Keras will do that keeps nothing for the next one."""
    inner = call.layer.layer
    if not type(inner).__module__.startswith("keras.") or isinstance(inner, keras.Model) or _is_stateful(inner):
        if not type(inner).__module__.startswith("keras."):
            refuse_unknown(replace(call, layer=inner))
        refuse(call, f"the layer '{inner.name}' inside may keep a state between steps", "use it without the wrapper")
    if form.time(call.tensors[0]) is not Time.EACH_STEP:
        refuse(call, "the axis it runs along is not the time of the stream", "use the layer inside by itself")
    return run_as_it_is(call, form, Time.EACH_STEP)


@streams(L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum)
def merge(call: LayerCall, form: Form) -> Any:
    return run_as_it_is(call, form, _same_time(call, form))


@streams(L.Concatenate)
def concatenate(call: LayerCall, form: Form) -> Any:
    time = _same_time(call, form)
    rank = len(call.tensors[0].shape)
    if time is Time.EACH_STEP and _axes(call.layer.axis, rank) != {rank - 1}:
        refuse(call, f"axis={call.layer.axis} joins along time", "join along the features: axis=-1")
    return run_as_it_is(call, form, time)


@streams(L.Flatten, L.Reshape)
def after_time(call: LayerCall, form: Form) -> Any:
    """Harmless once the time axis is gone."""
    time = without_time(call, form)
    if time is None:
        which = f" of '{form.last_recurrent}'" if form.last_recurrent else ""
        refuse(
            call,
            f"{call.kind} joins all steps of the window, so there is no output before the window is full",
            f"take it out, set return_sequences=False in the last recurrent layer{which} and train again",
        )
    return run_as_it_is(call, form, time)


@streams(_OPS.Add, _OPS.Subtract, _OPS.Multiply, _OPS.Divide, _OPS.TrueDivide, _OPS.Maximum, _OPS.Minimum)
def arithmetic(call: LayerCall, form: Form) -> Any:
    """x + y in the graph: both of one kind, or one a plain number."""
    constants = [value for value in keras.tree.flatten((call.args, call.kwargs)) if not _is_tensor(value)]
    if any(getattr(value, "ndim", 0) > 0 for value in constants):
        refuse(call, "it takes an array that is part of the graph", "put its numbers into a layer of Keras")
    return run_as_it_is(call, form, _same_time(call, form))


@streams(_OPS.GetItem)
def last_step(call: LayerCall, form: Form) -> Any:
    """x[:, -1]: the output after this step, as return_sequences=False has it."""
    key = call.args[1] if len(call.args) > 1 else call.kwargs.get("key")
    everything = slice(None)
    parts = list(key) if isinstance(key, (list, tuple)) else [key]
    time = without_time(call, form)
    if time is not None:
        return run_as_it_is(call, form, time)
    if parts[:2] != [everything, -1] or any(p != everything for p in parts[2:]):
        refuse(call, f"it cuts out {key}", "only x[:, -1], the last step, can be streamed")
    return run_as_it_is(call, form, Time.SO_FAR)


def _time(call: LayerCall, form: Form) -> Time:
    """What the single input has to do with time; refuses (batch, time), where layers work along time."""
    if len(call.tensors) != 1:
        refuse(call, "it is called with more than one tensor", "use a layer that takes one")
    time = form.time(call.tensors[0])
    shape = call.tensors[0].shape
    if time is Time.EACH_STEP and len(shape) < 3:
        refuse(
            call,
            f"its input {_shape_words(shape)} has no feature axis",
            "feed the model (batch, time, features), or ids (batch, time) into an Embedding",
        )
    return time


def _shape_words(shape: tuple[int | None, ...]) -> str:
    return "(batch, time)" if len(shape) == 2 else str(shape)


def _same_time(call: LayerCall, form: Form) -> Time:
    """What the inputs have in common; what is constant may join what is so far, but nothing else joins time."""
    time = without_time(call, form)
    if time is not None:
        return time
    if len({(form.time(tensor), len(tensor.shape)) for tensor in call.tensors}) > 1:
        refuse(
            call,
            "it joins a branch that runs over time with one that does not",
            "give both branches the same return_sequences",
        )
    if len(call.tensors[0].shape) < 3:
        refuse(call, "its inputs have no feature axis", "feed the model (batch, time, features)")
    return Time.EACH_STEP


def _axes(axis: Any, rank: int) -> set[int]:
    axes = axis if isinstance(axis, (list, tuple)) else () if axis is None else (axis,)
    return {int(a) % rank for a in axes}


def _is_stateful(layer: Any) -> bool:
    return bool(getattr(layer, "stateful", False))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)
