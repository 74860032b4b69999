"""Rules of the layers that join several tensors: each must belong to the same step, or be the same in all steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from worker.model.advice import FIXED_LENGTH, OPEN_LENGTH
from worker.model.backend import keras
from worker.model.graph import LayerCall
from worker.model.layers.per_step import axes_of
from worker.model.layers.positions import at_this_step
from worker.model.rules import StepBuilder, Time, refuse, run_as_it_is, streams, without_time

L = keras.layers

_REPEAT = "repeat one vector for every step, RepeatVector(number of steps), join by axis=-1, and train again"


@streams(L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum, tails=True)
def merge(call: LayerCall, builder: StepBuilder) -> Any:
    """Keras inserts missing axes after the batch, so that a vector per stream is combined with every step."""
    call = at_this_step(call, builder)
    time = joint_time(call, builder, ranks=False)
    rank = max(len(tensor.shape) for tensor in call.tensors)
    over_time = [tensor for tensor in call.tensors if builder.time(tensor) is Time.EACH_STEP]
    if any(len(tensor.shape) != rank for tensor in over_time):
        refuse(
            call,
            "its inputs have different numbers of axes, so time would meet features",
            "give them the same, by Reshape, and train again",
        )
    refuse_misaligned(call, builder, rank, spread=True)
    return run_as_it_is(call, builder, time)


@streams(L.Concatenate, tails=True)
def concatenate(call: LayerCall, builder: StepBuilder) -> Any:
    time = joint_time(call, builder)
    rank = len(call.tensors[0].shape)
    if time is Time.EACH_STEP:
        if any(builder.time(tensor) is not time for tensor in call.tensors):
            refuse(call, "it joins what runs over time with one vector for all steps", _REPEAT)
        if axes_of(call.layer.axis, rank) & {0, 1}:
            refuse(
                call, f"axis={call.layer.axis} joins along time", "join along the features, axis=-1, and train again"
            )
    return run_as_it_is(call, builder, time)


def joint_time(call: LayerCall, builder: StepBuilder, ranks: bool = True) -> Time:
    """How the tensors together relate to time; refuses those that share no step.

    With ``ranks`` all of them must have as many axes, as where axes are counted from the last.
    """
    times = {builder.time(tensor) for tensor in call.tensors}
    if {Time.EACH_STEP, Time.SO_FAR} <= times:
        refuse(
            call,
            "it joins a branch that runs over time with one that does not",
            "join what both give at each step, or both after the last one (return_sequences), and train again",
        )
    if ranks and len({len(tensor.shape) for tensor in call.tensors}) > 1:
        if Time.CONSTANT in times and Time.EACH_STEP in times:
            refuse(call, "it joins what runs over time with one vector for all steps", _REPEAT)
        refuse(call, "its inputs have different numbers of axes", "give them the same, by Reshape, and train again")
    return without_time(call, builder) or Time.EACH_STEP


def refuse_misaligned(call: LayerCall, builder: StepBuilder, rank: int, spread: bool = False) -> None:
    """Refuse numbers that stand for one step or one stream each: arrays, and constant tensors as long as the window.

    With ``spread`` a tensor of fewer axes than ``rank`` is spread over the axes behind the batch, as in Keras' layers.
    """
    over_time = any(builder.time(tensor) is Time.EACH_STEP for tensor in call.tensors)
    for tensor in call.tensors:
        short = len(tensor.shape) < rank
        if over_time and builder.time(tensor) is Time.CONSTANT and not (spread and short) and tensor.shape[1] != 1:
            refuse(call, "it has a number of its own for each step of the window", _REPEAT)
    for value in [*call.args, *call.kwargs.values()]:
        if any(isinstance(leaf, keras.KerasTensor) for leaf in keras.tree.flatten(value)):
            continue
        shape = tuple(getattr(value, "shape", None) or np.shape(value))
        if 0 in shape:  # as many as there are steps, while Keras does not know how many
            refuse(call, f"it takes numbers for no step: {OPEN_LENGTH}", FIXED_LENGTH)
        aligned = (1,) * (rank - len(shape)) + shape
        if len(shape) > rank or any(size != 1 for size in aligned[: 2 if over_time else 1]):
            refuse(
                call,
                f"it takes an array of shape {shape}, with numbers of its own for each step or stream",
                "use one number, or one per feature, and train again",
            )
