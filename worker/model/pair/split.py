"""One walk through the trained model in which each layer's copy is called in the encoder or in the decoder.

Where a layer of the decoder takes a tensor of the encoder, the graph is cut: tensors that recurrent layers take as
initial states become states, others, if they have no time axis, are states that stay as they are.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

from worker.errors import counted
from worker.model.backend import keras
from worker.model.graph import Layer, LayerCall, Tensor, copy_layer, copy_weights, tensors_in, walk
from worker.model.inputs import ids_of_input
from worker.model.keras2_masks import looks_at_its_mask
from worker.model.layers.cells import CellState, states_of
from worker.model.layers.masking import mask_of
from worker.model.pair.constants import always
from worker.model.proof.any_length import open_changes
from worker.model.rules import refuse
from worker.records.arrays import FloatArray

L = keras.layers


@dataclass
class State:
    """One state of the decoder: what it begins with in the encoder, or ``initial`` where that is a constant."""

    taker: str
    tensor: Tensor
    begins: Tensor | None
    initial: FloatArray | None = None
    after: Tensor | None = None


@dataclass
class Split:
    """One walk through the trained model in which each layer's copy is called in the encoder or in the decoder."""

    graph: Any
    target: int
    any_length: bool = False  # no layer is bound to the batch size or the lengths of training
    begins_with_the_source: bool = False
    _states: list[State] = field(default_factory=list)
    _constant: dict[int, State] = field(default_factory=dict)
    _repeated: dict[int, Tensor] = field(default_factory=dict)  # tensor of the encoder → what it is in the decoder
    _decoder_tensors: set[int] = field(default_factory=set)
    _kept: list[Tensor] = field(default_factory=list)  # tensors are known by their ids: none may be freed meanwhile
    _copies: dict[tuple[int, str], Layer] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    def run(self, model: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Walk; the inputs source and target of the two graphs, and the model's output."""
        inputs = [
            keras.Input(batch_shape=self._shape(x), dtype=x.dtype, name=self._unique(x.name)) for x in self.graph.inputs
        ]
        self._mark(inputs[self.target])
        (y,) = walk(model, inputs, self.visit)
        for state in self._constant.values():
            name = self._unique(f"{state.tensor.name}.kept")
            state.after = L.Identity(name=name, dtype=state.tensor.dtype)(state.tensor)
        return inputs[1 - self.target], inputs[self.target], y

    def _shape(self, tensor: Tensor) -> tuple[int | None, ...]:
        """Of an input: open as far as the layers take any batch and any length."""
        over_time = len(tensor.shape) > 2 or ids_of_input(self.graph, tensor) is not None
        return (None, None, *tensor.shape[2:]) if self.any_length and over_time else tuple(tensor.shape)

    @property
    def states(self) -> list[State]:
        """Of the decoder, in its order."""
        return [*self._states, *self._constant.values()]

    def decodes(self, tensor: Tensor) -> bool:
        """Whether it depends on the target."""
        return id(tensor) in self._decoder_tensors

    def first_states(self) -> list[Tensor]:
        """What the encoder gives for each state."""
        begins = next(state.begins for state in self.states if state.begins is not None)
        return [state.begins if state.begins is not None else self._always(state, begins) for state in self.states]

    def _always(self, state: State, anything: Tensor) -> Tensor:
        assert state.initial is not None, "neither the source nor a constant begins it"
        return always(state.initial, anything, state.tensor.dtype, self._unique(f"{state.tensor.name}.first"))

    def visit(self, call: LayerCall) -> Any:
        repeats = isinstance(call.layer, L.RepeatVector)  # a context for each step of the decoder
        if not repeats and not any(self.decodes(tensor) for tensor in tensors_in((call.args, call.kwargs))):
            return self._call(call, "encoder", call.args, call.kwargs)
        if isinstance(call.layer, L.RNN):
            return self._recurrent(call)
        args, kwargs = keras.tree.map_structure(
            lambda value: self._constant_of(call, value) if isinstance(value, keras.KerasTensor) else value,
            (call.args, call.kwargs),
        )
        return self._mark(self._call(call, "decoder", args, kwargs))

    def _recurrent(self, call: LayerCall) -> Any:
        """Its states become inputs and outputs of the decoder."""
        values = inspect.signature(call.layer.call).bind(*call.args, **call.kwargs).arguments
        x, mask, initial = values["sequences"], values.get("mask"), tensors_in(values.get("initial_state"))
        given = [value for value in keras.tree.flatten(values.get("initial_state")) if value is not None]
        if len(given) != len(initial):
            refuse(call, "its initial state is an array that is part of the graph", "make it an input of the model")
        _check_begin(call, [tensor for tensor in initial if self.decodes(tensor)], x)
        self.begins_with_the_source |= bool(initial)
        if not self.decodes(x):
            refuse_whole_source(call)
        cells = states_of(call)
        _check_shapes(call, initial, cells.flat)
        states = [
            self._state(call, cell, tensor)
            for cell, tensor in zip(cells.flat, initial or [None] * len(cells.flat), strict=True)
        ]
        if mask is None and initial and looks_at_its_mask(call.layer):  # as Keras 2, in which it was trained, does it
            mask = mask_of(x)
        kwargs = {"initial_state": cells.pack([state.tensor for state in states])}
        kwargs |= {} if mask is None else {"mask": mask}
        if values.get("training"):
            kwargs["training"] = True  # refused where it is made a step
        output, *after = self._call(call, "decoder", (x,), kwargs, return_state=True)
        for state, tensor in zip(states, keras.tree.flatten(after), strict=True):
            state.after = tensor
        outputs = (output, *after) if call.layer.return_state else output
        return self._mark(outputs)

    def _state(self, call: LayerCall, cell: CellState, begins: Tensor | None) -> State:
        name = self._unique(f"{call.layer.name}.{cell.name}")
        batch = self._shape(self.graph.inputs[self.target])[0]
        tensor = keras.Input(batch_shape=(batch, *cell.shape), dtype=cell.dtype, name=name)
        state = State(call.layer_path, self._mark(tensor), begins, cell.initial)
        self._states.append(state)
        return state

    def _constant_of(self, call: LayerCall, value: Tensor) -> Tensor:
        """What the decoder takes of the encoder at each step: a state that stays as it is."""
        if self.decodes(value):
            return value
        if self._one_for_all(value):  # spread over all steps: as a vector that is repeated
            name = f"{call.layer.name}.source"
            if id(value) not in self._repeated:
                flat = L.Reshape((value.shape[2],), name=self._unique(f"{name}.flat"), dtype=value.dtype)(value)
                repeat = L.RepeatVector(1, name=self._unique(f"{name}.repeat"), dtype=value.dtype)
                self._repeated[id(value)] = self._mark(repeat(self._constant_of(call, flat)))
                self._kept.append(value)
            return self._repeated[id(value)]
        if len(value.shape) != 2 or value.shape[1] is None or value.dtype == "bool":
            refuse_whole_source(call)
        if id(value) not in self._constant:
            name = self._unique(f"{call.layer.name}.source")
            tensor = keras.Input(batch_shape=value.shape, dtype=value.dtype, name=name)
            self._constant[id(value)] = State(call.layer_path, self._mark(tensor), value)
            self._kept.append(value)
        return self._constant[id(value)].tensor

    def _one_for_all(self, value: Tensor) -> bool:
        """Whether it is (batch, 1, n) and not a source of one item."""
        one = len(value.shape) == 3 and value.shape[1] == 1 and value.shape[2] is not None
        return one and value.dtype != "bool" and self.graph.inputs[1 - self.target].shape[1] != 1

    def _call(self, call: LayerCall, side: str, args: Any, kwargs: Any, **changes: Any) -> Any:
        key = id(call.layer), side
        if isinstance(call.layer, (L.RNN, L.Bidirectional)):
            changes |= open_changes(call)
        if key not in self._copies:
            self._copies[key] = copy_layer(call.layer, self._unique(call.layer.name), **changes)
        outputs = self._copies[key](*args, **kwargs)
        copy_weights(call.layer, self._copies[key])
        return outputs

    def _mark(self, outputs: Any) -> Any:
        for tensor in tensors_in(outputs):
            self._decoder_tensors.add(id(tensor))
            self._kept.append(tensor)
        return outputs

    def _unique(self, name: str) -> str:
        chosen, number = name, 2
        while chosen in self._names:
            chosen, number = f"{name}.{number}", number + 1
        self._names.add(chosen)
        return chosen


def _check_begin(call: LayerCall, late: list[Tensor], x: Tensor) -> None:
    if late:
        refuse(
            call,
            "its initial state depends on the target, so it is known only once the whole target is",
            "let it begin with the encoder's last states, or at zero, and train again",
        )


def _check_shapes(call: LayerCall, initial: list[Tensor], cells: list[CellState]) -> None:
    given, wanted = [tuple(tensor.shape[1:]) for tensor in initial], [cell.shape for cell in cells]
    if initial and given != wanted:
        refuse(
            call,
            f"it is given {counted(len(given), 'initial state')} {given} and has {len(wanted)} {wanted}",
            "give one tensor for each state, as wide as it, and train again",
        )


def refuse_whole_source(call: LayerCall) -> None:
    """The layer of the decoder that takes the encoder's output of each step: attention, most often."""
    refuse(
        call,
        f"{call.kind} looks at every step of the source while the target is written, and a decoder on streams begins "
        "with the encoder's last states alone",
        "remove it, give the decoder's recurrent layer those states, initial_state=[h, c], and train again",
    )
