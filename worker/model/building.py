"""What a walk through a model's graph collects: copies of the layers, states, marks and reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from worker.errors import ModelRefusedError
from worker.model.backend import keras
from worker.model.graph import Layer, LayerCall, Tensor, copy_layer, first_line
from worker.model.keras2_masks import plain
from worker.model.rules import Share, Time, refuse_windows, rule_for
from worker.records.arrays import FloatArray
from worker.records.states import StateSpec


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What became of one layer: its name and kind, how it runs on a step, the states it has."""

    layer: str
    kind: str
    form: str
    states: tuple[StateSpec, ...] = ()


@dataclass
class Building:
    """The streaming form while it is being built (``rules.StepBuilder``)."""

    last_recurrent: str | None = None
    specs: list[StateSpec] = field(default_factory=list)
    before: list[Tensor] = field(default_factory=list)
    after: list[Tensor] = field(default_factory=list)
    reports: list[LayerReport] = field(default_factory=list)
    _initials: list[FloatArray] = field(default_factory=list)
    _times: dict[int, Time] = field(default_factory=dict)
    _shares: dict[int, Share] = field(default_factory=dict)
    _kept: list[Tensor] = field(default_factory=list)  # times are stored by id, so no tensor may be freed meanwhile
    _names: set[str] = field(default_factory=set)
    _copies: dict[tuple[int, str], Layer] = field(default_factory=dict)
    _call_name: tuple[LayerCall, str] | None = None

    def visit(self, call: LayerCall) -> Any:
        rule = rule_for(call, self)
        refuse_windows(call, self)
        try:
            return rule(call, self)
        except ModelRefusedError:
            raise
        except Exception as error:  # whatever Keras raises when a layer does not fit one step
            raise ModelRefusedError(
                call.layer_path,
                f"{call.kind} can't run on one step ({first_line(error)})",
                "replace it by a layer that works on each step alone, and train again",
            ) from error

    def time(self, tensor: Tensor) -> Time:
        return self._times[id(tensor)]

    def mark(self, outputs: Any, time: Time) -> Any:
        for tensor in keras.tree.flatten(outputs):
            self._times[id(tensor)] = time
            self._kept.append(tensor)
        return outputs

    def share(self, tensor: Tensor) -> Share:
        return self._shares[id(tensor)]

    def mark_share(self, share: Share) -> Tensor:
        self._shares[id(share.now)] = share
        return self.mark(share.now, Time.SHARE)

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

    def state(
        self, layer: str, name: str, shape: tuple[int, ...], dtype: str, initial: FloatArray | None = None
    ) -> Tensor:
        assert initial is None or np.shape(initial) == shape, f"initial {np.shape(initial)} of a state {shape}"
        tensor = keras.Input(shape, dtype=dtype, name=self.unique(f"{layer}.{name}", ()))
        self.specs.append(StateSpec(layer, name, tuple(shape), dtype))
        self.before.append(tensor)
        self._initials.append(np.zeros(shape) if initial is None else np.asarray(initial, np.float64))
        return self.mark(tensor, Time.SO_FAR)

    def answer(self, after: list[Tensor]) -> None:
        self.after.extend(after)
        assert len(self.after) == len(self.before), "a rule has opened more states than it has answered"

    def initial(self) -> FloatArray:
        """(state_width,) all states of a stream that has seen nothing, side by side."""
        return np.concatenate([value.reshape(-1) for value in self._initials])

    def copy(self, call: LayerCall, **changes: Any) -> Layer:
        key = id(call.layer), repr(sorted(changes.items()))
        if key not in self._copies:
            self._copies[key] = copy_layer(call.layer, self.name(call), plain(type(call.layer)), **changes)
        return self._copies[key]

    def report(self, call: LayerCall, name: str, form: str) -> None:
        states = tuple(spec for spec in self.specs if spec.layer == name)
        self.reports.append(LayerReport(name, call.kind, form, states))
