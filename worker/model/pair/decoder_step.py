"""A decoder [x, *states] → [y, *states after], as Keras saves it, turned into the streaming form of one step.

The rules of the layers do the work. They are told of each recurrent layer without its initial state, so that its states
become the streaming form's own; that these are the decoder's inputs and outputs, in which order, is found out here.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from worker.errors import ModelRefusedError, counted
from worker.model import layers  # noqa: F401  (every rule registers itself)
from worker.model.backend import keras
from worker.model.building import Building
from worker.model.explicit import ExplicitModel, refuse_unfinished
from worker.model.graph import LayerCall, Tensor, graph_of, tensors_in, walk
from worker.model.inputs import part_over_time
from worker.model.item_ports import refuse_waiting
from worker.model.layers.masking import carrying, mask_of
from worker.model.layers.naming import NamedOperations
from worker.model.pair.one_step import AS_INPUTS, AS_SAVED, AT_ZERO, STEP, as_it_is, is_step, not_after
from worker.model.ports import OutputPart
from worker.model.rules import Time, refuse
from worker.model.scopes import with_names_of_scopes

L = keras.layers


def step_of(decoder: Any, begins: frozenset[int] | None = None) -> ExplicitModel:
    """The streaming form; its states are the decoder's, in the order of its inputs.

    ``begins``: of a decoder that was derived, the numbers of the states that begin with something of the source. Its
    layers may then keep states of their own (a Conv1D along the target, say), which follow behind the decoder's. A
    decoder that was given is run step by step, so that they would begin anew with each item. Raises ModelRefusedError
    naming the layer that is in the way.
    """
    graph = graph_of(decoder)
    x, *states = graph.inputs
    if not states or len(graph.outputs) != len(states) + 1:
        raise ModelRefusedError(
            decoder.name,
            f"the decoder takes {counted(len(states), 'state')} beside its items and gives "
            f"{len(graph.outputs) - 1} beside its probabilities",
            AS_SAVED,
        )
    if begins is None and is_step(decoder):
        return as_it_is(decoder, graph)
    return _Stepping(decoder, graph, begins).build(x, states)


@dataclass
class _Stepping:
    """One walk through the decoder. ``begun``: state's number → its place in the streaming form."""

    decoder: Any
    graph: Any
    begins: frozenset[int] | None
    building: Building = field(default_factory=Building)
    _numbers: dict[int, int] = field(default_factory=dict)  # tensor that stands for a state → the state's number
    _begun: dict[int, int] = field(default_factory=dict)
    _after: dict[int, int] = field(default_factory=dict)  # tensor → place of the state that it is after the step
    _kept: list[Tensor] = field(default_factory=list)

    def build(self, source: Tensor, given: list[Tensor]) -> ExplicitModel:
        building, part = self.building, part_over_time(self.graph, source)
        x = keras.Input((1, *part.shape), dtype=source.dtype, name=building.unique(part.name, ()))
        building.mark(x, part.time)
        states = [keras.Input(tensor.shape[1:], dtype=tensor.dtype) for tensor in given]
        for number, tensor in enumerate(states):
            building.mark(tensor, Time.CONSTANT)
            self._numbers[id(tensor)] = number
        y, *after = walk(self.decoder, [x, *states], self.visit)
        refuse_waiting(self.decoder.name, building.counts)
        self._add_constant(states, given)
        self._check_after(given, after)
        building.put_in_order([*(self._begun[number] for number in range(len(states))), *self._own()])
        refuse_unfinished(self.decoder.name, [y], building)
        explicit = keras.Model([x, *building.before], [y, *building.after], name=f"{self.decoder.name}{STEP}")
        units = int(np.prod(y.shape[1:]))
        time = building.time(y)
        return ExplicitModel(
            keras_model=with_names_of_scopes(explicit),
            states=building.specs,
            layers=building.reports,
            inputs=[part],
            step_shape=part.shape,
            features=part.width,
            units=units,
            outputs=[OutputPart(self.graph.output_names[0], time, tuple(y.shape[1:])[-1:], slice(0, units))],
            initial=building.initial(),
        )

    def visit(self, call: LayerCall) -> Any:
        if isinstance(call.layer, L.Identity) and id(call.tensors[0]) in self._numbers:
            return call.tensors[0]
        if isinstance(call.layer, L.RNN):
            return self._recurrent(call)
        return self.building.visit(call)

    def _recurrent(self, call: LayerCall) -> Any:
        values = inspect.signature(call.layer.call).bind(*call.args, **call.kwargs).arguments
        x, mask, initial = values["sequences"], values.get("mask"), tensors_in(values.get("initial_state"))
        if not initial or any(id(tensor) not in self._numbers for tensor in initial):
            refuse(
                call,
                "its initial state is not an input of the decoder" if initial else AT_ZERO,
                AS_INPUTS,
            )
        carried = mask_of(x)
        if carried is not None and mask is None:  # with an initial state Keras doesn't look at the mask of the input
            x = NamedOperations(self.building, f"{call.layer.name}.unmasked").without_mask(x)
            self.building.mark(x, Time.EACH_STEP)
        kwargs = {"mask": mask} if mask is not None else {}
        kwargs |= {"training": True} if values.get("training") else {}
        first, numbers = len(self.building.specs), {self._numbers[id(tensor)] for tensor in initial}
        self.building.begins_elsewhere = bool(self.begins and numbers & self.begins)
        outputs = self.building.visit(replace(call, args=(x,), kwargs=kwargs, tensors=[x]))
        made = len(self.building.specs) - first
        assert made >= len(initial), f"{call.layer_path} keeps {made} states and is given {len(initial)}"
        for place, tensor in enumerate(initial):
            if self._begun.setdefault(self._numbers[id(tensor)], first + place) != first + place:
                refuse(call, f"its initial state '{tensor.name}' is that of another layer, too", AS_SAVED)
        return self._noted(call, outputs, first, carried if mask is None else None)

    def _noted(self, call: LayerCall, outputs: Any, first: int, mask: Tensor | None) -> Any:
        """The layer's outputs, its states among them known; with the mask that Keras attaches to them."""
        output, *after = outputs if call.layer.return_state else [outputs]
        for place, tensor in enumerate(keras.tree.flatten(after)):
            self._after[id(tensor)] = first + place
            self._kept.append(tensor)
        if mask is not None and call.layer.return_sequences:
            name = self.building.unique(f"{call.layer.name}.kept", ())
            output = self.building.mark(carrying(self.building, output, mask, name), Time.EACH_STEP)
        return (output, *after) if call.layer.return_state else output

    def _add_constant(self, states: list[Tensor], given: list[Tensor]) -> None:
        """States that no layer changes: what the decoder is told of the source at each step."""
        for number, (tensor, named) in enumerate(zip(states, given, strict=True)):
            if number not in self._begun:
                self._begun[number] = len(self.building.specs)
                self.building.constant(tensor, named.name)

    def _own(self) -> list[int]:
        """Places of the states that layers keep beside the decoder's."""
        begun = set(self._begun.values())
        own = [place for place in range(len(self.building.specs)) if place not in begun]
        if own and self.begins is None:
            raise ModelRefusedError(
                self.building.specs[own[0]].layer,
                "it looks at the items before, and a decoder that is given one item at a time begins it anew",
                "give the one model that was trained, from which the worker derives both",
            )
        return own

    def _check_after(self, given: list[Tensor], after: list[Tensor]) -> None:
        for number, (tensor, named) in enumerate(zip(after, given, strict=True)):
            kept = self._numbers.get(id(tensor)) == number
            if not kept and self._after.get(id(tensor)) != self._begun[number]:
                raise not_after(number + 1, named.name)
