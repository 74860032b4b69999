"""Recurrent layers of every kind: cells, stacks of cells, initial states, convolutional ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.models import F, sequential, shaken
from tests.zoo.cells import Accumulator, Counting, Drawing, Growing, Learned, Minimal, OwnLSTM, Plain
from worker.model.backend import keras

L = keras.layers


def functional(make: Callable[[Any], Any], *shape: int | None) -> Callable[[], Any]:
    """A model of one input (batch, time, F), or of the given shape."""

    def build() -> Any:
        x = keras.Input(shape or (None, F))
        return shaken(keras.Model(x, make(x)))

    return build


def frames(*layers: Any, shape: tuple[int, ...]) -> Any:
    return shaken(keras.Sequential([keras.Input((None, *shape)), *layers]))


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


def begun(layer: Callable[[], Any], states: int, mask: bool = False, width: int = 4) -> Callable[[], Any]:
    """What is known of a stream sets the state that its sequence begins with."""

    def make() -> Any:
        x, known = keras.Input((None, F), name="x"), keras.Input((2,), name="known")
        given = [L.Dense(width, activation="tanh")(known) for _ in range(states)]
        over = {"mask": keras.ops.any(keras.ops.not_equal(x, 0.0), axis=-1)} if mask else {}
        return shaken(keras.Model([x, known], L.Dense(2)(layer()(x, initial_state=given, **over))))

    return make


def _begun_stack() -> Any:
    x, known = keras.Input((None, F), name="x"), keras.Input((2,), name="known")
    h, c, g = (L.Dense(4)(known) for _ in range(3))
    y = L.RNN([L.LSTMCell(4), L.GRUCell(4)])(x, initial_state=[[h, c], [g]])
    return shaken(keras.Model([x, known], L.Dense(1)(y)))


def _begun_frames() -> Any:
    frames, known = keras.Input((None, 5, 2), name="frames"), keras.Input((3,), name="known")
    first = L.Reshape((4, 3))(L.Dense(12)(known))
    y = L.ConvLSTM1D(3, 2)(frames, initial_state=[first, first])
    return shaken(keras.Model([frames, known], L.Flatten()(y)))


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
    "cells in nested models": functional(_nested),
    "shared custom cell": functional(_shared),
    "stateful cells": lambda: sequential(
        L.RNN([L.GRUCell(4), L.LSTMCell(3)], stateful=True, return_sequences=True),
        L.RNN(Minimal(3), stateful=True),
        L.Dense(1),
        batch=4,
        length=5,
    ),
    "begun by a constant": begun(lambda: L.LSTM(4), 2),
    "begun by a constant, over time": begun(lambda: L.GRU(4, return_sequences=True), 1),
    "begun custom cell": begun(lambda: L.RNN(Learned(4)), 1),
    "begun stack": _begun_stack,
    "begun frames": _begun_frames,
    "convolutional, one axis": lambda: frames(
        L.ConvLSTM1D(3, 2, return_sequences=True), L.ConvLSTM1D(2, 2, padding="same"), L.Flatten(), shape=(5, 2)
    ),
    "convolutional, two axes": lambda: frames(L.ConvLSTM2D(2, 2, strides=2), L.Flatten(), L.Dense(1), shape=(4, 5, 1)),
    "convolutional, three axes": lambda: frames(L.ConvLSTM3D(1, 2), L.Flatten(), L.Dense(1), shape=(2, 3, 2, 1)),
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
    "convolutional backwards": (
        lambda: frames(L.ConvLSTM1D(2, 2, go_backwards=True, name="culprit"), L.Flatten(), shape=(5, 2)),
        "culprit",
        "go_backwards",
    ),
    "cells always dropping": (
        functional(lambda x: L.RNN(L.GRUCell(3, dropout=0.5), name="culprit")(x, training=True)),
        "culprit",
        "training=True",
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
