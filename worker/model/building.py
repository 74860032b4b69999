"""What a walk through a model's graph collects: copies of the layers, states, marks and reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from worker.errors import ModelRefusedError
from worker.model.backend import keras
from worker.model.counting import STATE, EventCount
from worker.model.graph import Layer, LayerCall, Tensor, copy_layer, first_line
from worker.model.keras2_masks import plain
from worker.model.layers.masking import handed_on
from worker.model.layers.tails import where_each
from worker.model.layers.waiting import aligned
from worker.model.rules import Time, rule_for
from worker.model.share import Share
from worker.model.steps import PLAIN, Steps
from worker.model.unsettled import refuse_tails, refuse_windows
from worker.records.arrays import FloatArray
from worker.records.states import StateSpec


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What became of one layer: its name and kind, how it runs on a step, the states it has."""

    layer: str
    kind: str
    form: str
    states: tuple[StateSpec, ...] = ()


def table(reports: Sequence[LayerReport]) -> list[str]:
    """One line per layer."""
    rows = [
        (each.layer, each.kind, each.form, ", ".join(f"{state.name} {state.shape}" for state in each.states))
        for each in reports
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


@dataclass
class Building:
    """The streaming form while it is being built (``rules.StepBuilder``)."""

    memory: int | None = None
    remembered: dict[int, Tensor] = field(default_factory=dict)
    exact_steps: int | None = None
    last_step: int | None = None
    last_recurrent: str | None = None
    begins_elsewhere: bool = False
    now: Steps | None = PLAIN  # the steps of the call that is being visited; None where nothing runs over time
    specs: list[StateSpec] = field(default_factory=list)
    before: list[Tensor] = field(default_factory=list)
    after: list[Tensor] = field(default_factory=list)
    reports: list[LayerReport] = field(default_factory=list)
    _initials: list[FloatArray] = field(default_factory=list)
    _times: dict[int, Time] = field(default_factory=dict)
    _steps: dict[int, Steps | None] = field(default_factory=dict)
    _count: EventCount | None = None
    _rows: int = 0  # events that the states with rows look back
    _padding: dict[int, tuple[int, int]] = field(default_factory=dict)
    _padded_by: dict[int, str] = field(default_factory=dict)
    _present: dict[int, Tensor] = field(default_factory=dict)
    _shares: dict[int, Share] = field(default_factory=dict)
    _kept: list[Tensor] = field(default_factory=list)  # times are stored by id, so no tensor may be freed meanwhile
    _names: set[str] = field(default_factory=set)
    _copies: dict[tuple[int, str], Layer] = field(default_factory=dict)
    _call_name: tuple[LayerCall, str] | None = None

    def visit(self, call: LayerCall) -> Any:
        rule = rule_for(call, self)
        refuse_windows(call, self)
        refuse_tails(call, self)
        around = self.now
        call, self.now = aligned(call, self)
        try:
            return handed_on(call, self, rule(call, self))
        except ModelRefusedError:
            raise
        except Exception as error:  # whatever Keras raises when a layer does not fit one step
            raise ModelRefusedError(
                call.layer_path,
                f"{call.kind} can't run on one step ({first_line(error)})",
                "replace it by a layer that works on each step alone, and train again",
            ) from error
        finally:
            self.now = around

    def time(self, tensor: Tensor) -> Time:
        return self._times[id(tensor)]

    def steps(self, tensor: Tensor) -> Steps | None:
        return self._steps[id(tensor)]

    @property
    def count(self) -> EventCount:
        if self._count is None:
            self._count = EventCount(lambda name: self.unique(name, ()))
        return self._count

    @property
    def counts(self) -> bool:
        """Whether any layer makes fewer steps than there are events."""
        return self._count is not None

    def mark(self, outputs: Any, time: Time, steps: Steps | None = None) -> Any:
        for tensor in keras.tree.flatten(outputs):
            self._times[id(tensor)] = time
            self._steps[id(tensor)] = None if time is Time.CONSTANT else steps or self.now
            self._kept.append(tensor)
        return outputs

    def padding(self, tensor: Tensor) -> tuple[int, int]:
        known = self._padding.get(id(tensor))
        return known or (tensor.shape[1] - 1 if self.time(tensor) is Time.WINDOW else 0, 0)

    def mark_padded(self, output: Tensor, left: int, right: int, source: str) -> Tensor:
        self._padding[id(output)] = left, right
        self._padded_by[id(output)] = source
        return self.mark(output, Time.WINDOW)

    def padded_by(self, tensor: Tensor) -> str:
        return self._padded_by[id(tensor)]

    def share(self, tensor: Tensor) -> Share:
        return self._shares[id(tensor)]

    def mark_share(self, share: Share) -> Tensor:
        self._shares[id(share.now)] = share
        return self.mark(share.now, Time.SHARE)

    def present(self, tensor: Tensor) -> Tensor:
        return self._present[id(tensor)]

    def mark_remembered(self, tensor: Tensor, present: Tensor) -> Tensor:
        self._present[id(tensor)] = present
        return self.mark(tensor, Time.REMEMBERED)

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
        self._rows += shape[0] * (self.now or PLAIN).every if len(shape) == 2 or name == "inputs" else 0
        return self.mark(tensor, Time.SO_FAR)

    def exact_up_to(self, steps: int) -> None:
        events = self._events(steps)
        self.exact_steps = min(events, self.exact_steps or events)

    def ends_after(self, steps: int) -> None:
        events = self._events(steps)
        self.last_step = min(events, self.last_step or events)

    def _events(self, steps: int) -> int:
        """The longest sequences, in events, in which there are no more than so many steps at the layer at hand."""
        now = self.now or PLAIN
        return now.first + steps * now.every

    def answer(self, after: list[Tensor]) -> list[Tensor]:
        now = self.now or PLAIN
        if not now.plain:  # where no step has come, nothing changes
            before = self.before[len(self.after) :]
            after = where_each(self, self.count.arrived(now), after, before)
        self.after.extend(after)
        assert len(self.after) == len(self.before), "a rule has opened more states than it has answered"
        return after

    def constant(self, tensor: Tensor, name: str) -> None:
        """A state that no step changes: ``tensor``, an input, is what it is before and after."""
        self.specs.append(StateSpec(name, "constant", tuple(tensor.shape[1:]), tensor.dtype))
        self.before.append(tensor)
        self._initials.append(np.zeros(tensor.shape[1:]))
        self.after.append(tensor)

    def close(self) -> int:
        """Keep the count of events, if there is one. The events after which everything kept has been used."""
        if self._count is None:
            return self._rows
        self.now = PLAIN
        after = self._count.after()
        self.specs.append(StateSpec(self._count.layer, STATE, (1,), "float32"))
        self.before.append(self._count.before)
        self._initials.append(np.zeros(1))
        self.answer([after])
        self.add_report(self._count.layer, "count", "the number of the event, which says what comes when")
        return self._rows + self._count.repeats_after

    def put_in_order(self, places: Sequence[int]) -> None:
        """Each state to where ``places`` has its place until now."""
        assert sorted(places) == list(range(len(self.specs))), (places, self.specs)
        lists: tuple[list[Any], ...] = (self.specs, self.before, self.after, self._initials)
        for values in lists:
            values[:] = [values[place] for place in places]

    def initial(self) -> FloatArray:
        """(state_width,) all states of a stream that has seen nothing, side by side."""
        return np.concatenate([value.reshape(-1) for value in self._initials])

    def copy(self, call: LayerCall, **changes: Any) -> Layer:
        key = id(call.layer), repr(sorted(changes.items()))
        return self.once(key, lambda: copy_layer(call.layer, self.name(call), plain(type(call.layer)), **changes))

    def once(self, key: tuple[int, str], make: Callable[[], Layer]) -> Layer:
        if key not in self._copies:
            self._copies[key] = make()
        return self._copies[key]

    def report(self, call: LayerCall, name: str, form: str) -> None:
        self.add_report(name, call.kind, form)

    def add_report(self, name: str, kind: str, form: str) -> None:
        states = tuple(spec for spec in self.specs if spec.layer == name)
        self.reports.append(LayerReport(name, kind, form, states))
