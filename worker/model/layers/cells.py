"""One step of a recurrent layer: which states its cell carries, how they begin, and the cell's call on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.errors import ModelRefusedError
from worker.model.backend import keras
from worker.model.graph import LayerCall, Tensor, copy_layer, copy_weights, first_line
from worker.model.rules import StepBuilder, refuse
from worker.records.arrays import FloatArray

L = keras.layers

# In Keras' order. Of these cells the first state is the output, too, and begins at zero.
_KNOWN_STATES: dict[type, tuple[str, ...]] = {
    L.LSTMCell: ("h", "c"),
    L.GRUCell: ("h",),
    L.SimpleRNNCell: ("h",),
    keras.src.layers.rnn.conv_lstm.ConvLSTMCell: ("h", "c"),
}


@dataclass(frozen=True, slots=True)
class CellState:
    """One state of a cell: ``shape`` without the batch axis, ``initial`` of that shape."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    initial: FloatArray


@dataclass(frozen=True, slots=True)
class CellStates:
    """All states of a layer's cell, flat, and ``nested`` as the cell takes them.

    ``echo`` is the index of the state that is the output of the last step, too; None when no state is known to be.
    """

    flat: list[CellState]
    nested: Any
    echo: int | None

    def pack(self, tensors: list[Tensor]) -> Any:
        return keras.tree.pack_sequence_as(self.nested, tensors)


def states_of(call: LayerCall) -> CellStates:
    """The states as the trained layer makes them; refused when two streams would not begin alike."""
    layer = call.layer
    nested, others = _initial(call, 1), _initial(call, 2)
    dtype = layer.cell.compute_dtype
    names = _names(layer.cell, nested)
    flat = []
    for name, one, two in zip(names, keras.tree.flatten(nested), keras.tree.flatten(others), strict=True):
        rows, pair = (np.asarray(keras.ops.convert_to_numpy(value), np.float64) for value in (one, two))
        if rows.shape[:1] != (1,) or pair.shape != (2, *rows.shape[1:]) or not np.array_equal(pair, rows[[0, 0]]):
            refuse(
                call,
                "the initial state of its cell is drawn at random or depends on the batch",
                "let get_initial_state of the cell give each row the same values in every call",
            )
        flat.append(CellState(name, rows.shape[1:], dtype, rows[0]))
    if layer.stateful and any(state.initial.any() for state in flat):
        refuse(
            call,
            "with stateful=True Keras begins at the cell's initial state once, and at zero after a reset",
            "build it with stateful=False: the worker keeps the states",
        )
    return CellStates(flat, nested, _echo(layer.cell, names))


def _initial(call: LayerCall, batch: int) -> list[Any]:
    try:
        return list(call.layer.get_initial_state(batch_size=batch))
    except Exception as error:  # whatever a cell's own Python code may raise
        raise ModelRefusedError(
            call.layer_path,
            f"the initial state of its cell can't be computed ({first_line(error)})",
            "let get_initial_state of the cell take batch_size, a number",
        ) from error


def _names(cell: Any, nested: Any) -> list[str]:
    if type(cell) is L.StackedRNNCells:
        return [
            f"{index}.{name}"
            for index, (inner, states) in enumerate(zip(cell.cells, nested, strict=True))
            for name in _names(inner, states)
        ]
    count = len(keras.tree.flatten(nested))
    known = _KNOWN_STATES.get(type(cell), ("h",))
    return list(known) if len(known) == count else [str(number) for number in range(count)]


def _echo(cell: Any, names: list[str]) -> int | None:
    if type(cell) is not L.StackedRNNCells:
        return 0 if type(cell) in _KNOWN_STATES else None
    last = cell.cells[-1]
    return len(names) - len(_KNOWN_STATES[type(last)]) if type(last) in _KNOWN_STATES else None


def one_step(call: LayerCall, builder: StepBuilder, x: Tensor, states: Any) -> tuple[Tensor, list[Tensor]]:
    """x (batch, 1, …), nested states → output as the layer returns it, states after, flat, as the cell returns them."""
    layer = call.layer
    if type(layer) is L.RNN and isinstance(layer.cell, keras.Layer):
        return _by_cell(call, builder, x, states)
    copy = builder.copy(call, stateful=False, unroll=True, return_state=True)
    output, *after = copy(x, initial_state=states)
    copy_weights(layer, copy)
    return output, keras.tree.flatten(after)


def _by_cell(call: LayerCall, builder: StepBuilder, x: Tensor, states: Any) -> tuple[Tensor, list[Tensor]]:
    """The cell itself: Keras' RNN reports wrong shapes for nested states, and rounds states to its own dtype, which may
    be less exact than the cell's.
    """
    layer = call.layer
    try:
        name = builder.name(call)
        cell = builder.once((id(layer.cell), name), lambda: copy_layer(layer.cell, name))
    except ModelRefusedError as refusal:  # users know the layer by its name, hardly its cell
        raise ModelRefusedError(call.layer_path, refusal.why, refusal.instead) from refusal
    if not cell.built:
        cell.build((x.shape[0], *x.shape[2:]))  # as RNN does it
        cell.built = True
    now = keras.ops.cast(x[:, 0], layer.compute_dtype)
    training = {"training": False} if cell._call_has_training_arg else {}
    output, after = cell(now, tuple(states), **training)
    copy_weights(layer.cell, cell)
    output = keras.ops.cast(output, layer.compute_dtype)
    return (keras.ops.expand_dims(output, 1) if layer.return_sequences else output), keras.tree.flatten(after)
