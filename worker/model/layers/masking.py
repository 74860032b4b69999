"""Masks: which steps count. Where one does not, everything stays as it was; the mask is passed on as Keras does.

Keras attaches a mask to a tensor. The call of a layer that takes nothing but that tensor records the mask as an
argument, so in a graph masks are seen as operations on booleans: NotEqual, Any, LogicalOr.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker.model.backend import keras
from worker.model.graph import LayerCall, Tensor
from worker.model.rules import StepBuilder, Time, refuse, run_as_it_is, streams
from worker.model.tracing import is_own

TRIED_ROWS = 2


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


def handed_on(call: LayerCall, builder: StepBuilder, outputs: Any) -> Any:
    """The outputs of a call, with the mask that the graph knows nothing of.

    Code that returns the very tensor that it was given (an identity, a cast to the same type) returns its mask, too,
    but only when the model runs: graphs have other tensors. So the layer is called on numbers.
    """
    if len(call.tensors) != 1 or not isinstance(outputs, keras.KerasTensor) or mask_of(outputs) is not None:
        return outputs
    (given,) = call.tensors
    mask = mask_of(given)
    times = {builder.time(given), builder.time(outputs)}
    if mask is None or times != {Time.EACH_STEP} or not _returns_its_input(call):
        return outputs
    return builder.mark(carrying(builder, outputs, mask, call.layer.name), Time.EACH_STEP, builder.steps(outputs))


def _returns_its_input(call: LayerCall) -> bool:
    (given,) = call.tensors
    shape = (TRIED_ROWS, *given.shape[1:])
    mask, numbers = keras.ops.ones((TRIED_ROWS, 1), "bool"), keras.ops.zeros(shape, given.dtype)
    keras.src.backend.set_keras_mask(numbers, mask)

    def called(function: Callable[..., Any], x: Any, its_mask: Any) -> Any:
        def put(leaf: Any) -> Any:
            if not isinstance(leaf, keras.KerasTensor):
                return leaf
            return x if leaf is given else its_mask

        args, kwargs = keras.tree.map_structure(put, (call.args, call.kwargs))
        return function(*args, **kwargs)

    try:
        # TensorFlow ends the process where a pooling is left without a step, so shapes are asked first; code has none.
        if not isinstance(call.layer, keras.layers.Lambda) and not is_own(call.layer):
            symbols = keras.KerasTensor(shape, given.dtype), keras.KerasTensor((TRIED_ROWS, 1), "bool")
            made = called(call.layer.compute_output_spec, *symbols)
            if not isinstance(made, keras.KerasTensor) or tuple(made.shape) != shape:
                return False
        made = called(call.layer, numbers, mask)
    except Exception:  # noqa: BLE001 (whatever its code raises on one step: the rule has had its say)
        return False
    return keras.ops.is_tensor(made) and mask_of(made) is not None


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
