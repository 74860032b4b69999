"""Decoders that are a step already, [x (batch, 1, …), *states] → [y, *states after], as ``to_keras`` may give them."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from worker.errors import ModelRefusedError
from worker.model.backend import keras
from worker.model.building import LayerReport
from worker.model.explicit import ExplicitModel
from worker.model.graph import Layer, Tensor, graph_of, layers_of, tensors_in
from worker.model.inputs import part_over_time
from worker.model.pair.source import refuse_chance
from worker.model.ports import OutputPart
from worker.model.rules import Time
from worker.records.states import StateSpec

L = keras.layers
STEP = "_step"  # that names of streaming forms end with
AS_SAVED = "save it as keras.Model([x, *states], [y, *states after]), the states in the same order on both sides"
AT_ZERO = "it begins at zero in each step"
AS_INPUTS = "give it the decoder's own inputs as initial_state; layers in between belong into the encoder"


def is_step(decoder: Any) -> bool:
    """Whether it is a streaming form that was saved: by its name, its one step, and an input named as states are.

    What a source gives for all steps has no such name.
    """
    x, *states = graph_of(decoder).inputs
    return bool(decoder.name.endswith(STEP) and x.shape[1:2] == (1,) and any("." in each.name for each in states))


def as_it_is(decoder: Any, graph: Any) -> ExplicitModel:
    """Raises ModelRefusedError for layers that draw at random, or whose states don't go from step to step."""
    refuse_chance(decoder)
    for layer in layers_of(decoder):
        for node in layer._inbound_nodes if isinstance(layer, L.RNN) else ():
            _check_recurrent(layer, node, graph)
    x, *states = graph.inputs
    y, part, specs = graph.outputs[0], part_over_time(graph, x), [_spec(tensor) for tensor in states]
    units = int(np.prod(y.shape[1:]))
    time = Time.EACH_STEP if len(y.shape) > 2 else Time.SO_FAR
    return ExplicitModel(
        keras_model=decoder,
        states=specs,
        layers=[LayerReport(decoder.name, "Functional", "a step already", tuple(specs))],
        inputs=[part],
        step_shape=part.shape,
        features=part.width,
        units=units,
        outputs=[OutputPart(graph.output_names[0], time, tuple(y.shape[1:])[-1:], slice(0, units))],
        initial=np.zeros(sum(int(np.prod(spec.shape)) for spec in specs)),
    )


def _check_recurrent(layer: Layer, node: Any, graph: Any) -> None:
    given = inspect.signature(layer.call).bind(*node.arguments.args, **node.arguments.kwargs).arguments
    initial = tensors_in(given.get("initial_state"))
    if not initial:
        raise ModelRefusedError(layer.name, AT_ZERO, AS_INPUTS)
    inputs = {id(tensor): number for number, tensor in enumerate(graph.inputs)}
    outputs = {id(tensor): number for number, tensor in enumerate(graph.outputs)}
    for before, after in zip(initial, node.outputs[1:], strict=False):
        number = inputs.get(id(before))
        if number is not None and outputs.get(id(after), number) != number:
            raise not_after(number, before.name)


def not_after(number: int, name: str) -> ModelRefusedError:
    """The refusal of a decoder that gives a state back at another place."""
    return ModelRefusedError(
        name,
        f"state {number} of the decoder begins with this input, and its output {number + 1} is not that state after "
        "the step",
        AS_SAVED,
    )


def _spec(tensor: Tensor) -> StateSpec:
    """Of a state whose input is named 'layer.name'."""
    layer, _, name = tensor.name.rpartition(".")
    return StateSpec(layer or tensor.name, name if layer else "state", tuple(tensor.shape[1:]), tensor.dtype)
