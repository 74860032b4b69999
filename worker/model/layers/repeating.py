"""Layers along an axis of a result so far that is no time of the stream, such as the steps of a decoder.

What runs over such an axis begins anew after each event, exactly as trained.
"""

from __future__ import annotations

from typing import Any

from worker.errors import counted
from worker.model.backend import keras
from worker.model.graph import Layer, LayerCall, Tensor
from worker.model.layers.cells import states_of
from worker.model.rules import StepBuilder, Time, refuse, run_as_it_is, streams, without_time

L = keras.layers


def anew(call: LayerCall, builder: StepBuilder) -> Any | None:
    """What a recurrent layer, or one around it, gives for a result so far; None where an input runs over time."""
    time = without_time(call, builder)
    if time is None:
        return None
    if any(builder.time(mask) is Time.EACH_STEP for mask in _masks(call)):
        refuse(
            call,
            "its mask runs over the stream's time and its input does not",
            "call it without that mask, and train again",
        )
    if isinstance(call.layer, L.RNN):
        states_of(call)  # refused where two streams would not begin alike
    form = f"{counted(call.tensors[0].shape[1], 'step')} anew after each event"
    return run_as_it_is(call, builder, time, form, **unbound(call.layer))


def _masks(call: LayerCall) -> list[Tensor]:
    given = [value for name, value in call.kwargs.items() if name.endswith("mask")]
    return [mask for mask in keras.tree.flatten(given) if isinstance(mask, keras.KerasTensor)]


def unbound(layer: Layer) -> dict[str, Any]:
    """Changes of the configuration with which a recurrent layer keeps nothing and takes any number of steps."""
    changes = {"stateful": False, "unroll": False}
    if isinstance(layer, L.RNN):
        return changes
    config = layer.get_config() if isinstance(layer, L.Bidirectional) else {}
    inside = [key for key in ("layer", "backward_layer") if config.get(key)]
    return {key: {**config[key], "config": {**config[key]["config"], **changes}} for key in inside}


@streams(L.Bidirectional)
def bidirectional(call: LayerCall, builder: StepBuilder) -> Any:
    """Its second half begins at the end: of a result so far the end is there."""
    outputs = anew(call, builder)
    if outputs is None:
        refuse(
            call,
            "Bidirectional: it needs steps that have not arrived yet: its second half reads the sequence from the end",
            "replace it by the recurrent layer inside and train again",
        )
    return outputs


@streams(L.RepeatVector)
def repeat_vector(call: LayerCall, builder: StepBuilder) -> Any:
    """A result so far gets an axis of its own; one vector per stream is that of every step of it."""
    time = builder.time(call.tensors[0])
    if time is Time.SO_FAR:
        return run_as_it_is(call, builder, time, form=f"the result so far {counted(call.layer.n, 'time')}")
    if time is Time.EACH_STEP:
        refuse(call, "it repeats the whole window", "feed the model (batch, time, features) and train again")
    layer = L.Reshape((1, call.tensors[0].shape[1]), name=builder.name(call), dtype=call.tensors[0].dtype)
    builder.report(call, builder.name(call), "as it is")
    return builder.mark(layer(call.tensors[0]), Time.EACH_STEP)
