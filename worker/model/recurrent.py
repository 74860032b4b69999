"""Rules of the recurrent layers: their states become inputs and outputs of the model."""

from __future__ import annotations

from typing import Any

from worker.model.backend import keras
from worker.model.graph import LayerCall, copy_layer, copy_weights
from worker.model.rules import Form, Time, refuse, streams

STATE_NAMES = ("h", "c")  # in Keras' order; GRU and SimpleRNN have the first only


@streams(keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)
def recurrent(call: LayerCall, form: Form) -> Any:
    """x (batch, 1, features) and the states before → output of this step and the states after."""
    _check(call, form)
    layer, name = call.layer, form.name(call)
    copy = copy_layer(layer, name, stateful=False, unroll=True, return_state=True)
    before = [
        form.state(name, state, (size,), layer.compute_dtype)
        for state, size in zip(STATE_NAMES, layer.state_size, strict=False)
    ]
    output, *after = copy(call.tensors[0], initial_state=before)
    copy_weights(layer, copy)
    form.answer(after)
    form.last_recurrent = name
    form.report(call, name, f"{'states' if len(before) > 1 else 'state'} as arguments")
    form.mark(output, Time.EACH_STEP if layer.return_sequences else Time.SO_FAR)
    form.mark(after, Time.SO_FAR)
    return (output, *after) if layer.return_state else output


def _check(call: LayerCall, form: Form) -> None:
    layer = call.layer
    if layer.go_backwards:
        refuse(call, "go_backwards=True begins at the end of the sequence", "train it with go_backwards=False")
    if len(call.tensors) != 1:
        refuse(
            call,
            "it takes an initial state or a mask from another layer of the model",
            "let it begin at zero; states are set from outside, per stream",
        )
    if form.time(call.tensors[0]) is not Time.EACH_STEP:
        refuse(
            call,
            "the axis it runs along is not the time of the stream",
            "give the recurrent layer before it return_sequences=True and take out what reshapes its output",
        )
    if layer.stateful and layer.states is None:
        refuse(call, "it was never built", "call the model once before")
