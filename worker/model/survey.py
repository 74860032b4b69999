"""Continues after a refusal, with stand-ins for the refused layers, so that all layers in the way are named at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from worker.errors import ModelRefusedError
from worker.model.backend import keras
from worker.model.building import Building
from worker.model.graph import LayerCall, Tensor, graph_of, tensors_in, walk
from worker.model.inputs import assignments
from worker.model.rules import Time


class _LostError(Exception):
    """Nobody can say what a refused layer gives in one step: layers after it are not judged."""


def refusals(model: Any) -> list[ModelRefusedError]:
    """All layers that are in the way, in the graph's order, as far as it can be followed. Raises nothing."""
    survey = _Survey()
    try:
        inputs = []
        for part in next(assignments(graph_of(model))):
            shape = (1, *part.shape) if part.time is Time.EACH_STEP else part.shape
            inputs.append(survey.mark(keras.Input(shape, dtype=part.dtype), part.time))
        walk(model, inputs, survey.visit)
    except Exception:  # noqa: BLE001 (a search among stand-ins: earlier findings still hold)
        return survey.found
    return survey.found


@dataclass
class _Survey(Building):
    found: list[ModelRefusedError] = field(default_factory=list)

    def visit(self, call: LayerCall) -> Any:
        try:
            return super().visit(call)
        except ModelRefusedError as refusal:
            self.found.append(refusal)
            return keras.tree.map_structure(lambda tensor: self._stand_in(call, tensor), call.layer.output)

    def _stand_in(self, call: LayerCall, trained: Tensor) -> Tensor:
        """The trained layer's output, cut down to one step."""
        inputs = tensors_in(call.layer.input)
        over_time = not {self.time(tensor) for tensor in call.tensors} <= {Time.SO_FAR, Time.CONSTANT}
        if over_time and {trained.shape[1]} == {tensor.shape[1] for tensor in inputs}:
            time = Time.EACH_STEP
        elif not over_time and len(trained.shape) <= max(len(tensor.shape) for tensor in inputs):
            time = Time.SO_FAR
        else:
            raise _LostError
        shape = (1, *trained.shape[2:]) if time is Time.EACH_STEP else trained.shape[1:]
        return self.mark(keras.Input(shape, dtype=trained.dtype), time)
