"""Recurrent layers of every kind: cells, stacks of cells, masks, initial states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.models import F, sequential, shaken
from worker.model.backend import keras

L = keras.layers
IDS = 9  # of an Embedding
registered = keras.saving.register_keras_serializable("tests.zoo.recurrent")


@registered
class Minimal(keras.layers.Layer):
    """One state that is the output, and no get_initial_state: Keras begins at zeros."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = self.state_size = units

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(self.units, self.units), name="recurrent_kernel")

    def call(self, inputs: Any, states: Any) -> Any:
        output = keras.ops.tanh(inputs @ self.kernel + states[0] @ self.recurrent_kernel)
        return output, [output]

    def get_config(self) -> Any:
        return {**super().get_config(), "units": self.units}


@registered
class Learned(Minimal):
    """Begins at a learned state."""

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.first = self.add_weight(shape=(self.units,), name="first")

    def get_initial_state(self, batch_size: Any = None) -> Any:
        return [keras.ops.tile(keras.ops.convert_to_tensor(self.first)[None], (batch_size, 1))]


@registered
class Accumulator(keras.layers.Layer):
    """Three states of several shapes, one of them a matrix that begins at one; the output is none of them."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.state_size = [units, 1, units]
        self.output_size = units + 1

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")

    def get_initial_state(self, batch_size: Any = None) -> Any:
        zeros, ones = keras.ops.zeros, keras.ops.ones
        sizes = (batch_size, self.units), (batch_size, 1), (batch_size, 2, self.units)
        return [zeros(sizes[0], self.compute_dtype), zeros(sizes[1], self.compute_dtype), ones(sizes[2], "float32")]

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        mean, count, rows = states
        new = inputs @ self.kernel
        count = count + 1
        mean = mean + (new - mean) / count
        rows = 0.5 * rows + keras.ops.stack([new, mean], axis=1)
        dropped = keras.random.dropout(mean, 0.5) if training else mean
        return keras.ops.concatenate([dropped * keras.ops.sum(rows, axis=1), 1 / count], axis=-1), [mean, count, rows]

    def get_config(self) -> Any:
        return {**super().get_config(), "units": self.units}


@registered
class Plain:
    """A cell that is no layer: half of what was, and the input."""

    compute_dtype = "float32"

    def __init__(self, state_size: int) -> None:
        self.state_size = state_size

    def __call__(self, inputs: Any, states: Any) -> Any:
        return self.call(inputs, states)

    def call(self, inputs: Any, states: Any) -> Any:
        output = states[0] * 0.5 + inputs
        return output + 1, [output]

    def get_config(self) -> Any:
        return {"state_size": self.state_size}

    @classmethod
    def from_config(cls, config: Any) -> Plain:
        return cls(**config)


@registered
class Dropping(keras.layers.LSTMCell):
    """Of another kind than LSTMCell only by its class: what it does is not known."""

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        output, states = super().call(inputs, states, training=training)
        return output * 0.5, states


@registered
class Residual(keras.layers.Layer):
    """A cell around a cell: adds the input to its output."""

    def __init__(self, cell: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cell = cell
        self.state_size = cell.state_size
        self.output_size = cell.units

    def build(self, input_shape: Any) -> None:
        if not self.cell.built:  # a cell made from its configuration is built already
            self.cell.build(input_shape)

    def get_initial_state(self, batch_size: Any = None) -> Any:
        return self.cell.get_initial_state(batch_size)

    def call(self, inputs: Any, states: Any, training: Any = None) -> Any:
        output, states = self.cell(inputs, states, training=training)
        return output + inputs, states

    def get_config(self) -> Any:
        return {**super().get_config(), "cell": keras.saving.serialize_keras_object(self.cell)}

    @classmethod
    def from_config(cls, config: Any) -> Residual:
        return cls(keras.saving.deserialize_keras_object(config.pop("cell")), **config)


@registered
class OwnLSTM(keras.layers.LSTM):
    """A subclass may compute anything."""


@registered
class Drawing(Minimal):
    def get_initial_state(self, batch_size: Any = None) -> Any:
        return [keras.random.normal((batch_size, self.units))]


@registered
class Counting(Minimal):
    def get_initial_state(self, batch_size: Any = None) -> Any:
        return [keras.ops.ones((batch_size, self.units)) * batch_size]


@registered
class Growing(Minimal):
    """Returns a state of another shape than it takes."""

    def call(self, inputs: Any, states: Any) -> Any:
        output, _ = super().call(inputs, [states[0][:, : self.units]])
        return output, [keras.ops.concatenate([output, output], axis=-1)]


def masked(*layers: Any, **kwargs: Any) -> Any:
    return sequential(L.Masking(), *layers, **kwargs)


def ids(*layers: Any, length: int | None = None, width: int = 3) -> Any:
    return shaken(keras.Sequential([keras.Input((length,)), L.Embedding(IDS, width, mask_zero=True), *layers]))


def functional(make: Callable[[Any], Any], *shape: int | None) -> Callable[[], Any]:
    """A model of one input (batch, time, F), or of the given shape."""

    def build() -> Any:
        x = keras.Input(shape or (None, F))
        return shaken(keras.Model(x, make(x)))

    return build


def _states_of_a_stack(x: Any) -> Any:
    cells = [L.LSTMCell(4), L.GRUCell(3), Minimal(2)]
    output, first, second, third = L.RNN(cells, return_sequences=True, return_state=True)(x)
    states = [*keras.tree.flatten(first), *keras.tree.flatten(second), *keras.tree.flatten(third)]
    return L.Dense(2)(L.Concatenate()([output[:, -1], *states]))


def _nested(x: Any) -> Any:
    inner = keras.Sequential(
        [keras.Input((None, F)), L.RNN([L.GRUCell(3), Learned(4)], return_sequences=True, name="rnn")], name="inner"
    )
    return L.RNN(Accumulator(2), name="rnn")(inner(x))


def _shared(x: Any) -> Any:
    layer = L.RNN(Learned(F), return_sequences=True)
    return L.Dense(2)(layer(layer(x)))


def _mask_in_the_graph(x: Any) -> Any:
    """The mask as an argument: operations of the graph."""
    embedding = L.Embedding(IDS, 4, mask_zero=True)
    y = L.LSTM(4, return_sequences=True)(embedding(x), mask=embedding.compute_mask(x))
    return L.Dense(2)(L.GRU(3)(L.Dropout(0.3)(y), mask=keras.ops.not_equal(x, 3)))


def _mask_by_any(x: Any) -> Any:
    mask = keras.ops.any(keras.ops.not_equal(x, 0.0), axis=-1)
    return L.LSTM(4)(L.Dense(5)(x), mask=mask)


def _mask_as_input() -> Any:
    x, mask = keras.Input((None, F), name="x"), keras.Input((None,), dtype="bool", name="counts")
    y = L.GRU(4, return_sequences=True)(x, mask=mask)
    return shaken(keras.Model([x, mask], L.Dense(2)(L.LSTM(3)(y))))


def _merged(merge: Callable[[], Any]) -> Callable[[Any], Any]:
    """Branches with masks of their own, merged, and a recurrent layer that sees what masks come out of that."""

    def make(x: Any) -> Any:
        a = L.GRU(3, return_sequences=True)(L.Masking()(x))
        b = L.LSTM(3, return_sequences=True)(L.Masking(mask_value=1.0)(x))
        c = L.Dense(3, activation="tanh")(x)
        joined = L.LSTM(4, return_sequences=True)(merge()([a, b]))
        return L.GRU(3)(merge()([joined, c]) if isinstance(merge(), L.Concatenate) else joined)

    return make


def _distributed(x: Any) -> Any:
    x = L.Masking()(x)
    a = L.TimeDistributed(L.Dense(3))(L.GRU(4, return_sequences=True)(x))
    return L.LSTM(3)(L.Add()([a, x]))


def _mask_of_frames() -> Any:
    frames, mask = keras.Input((None, 5, 2), name="frames"), keras.Input((None,), dtype="bool", name="counts")
    y = L.ConvLSTM1D(2, 2, return_sequences=True)(frames, mask=mask)
    return shaken(keras.Model([frames, mask], L.Flatten()(L.ConvLSTM1D(3, 2)(y))))


def _nested_masked(x: Any) -> Any:
    """The mask goes into a nested model and out of it."""
    inner = keras.Sequential([keras.Input((None, F)), L.Dense(4), L.GRU(4, return_sequences=True)], name="inner")
    branches = keras.Input((None, 4))
    outer = keras.Model(branches, L.Add()([L.LSTM(4, return_sequences=True)(branches), branches]), name="outer")
    return L.LSTM(3)(outer(inner(L.Masking()(x))))


def _masked_with_states(x: Any) -> Any:
    """return_state keeps the mask on the output; a layer that is given states does not look at it."""
    y, h, c = L.LSTM(4, return_sequences=True, return_state=True)(L.Masking()(x))
    z, state = L.GRU(3, return_state=True)(y)
    return L.Dense(2)(L.Concatenate()([h, c, z, state]))


def begun(layer: Callable[[], Any], states: int, mask: bool = False, width: int = 4) -> Callable[[], Any]:
    """What is known of a stream sets the state that its sequence begins with."""

    def make() -> Any:
        x, known = keras.Input((None, F), name="x"), keras.Input((2,), name="known")
        given = [L.Dense(width, activation="tanh")(known) for _ in range(states)]
        over = {"mask": keras.ops.any(keras.ops.not_equal(x, 0.0), axis=-1)} if mask else {}
        return shaken(keras.Model([x, known], L.Dense(2)(layer()(x, initial_state=given, **over))))

    return make


def _begun_behind_a_mask() -> Any:
    """The layer that is given a state ignores the mask, but hands it on."""
    x, known = keras.Input((None, F), name="x"), keras.Input((2,), name="known")
    y = L.GRU(4, return_sequences=True)(L.Masking()(x), initial_state=L.Dense(4)(known))
    return shaken(keras.Model([x, known], L.LSTM(3)(y)))


def _begun_stack() -> Any:
    x, known = keras.Input((None, F), name="x"), keras.Input((2,), name="known")
    h, c, g = (L.Dense(4)(known) for _ in range(3))
    y = L.RNN([L.LSTMCell(4), L.GRUCell(4)])(x, initial_state=[[h, c], [g]])
    return shaken(keras.Model([x, known], L.Dense(1)(y)))


def _mask_into_a_nested_model() -> Any:
    inner = keras.Sequential([keras.Input((None, F)), L.GRU(3, return_sequences=True)], name="inner")
    x, mask = keras.Input((None, F), name="x"), keras.Input((None,), dtype="bool", name="counts")
    return shaken(keras.Model([x, mask], L.LSTM(2)(inner(x, mask=mask))))


def _masks_in_other_forms() -> Any:
    """By place, with an axis of its own, and as numbers."""
    x, column = keras.Input((None, F), name="x"), keras.Input((None, 1), name="counts")
    y = L.GRU(3, return_sequences=True)(x, None, column > 0)
    return shaken(keras.Model([x, column], L.SimpleRNN(2)(y, mask=column)))


def _two_embeddings() -> Any:
    """A step counts when both ids do."""
    one, two = keras.Input((None,), dtype="int32", name="one"), keras.Input((None,), dtype="int32", name="two")
    both = [L.Embedding(5, 3, mask_zero=True)(one), L.Embedding(6, 2, mask_zero=True)(two)]
    y = L.LSTM(4, return_sequences=True)(L.Concatenate()(both))
    return shaken(keras.Model([one, two], L.Dense(2)(y)))


def _begun_frames() -> Any:
    frames, known = keras.Input((None, 5, 2), name="frames"), keras.Input((3,), name="known")
    first = L.Reshape((4, 3))(L.Dense(12)(known))
    y = L.ConvLSTM1D(3, 2)(frames, initial_state=[first, first])
    return shaken(keras.Model([frames, known], L.Flatten()(y)))


def _frames(*layers: Any, shape: tuple[int, ...]) -> Any:
    return shaken(keras.Sequential([keras.Input((None, *shape)), *layers]))


ZOO: dict[str, Callable[[], Any]] = {
    "cell, lstm": lambda: sequential(L.RNN(L.LSTMCell(4)), L.Dense(2)),
    "cell, gru, dropout": lambda: sequential(
        L.RNN(L.GRUCell(4, dropout=0.3, recurrent_dropout=0.2, reset_after=False), return_sequences=True), L.Dense(2)
    ),
    "cell, simple, unrolled": lambda: sequential(L.RNN(L.SimpleRNNCell(4, use_bias=False), unroll=True), length=6),
    "cells of three kinds": lambda: sequential(
        L.RNN([L.LSTMCell(4), L.GRUCell(3), L.SimpleRNNCell(5)], return_sequences=True), L.Dense(2)
    ),
    "stack of cells": lambda: sequential(L.RNN(L.StackedRNNCells([L.GRUCell(4), L.LSTMCell(3)])), L.Dense(2)),
    "stack of one cell": lambda: sequential(L.RNN([L.LSTMCell(4)])),
    "stack of known and custom cells": lambda: sequential(
        L.RNN([L.GRUCell(4), Accumulator(3), Minimal(2), L.LSTMCell(3)], return_sequences=True), L.Dense(2)
    ),
    "stack in a stack": lambda: sequential(
        L.RNN([L.GRUCell(3), L.StackedRNNCells([L.LSTMCell(2), Minimal(4)])], return_sequences=True)
    ),
    "states of a stack": functional(_states_of_a_stack),
    "custom cell": lambda: sequential(L.RNN(Minimal(4), return_sequences=True), L.RNN(Minimal(3))),
    "custom cell with learned state": lambda: sequential(L.RNN(Learned(4)), L.Dense(2)),
    "custom cell with three states": lambda: sequential(L.RNN(Accumulator(3), return_sequences=True), L.Dense(2)),
    "cell that is no layer": lambda: sequential(L.RNN(Plain(F)), L.Dense(2)),
    "cell of a subclass": lambda: masked(L.RNN(Dropping(4), return_sequences=True), L.Dense(2)),
    "cell around a cell": lambda: masked(
        L.RNN(Residual(L.LSTMCell(F, dropout=0.3)), return_sequences=True), L.RNN([Residual(L.GRUCell(F)), Minimal(2)])
    ),
    "cells in nested models": functional(_nested),
    "shared custom cell": functional(_shared),
    "stateful cells": lambda: sequential(
        L.RNN([L.GRUCell(4), L.LSTMCell(3)], stateful=True, return_sequences=True),
        L.RNN(Minimal(3), stateful=True),
        L.Dense(1),
        batch=4,
        length=5,
    ),
    "masked": lambda: masked(L.LSTM(4, return_sequences=True), L.GRU(3, return_sequences=True), L.SimpleRNN(3)),
    "masked, over time": lambda: masked(
        L.GRU(4, return_sequences=True), L.Dropout(0.3), L.LSTM(3, return_sequences=True)
    ),
    "masked, unrolled": lambda: masked(L.LSTM(4, return_sequences=True, unroll=True), L.GRU(3, unroll=True), length=7),
    "masked, stateful": lambda: masked(L.LSTM(4, stateful=True), L.Dense(1), length=5, batch=4),
    "masked at another value": lambda: sequential(L.Masking(-1.0), L.LSTM(4, return_sequences=True), L.Dense(2)),
    "masked after a layer": lambda: sequential(L.Dense(4), L.ReLU(), L.Masking(), L.LSTM(4)),
    "masked ids": lambda: ids(L.LSTM(4, return_sequences=True), L.LSTM(3), L.Dense(2)),
    "masked ids, fixed length": lambda: ids(L.GRU(4, return_sequences=True), L.Dense(2), length=6),
    "masked cells": lambda: masked(L.RNN([L.LSTMCell(4), L.GRUCell(3)], return_sequences=True), L.GRU(2)),
    "masked cells of custom kinds": lambda: masked(
        L.RNN([L.GRUCell(3), Accumulator(3)], return_sequences=True), L.RNN(Learned(3))
    ),
    "masked custom cell": lambda: masked(L.RNN(Accumulator(3)), L.Dense(2)),
    "masked cell that is no layer": lambda: masked(L.RNN(Plain(F), return_sequences=True), L.LSTM(2)),
    "zeros in masked steps": lambda: masked(L.LSTM(4, return_sequences=True, zero_output_for_mask=True), L.Dense(2)),
    "zeros after a masked step": lambda: masked(L.RNN(Accumulator(3), zero_output_for_mask=True)),
    "masked between per-step layers": lambda: masked(
        L.Dense(4, activation="tanh"),
        L.LayerNormalization(),
        L.GRU(4, return_sequences=True),
        L.BatchNormalization(),
        L.LeakyReLU(),
        L.TimeDistributed(L.Dense(3)),
        L.LSTM(3),
    ),
    "masked and states returned": functional(_masked_with_states),
    "mask as an argument": functional(_mask_in_the_graph, None),
    "mask by any": functional(_mask_by_any),
    "mask as an input": _mask_as_input,
    "mask into a nested model": _mask_into_a_nested_model,
    "masks in other forms": _masks_in_other_forms,
    "masks of two embeddings": _two_embeddings,
    "masked, added": functional(_merged(L.Add)),
    "masked, multiplied": functional(_merged(L.Multiply)),
    "masked, averaged": functional(_merged(L.Average)),
    "masked, greatest": functional(_merged(L.Maximum)),
    "masked, joined": functional(_merged(L.Concatenate)),
    "masked, distributed and added": functional(_distributed),
    "masked frames": _mask_of_frames,
    "masked nested models": functional(_nested_masked),
    "begun by a constant": begun(lambda: L.LSTM(4), 2),
    "begun by a constant, over time": begun(lambda: L.GRU(4, return_sequences=True), 1),
    "begun custom cell": begun(lambda: L.RNN(Learned(4)), 1),
    "begun and masked": begun(lambda: L.LSTM(4, return_sequences=True), 2, mask=True),
    "begun behind a mask": _begun_behind_a_mask,
    "begun stack": _begun_stack,
    "begun frames": _begun_frames,
    "convolutional, one axis": lambda: _frames(
        L.ConvLSTM1D(3, 2, return_sequences=True), L.ConvLSTM1D(2, 2, padding="same"), L.Flatten(), shape=(5, 2)
    ),
    "convolutional, two axes": lambda: _frames(L.ConvLSTM2D(2, 2, strides=2), L.Flatten(), L.Dense(1), shape=(4, 5, 1)),
    "convolutional, three axes": lambda: _frames(L.ConvLSTM3D(1, 2), L.Flatten(), L.Dense(1), shape=(2, 3, 2, 1)),
    "activations of other kinds": lambda: sequential(
        L.LSTM(4, activation="relu", recurrent_activation="hard_sigmoid", implementation=1, return_sequences=True),
        L.GRU(3, activation="softsign", use_bias=False, implementation=2, return_sequences=True),
        L.SimpleRNN(3, activation="linear"),
    ),
    "float64 cells": lambda: sequential(
        L.RNN(
            L.StackedRNNCells([L.LSTMCell(3, dtype="float64"), L.GRUCell(3, dtype="float64")], dtype="float64"),
            dtype="float64",
        )
    ),
}

REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "subclass of a layer": (lambda: sequential(OwnLSTM(3, name="culprit")), "culprit", "subclass of LSTM"),
    "random initial state": (lambda: sequential(L.RNN(Drawing(3), name="culprit")), "culprit", "random"),
    "initial state by the batch": (lambda: sequential(L.RNN(Counting(3), name="culprit")), "culprit", "batch"),
    "stateful with learned state": (
        lambda: sequential(L.RNN(Learned(3), stateful=True, name="culprit"), batch=2),
        "culprit",
        "stateful",
    ),
    "cells backwards": (
        lambda: sequential(L.RNN([L.GRUCell(3)], go_backwards=True, name="culprit")),
        "culprit",
        "go_backwards",
    ),
    "masked rows of frames": (  # the mask says which rows count, not which steps
        lambda: _frames(L.Masking(), L.ConvLSTM1D(2, 2, name="culprit"), L.Flatten(), shape=(5, 2)),
        "culprit",
        "per step",
    ),
    "convolutional backwards": (
        lambda: _frames(L.ConvLSTM1D(2, 2, go_backwards=True, name="culprit"), L.Flatten(), shape=(5, 2)),
        "culprit",
        "go_backwards",
    ),
    "masked bidirectional": (lambda: masked(L.Bidirectional(L.LSTM(2), name="culprit")), "culprit", "not arrived"),
    "cells always dropping": (
        functional(lambda x: L.RNN(L.GRUCell(3, dropout=0.5), name="culprit")(x, training=True)),
        "culprit",
        "training=True",
    ),
    "masking without features": (
        lambda: shaken(keras.Sequential([keras.Input((4,)), L.Masking(name="culprit"), L.Embedding(3, 2), L.GRU(2)])),
        "culprit",
        "feature axis",
    ),
    "any over time": (
        functional(lambda x: L.GRU(3)(x * keras.ops.cast(keras.ops.any(x > 0, axis=1, keepdims=True), "float32"))),
        "any",
        "time",
    ),
    "stack of another dtype than its cells": (  # nor can Keras run it, but eagerly
        lambda: sequential(L.RNN([L.LSTMCell(3, dtype="float64")], dtype="float64", name="culprit")),
        "culprit",
        "float64",
    ),
    "state of another shape": (lambda: sequential(L.RNN(Growing(3), name="culprit")), "culprit", "returns"),
    "begun by a state over time": (
        functional(lambda x: L.GRU(3, name="culprit")(x, initial_state=L.GRU(3)(x))),
        "culprit",
        "initial state",
    ),
}
