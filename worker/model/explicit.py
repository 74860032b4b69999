"""Builds the streaming form: one Keras model ``[x (batch, 1, features), *states] → [y, *states]``.

Layers are copied, weights with them: the trained model stays as it is, and later training of it changes nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from worker.errors import ModelRefusedError
from worker.model import per_step, recurrent, refused  # noqa: F401  (their rules register themselves)
from worker.model.backend import keras
from worker.model.graph import Layer, LayerCall, Tensor, copy_layer, first_line, graph_of, walk
from worker.model.rules import rule_for
from worker.records import StateSpec


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What became of one layer: its name and kind, how it runs on a step, the states it has."""

    layer: str
    kind: str
    form: str
    states: tuple[StateSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class ExplicitModel:
    """The streaming form and what is known about it. A model of ids has ``features`` 1 and no feature axis."""

    keras_model: Any
    states: list[StateSpec]
    layers: list[LayerReport]
    features: int
    units: int
    has_feature_axis: bool
    output_over_time: bool
    step_shape: tuple[int, ...]


def build(model: Any) -> ExplicitModel:
    """Convert a trained model. Raises ModelRefusedError naming the layer that is in the way."""
    graph = graph_of(model)
    source = _single_input(graph)
    builder = _Builder()
    x = keras.Input((1, *source.shape[2:]), dtype=source.dtype, name=builder.unique(source.name, ()))
    builder.mark(x, True)
    outputs = walk(model, [x], builder.visit)
    y = _single_output(model, outputs, builder)
    if not builder.specs:
        raise ModelRefusedError(
            model.name,
            "no layer of it keeps a state from step to step",
            "use a model with at least one recurrent layer over the time axis",
        )
    explicit = keras.Model([x, *builder.before], [y, *builder.after], name=f"{model.name}_step")
    return ExplicitModel(
        keras_model=explicit,
        states=builder.specs,
        layers=builder.reports,
        features=source.shape[2] if len(source.shape) == 3 else 1,
        units=y.shape[-1],
        has_feature_axis=len(source.shape) == 3,
        output_over_time=builder.over_time(y),
        step_shape=tuple(source.shape[2:]),
    )


def _single_input(graph: Any) -> Tensor:
    if len(graph.inputs) != 1:
        names = ", ".join(tensor.name for tensor in graph.inputs)
        raise ModelRefusedError(
            graph.name, f"it has {len(graph.inputs)} inputs ({names})", "join them to one vector per step"
        )
    source = graph.inputs[0]
    if len(source.shape) not in (2, 3) or (len(source.shape) == 3 and source.shape[2] is None):
        raise ModelRefusedError(
            source.name,
            f"its shape {tuple(source.shape)} is neither (batch, time, features) nor ids (batch, time)",
            "flatten each step to one vector of a known width",
        )
    return source


def _single_output(model: Any, outputs: list[Tensor], builder: _Builder) -> Tensor:
    if len(outputs) != 1:
        raise ModelRefusedError(model.name, f"it has {len(outputs)} outputs", "keep the one that is wanted per step")
    y = outputs[0]
    if len(y.shape) != (3 if builder.over_time(y) else 2) or y.shape[-1] is None:
        raise ModelRefusedError(
            model.name, f"its output of shape {tuple(y.shape)} is not one vector per step", "end it with a Dense layer"
        )
    return y


@dataclass
class _Builder:
    """Collects states, copies and reports while the graph is walked (``rules.Form``)."""

    last_recurrent: str | None = None
    specs: list[StateSpec] = field(default_factory=list)
    before: list[Tensor] = field(default_factory=list)
    after: list[Tensor] = field(default_factory=list)
    reports: list[LayerReport] = field(default_factory=list)
    _marks: dict[int, bool] = field(default_factory=dict)
    _kept: list[Tensor] = field(default_factory=list)  # marks go by id, so no tensor may be freed meanwhile
    _names: set[str] = field(default_factory=set)
    _copies: dict[int, Layer] = field(default_factory=dict)
    _call_name: tuple[LayerCall, str] | None = None

    def visit(self, call: LayerCall) -> Any:
        rule = rule_for(call)
        try:
            return rule(call, self)
        except ModelRefusedError:
            raise
        except Exception as error:  # whatever Keras raises when a layer does not fit one step
            raise ModelRefusedError(
                ".".join([*call.path, call.layer.name]),
                f"{call.kind} can't run on one step ({first_line(error)})",
                "replace it by a layer that works on each step alone",
            ) from error

    def over_time(self, tensor: Tensor) -> bool:
        return self._marks[id(tensor)]

    def mark(self, outputs: Any, over_time: bool) -> Any:
        for tensor in keras.tree.flatten(outputs):
            self._marks[id(tensor)] = over_time
            self._kept.append(tensor)
        return outputs

    def unique(self, name: str, path: tuple[str, ...]) -> str:
        candidates = [name, *([".".join([*path, name])] if path else [])]
        number = 2
        while all(candidate in self._names for candidate in candidates):
            candidates.append(f"{candidates[0]}.{number}")
            number += 1
        chosen = next(candidate for candidate in candidates if candidate not in self._names)
        self._names.add(chosen)
        return chosen

    def name(self, call: LayerCall) -> str:
        if self._call_name is None or self._call_name[0] is not call:
            self._call_name = (call, self.unique(call.layer.name, call.path))
        return self._call_name[1]

    def state(self, layer: str, name: str, shape: tuple[int, ...], dtype: str) -> Tensor:
        tensor = keras.Input(shape, dtype=dtype, name=self.unique(f"{layer}.{name}", ()))
        self.specs.append(StateSpec(layer, name, tuple(shape), dtype))
        self.before.append(tensor)
        return self.mark(tensor, False)

    def answer(self, after: list[Tensor]) -> None:
        self.after.extend(after)
        assert len(self.after) == len(self.before), "a rule has opened more states than it has answered"

    def copy(self, call: LayerCall) -> Layer:
        key = id(call.layer)
        if key not in self._copies:
            self._copies[key] = copy_layer(call.layer, self.name(call))
        return self._copies[key]

    def report(self, call: LayerCall, name: str, form: str) -> None:
        states = tuple(spec for spec in self.specs if spec.layer == name)
        self.reports.append(LayerReport(name, call.kind, form, states))
