"""Masks: which steps count. Where one does not, everything stays as it was; the mask is passed on as Keras does.

Keras attaches a mask to a tensor. The call of a layer that takes nothing but that tensor records the mask as an
argument, so in a graph masks are seen as operations on booleans: NotEqual, Any, LogicalOr.
"""

from __future__ import annotations

from typing import Any

from worker.model.backend import keras
from worker.model.graph import LayerCall, Tensor
from worker.model.rules import StepBuilder, Time, refuse, run_as_it_is, streams


def mask_of(tensor: Tensor) -> Tensor | None:
    """The mask that Keras has attached to a tensor."""
    return keras.src.backend.get_keras_mask(tensor)


def where_counted(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """``new`` in the rows whose step counts, ``old`` in the others; mask (batch, 1), tensors (batch, …)."""
    for _ in range(len(new.shape) - len(mask.shape)):
        mask = keras.ops.expand_dims(mask, -1)
    return keras.ops.where(mask, new, old)


def carrying(builder: StepBuilder, tensor: Tensor, mask: Tensor, name: str) -> Tensor:
    """The same values (batch, 1, …) with the mask attached, in the graph and when it runs.

    Merging layers look for masks while they compute, and an operation such as ``where`` attaches none then. This layer
    of Keras takes a mask, passes it on and changes nothing.
    """
    inside = keras.layers.Identity(dtype=tensor.dtype)
    return keras.layers.TimeDistributed(inside, dtype=tensor.dtype, name=builder.unique(f"{name}.masked", ()))(
        tensor, mask=mask
    )


@streams(keras.layers.Masking)
def masking(call: LayerCall, builder: StepBuilder) -> Any:
    """A step does not count when all its features are ``mask_value``; Keras attaches that to the output."""
    time = builder.time(call.tensors[0])
    if time is Time.EACH_STEP and len(call.tensors[0].shape) < 3:
        refuse(
            call,
            "its input has no feature axis",
            "give it (batch, time, 1), by Reshape((-1, 1)) before it, and train again",
        )
    return run_as_it_is(call, builder, time)
