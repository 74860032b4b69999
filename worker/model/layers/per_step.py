"""Rules of the layers that treat every step alone: they run as they are, once it is certain that they do."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from worker.model.backend import keras
from worker.model.graph import Layer, LayerCall
from worker.model.layers.shares import softmax_over_time
from worker.model.rules import StepBuilder, Time, refuse, run_as_it_is, streams

L = keras.layers
TIME_AXIS = 1


@streams(
    *(L.ReLU, L.LeakyReLU, L.ELU, L.Identity, L.Dense),
    *(L.Dropout, L.AlphaDropout, L.GaussianNoise, L.GaussianDropout, L.ActivityRegularization),
    *(L.SpatialDropout1D, L.SpatialDropout2D, L.SpatialDropout3D),
    tails=True,
)
def per_step(call: LayerCall, builder: StepBuilder) -> Any:
    """Works on single values or on the last axis, whatever comes before it."""
    return run_as_it_is(call, builder, single_time(call, builder))


@streams(L.Activation, tails=True)
def activation(call: LayerCall, builder: StepBuilder) -> Any:
    """A softmax of one number per step, (batch, time), goes over the steps."""
    over_time = builder.time(call.tensors[0]) is Time.EACH_STEP
    if over_time and len(call.tensors[0].shape) == 2 and call.layer.activation is keras.activations.softmax:
        return softmax_over_time(call, builder)
    return per_step(call, builder)


@streams(
    L.LayerNormalization, L.BatchNormalization, L.UnitNormalization, L.RMSNormalization, L.Normalization, tails=True
)
def along_features(call: LayerCall, builder: StepBuilder) -> Any:
    """Has an axis of its own: it must not be time."""
    time = single_time(call, builder)
    rank = len(call.tensors[0].shape)
    if time is Time.EACH_STEP and TIME_AXIS in axes_of(call.layer.axis, rank):
        refuse(
            call,
            f"axis={call.layer.axis} includes time, so a step depends on how long the sequence is",
            "use axis=-1, the features, and train again"
            if call.tensors[0].shape[-1] != 1
            else "remove it, and train again",
        )
    return run_as_it_is(call, builder, time)


@streams(L.Softmax, tails=True)
def softmax(call: LayerCall, builder: StepBuilder) -> Any:
    """Its mask says which features count, so it must have as many axes as they have."""
    mask, (x,) = call.mask, call.tensors
    if builder.time(x) is Time.EACH_STEP and axes_of(call.layer.axis, len(x.shape)) == {TIME_AXIS}:
        if mask is not None:
            refuse(
                call,
                "over time it would leave masked steps out",
                "use keras.ops.softmax(x, axis=1), which takes no mask, and train again",
            )
        return softmax_over_time(call, builder)
    if mask is not None and len(mask.shape) != len(call.tensors[0].shape):
        refuse(
            call,
            "it takes the mask of the steps for one of the features",
            "use keras.layers.Activation('softmax'), which takes no mask, and train again",
        )
    return along_features(call, builder)


@streams(L.Rescaling, tails=True)
def rescaling(call: LayerCall, builder: StepBuilder) -> Any:
    """By one number, or one per feature. Keras tells no other output shape when there is one per step."""
    time = single_time(call, builder)
    if time is Time.EACH_STEP and max(np.ndim(call.layer.scale), np.ndim(call.layer.offset)) > 1:
        refuse(
            call, "it has a number for each step of the window", "use one number, or one per feature, and train again"
        )
    return run_as_it_is(call, builder, time)


@streams(L.PReLU, tails=True)
def learned_slopes(call: LayerCall, builder: StepBuilder) -> Any:
    time = single_time(call, builder)
    if time is Time.EACH_STEP and TIME_AXIS not in (call.layer.shared_axes or ()):
        refuse(
            call,
            "it has learned a slope for each step of the window",
            "use shared_axes=[1], a slope per feature, and train again",
        )
    return run_as_it_is(call, builder, time)


@streams(L.EinsumDense, tails=True)
def einsum_dense(call: LayerCall, builder: StepBuilder) -> Any:
    """Time must be the second letter on both sides and no letter of the weights."""
    time = single_time(call, builder)
    if time is not Time.EACH_STEP:
        return run_as_it_is(call, builder, time)
    layer = call.layer
    given, weights, result = re.split(",|->", layer.equation.replace(" ", ""))
    elided = len(call.tensors[0].shape) - len(given.replace("...", "")) if given.startswith("...") else 0
    lead = 2 - elided if elided < 2 else 0
    letters = (given.removeprefix("...")[:lead], result.removeprefix("...")[:lead])
    if letters[0] != letters[1] or set(letters[0]) & (set(weights) | set(layer.bias_axes or "")):
        refuse(
            call,
            f"'{layer.equation}' has weights along time, or moves it",
            "leave batch and time alone, as in 'btf,fu->btu', and train again",
        )
    return run_as_it_is(call, builder, time, **of_length(layer, 1 + (builder.now.tail if builder.now else 0)))


def of_length(layer: Layer, steps: int | None) -> dict[str, Any]:
    """Changes of an EinsumDense with which it takes this number of steps; any number if None."""
    if layer.equation.startswith("..."):
        return {}
    return {"output_shape": (steps, *layer.partial_output_shape[1:])}


@streams(L.Embedding, L.ReversibleEmbedding)
def embedding(call: LayerCall, builder: StepBuilder) -> Any:
    """Ids (batch, 1) → (batch, 1, width); with more axes of ids each is embedded alone. In reverse, along features."""
    return run_as_it_is(call, builder, builder.time(call.tensors[0]))


def single_time(call: LayerCall, builder: StepBuilder, features: bool = True) -> Time:
    """How the single input relates to time.

    With ``features`` refuses (batch, time), where the last axis, which most layers work along, is time.
    """
    if len(call.tensors) != 1:
        refuse(call, "it is called with more than one tensor", "call it with that tensor alone")
    time = builder.time(call.tensors[0])
    shape = call.tensors[0].shape
    if features and time is Time.EACH_STEP and len(shape) < 3:
        refuse(
            call,
            f"its input {_shape_words(shape)} has no feature axis",
            "feed the model (batch, time, features), or ids (batch, time) into an Embedding, and train again",
        )
    return time


def _shape_words(shape: tuple[int | None, ...]) -> str:
    return "(batch, time)" if len(shape) == 2 else str(shape)


def axes_of(axis: Any, rank: int) -> set[int]:
    axes = axis if isinstance(axis, (list, tuple)) else () if axis is None else (axis,)
    return {int(a) % rank for a in axes}
