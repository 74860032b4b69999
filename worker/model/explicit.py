"""Builds the streaming form: one Keras model ``[x (batch, 1, features), *states] → [y, *states]``.

Layers are copied, weights with them: the trained model stays as it is, and later training of it changes nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.errors import ModelRefusedError
from worker.model import layers  # noqa: F401  (every rule registers itself)
from worker.model.backend import keras
from worker.model.building import Building, LayerReport
from worker.model.graph import Tensor, graph_of, walk
from worker.model.inputs import InputPart, assignments
from worker.model.layers.waiting import held
from worker.model.ports import OutputPart, output_parts
from worker.model.rules import Time
from worker.model.scopes import with_names_of_scopes
from worker.model.steps import PLAIN
from worker.records.arrays import FloatArray
from worker.records.states import StateSpec


@dataclass(frozen=True, slots=True)
class ExplicitModel:
    """The streaming form and what is known about it.

    ``inputs`` are the trained model's, each a part of a step's vector of ``features`` numbers; ``step_shape`` is the
    shape of x after (batch, 1). ``outputs`` are the trained model's, side by side in the ``units`` numbers of y.
    ``initial`` (state_width,) is a new stream's packed row. ``exact_steps``: in longer sequences answers are not those
    of the trained model; ``last_step``: to longer ones neither has an answer. None for no such limit.

    ``waits``: at some events there is no answer yet. Then the Keras model is [x, *states] → [y, answered, *states] with
    answered (batch, 1), 1.0 or 0.0; y is finite and says nothing where it is 0. ``first_answer``: the number of the
    event of a sequence, from 1, that is answered first.

    ``settled``: all outputs over time have a step for each event, which later events don't change. ``memory_events``:
    after so many, every part of the states has been used.
    """

    keras_model: Any
    states: list[StateSpec]
    layers: list[LayerReport]
    inputs: list[InputPart]
    step_shape: tuple[int, ...]
    features: int
    units: int
    outputs: list[OutputPart]
    initial: FloatArray
    waits: bool = False
    first_answer: int = 1
    settled: bool = True
    memory_events: int = 0
    exact_steps: int | None = None
    last_step: int | None = None

    @property
    def output_times(self) -> list[Time]:
        """For each output of the trained model, whether it runs over time."""
        return [part.time for part in self.outputs]


def build(model: Any, memory: int | None = None) -> ExplicitModel:
    """Convert a trained model. Raises ModelRefusedError naming the layer that is in the way.

    ``memory``: steps that attention may look back over.
    """
    graph = graph_of(model)
    refusals = []
    for parts in assignments(graph):
        try:
            return _build(model, graph, parts, memory)
        except ModelRefusedError as refusal:
            refusals.append(refusal)
    # The first assignment is the likeliest; its refusal is the one the user should see.
    raise refusals[0]


def _build(model: Any, graph: Any, parts: list[InputPart], memory: int | None) -> ExplicitModel:
    building = Building(memory=memory)
    x, inputs = _open_inputs(graph, parts, building)
    outputs = walk(model, inputs, building.visit)
    times = refuse_unfinished(model.name, outputs, building)
    steps = [building.steps(output) or PLAIN for output in outputs]
    first = max(one.first for one in steps)
    outputs = [held(building, output) for output in outputs]
    answered = [keras.ops.cast(building.count.since(first), "float32")] if first else []
    y = _joined(model, outputs, times)
    memory = building.close()
    if not building.specs:
        raise ModelRefusedError(
            model.name,
            "no layer of it keeps a state from step to step",
            "put a recurrent layer over the time axis into it and train again",
        )
    explicit = keras.Model([x, *building.before], [y, *answered, *building.after], name=f"{model.name}_step")
    with_names_of_scopes(explicit)
    return ExplicitModel(
        keras_model=explicit,
        states=building.specs,
        layers=building.reports,
        inputs=parts,
        step_shape=tuple(x.shape[2:]),
        features=sum(part.width for part in parts),
        units=int(np.prod(y.shape[1:])),
        outputs=output_parts(graph, outputs, times),
        initial=building.initial(),
        waits=bool(answered),
        first_answer=first + 1,
        settled=all(one.plain for one in steps),
        memory_events=memory,
        exact_steps=building.exact_steps,
        last_step=building.last_step,
    )


def refuse_unfinished(name: str, outputs: list[Tensor], building: Building) -> list[Time]:
    """How the outputs relate to time. Raises ModelRefusedError for those that no stream can have."""
    times = [building.time(output) for output in outputs]
    if Time.WINDOW in times:
        raise ModelRefusedError(
            name, "its output begins with zeros, before its first step", "remove the ZeroPadding1D at its end"
        )
    if Time.REMEMBERED in times:
        raise ModelRefusedError(
            name,
            "it answers the steps that a result so far was joined with, and each of them changes with every event",
            "sum them over time, keras.ops.sum(steps * shares, axis=1), and train again",
        )
    if Time.SHARE in times:
        raise ModelRefusedError(
            building.share(outputs[times.index(Time.SHARE)]).source,
            "over time the share of each step changes with every later step, and the model outputs it",
            "remove it from the outputs",
        )
    return times


def _open_inputs(graph: Any, parts: list[InputPart], building: Building) -> tuple[Tensor, list[Tensor]]:
    """The streaming form's x, and made from it the inputs of the trained model's graph."""
    if len(parts) == 1:
        (part,), (source,) = parts, graph.inputs
        x = keras.Input((1, *part.shape), dtype=source.dtype, name=building.unique(part.name, ()))
        building.mark(x, part.time)
        return x, [x]
    dtype = "float64" if any(part.dtype == "float64" for part in parts) else "float32"
    x = keras.Input((1, sum(part.width for part in parts)), dtype=dtype, name=building.unique("x", ()))
    inputs = []
    for part in parts:
        leading = (1,) if part.time is Time.EACH_STEP else ()
        piece = keras.layers.Reshape(
            (*leading, *part.shape), name=building.unique(f"{part.name}_of_x", ()), dtype=dtype
        )
        tensor = piece(x[:, :, part.columns])
        if part.dtype != dtype:
            tensor = keras.ops.cast(tensor, part.dtype)
        inputs.append(building.mark(tensor, part.time))
    return x, inputs


def _joined(model: Any, outputs: list[Tensor], times: list[Time]) -> Tensor:
    """One y: a single output as it is, several side by side as (batch, units)."""
    for output in outputs:
        if any(size is None for size in output.shape[1:]):
            raise ModelRefusedError(
                model.name,
                f"its output of shape {tuple(output.shape)} has no known width",
                "let its last layer tell how many numbers it gives, as in output_shape=(3,)",
            )
    single = outputs[0]
    if len(outputs) == 1 and len(single.shape) == (3 if times[0] is Time.EACH_STEP else 2):
        return single
    dtype = "float64" if any(output.dtype == "float64" for output in outputs) else "float32"
    flat = [keras.layers.Reshape((int(np.prod(output.shape[1:])),), dtype=dtype)(output) for output in outputs]
    return flat[0] if len(flat) == 1 else keras.layers.Concatenate(dtype=dtype)(flat)
