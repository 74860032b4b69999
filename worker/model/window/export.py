"""The window form as an ordinary Keras model: [x, inputs, events] → [y, answered where it waits, inputs, events]."""

from __future__ import annotations

from typing import Any

from worker.model.backend import keras
from worker.model.graph import graph_of
from worker.model.rules import Time
from worker.model.window.form import EVENTS, INPUTS, LAYER, WindowForm

L = keras.layers
ops = keras.ops


def to_keras(form: WindowForm) -> Any:
    """The trained model is a layer of it, behind the window."""
    dtype = form.states[0].dtype
    steps, features = form.window.steps, form.features
    x = keras.Input((1, features), dtype=dtype, name="x")
    before = keras.Input((steps, features), dtype=dtype, name=f"{LAYER}_{INPUTS}")
    events = keras.Input((1,), dtype=dtype, name=f"{LAYER}_{EVENTS}")
    window = ops.concatenate([before[:, 1:], x], axis=1)
    count = _after(form, events)
    y = _answer(form, window, dtype)
    outputs = [y, window, count]
    if form.waits:
        answered = ops.cast(
            ops.logical_and(count >= form.window.first_answer, ops.equal(count % form.window.every, 0)), dtype
        )
        outputs = [y * answered, answered, window, count]
    return keras.Model([x, before, events], outputs, name=f"{form.opened.model.name}_window")


def _after(form: WindowForm, events: Any) -> Any:
    window, full = form.window, -(-form.window.steps // form.window.every) * form.window.every
    most = full + window.every - 1
    counted = ops.clip(ops.round(events), 0, most) + 1
    return ops.where(counted > most, ops.full_like(counted, full) + (counted - full) % window.every, counted)


def _answer(form: WindowForm, window: Any, dtype: str) -> Any:
    inputs = []
    for part in form.inputs:
        piece = window[:, :, part.columns]
        lead = (form.window.steps,) if part.time is Time.EACH_STEP else ()
        piece = piece if part.time is Time.EACH_STEP else piece[:, -1]
        inputs.append(ops.cast(L.Reshape((*lead, *part.shape), dtype=dtype)(piece), part.dtype))
    model = form.opened.model
    structure = getattr(model, "_inputs_struct", None) if len(inputs) == 1 else graph_of(model)._inputs_struct
    given = inputs[0] if structure is None else keras.tree.pack_sequence_as(structure, inputs)
    outputs = keras.tree.flatten(model(given, training=False))
    last = [y[:, -1] if part.time is Time.EACH_STEP else y for y, part in zip(outputs, form.outputs, strict=True)]
    flat = [ops.cast(L.Reshape((part.width,))(y), dtype) for y, part in zip(last, form.outputs, strict=True)]
    return flat[0] if len(flat) == 1 else L.Concatenate(dtype=dtype)(flat)
