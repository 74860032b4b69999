"""Masks: which steps count, and where a mask comes from and goes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.models import F, sequential, shaken
from tests.zoo.cells import Accumulator, Dropping, Learned, Minimal, Plain, Residual
from tests.zoo.recurrent import begun, frames, functional
from worker.model.backend import keras

L = keras.layers
IDS = 9  # of an Embedding


def masked(*layers: Any, **kwargs: Any) -> Any:
    return sequential(L.Masking(), *layers, **kwargs)


def ids(*layers: Any, length: int | None = None, width: int = 3) -> Any:
    return shaken(keras.Sequential([keras.Input((length,)), L.Embedding(IDS, width, mask_zero=True), *layers]))


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


def _merged(merge: Callable[[], Any]) -> Callable[[Any], Any]:
    """Branches with masks of their own, merged, and a recurrent layer that sees what masks come out of that."""

    def make(x: Any) -> Any:
        a = L.GRU(3, return_sequences=True)(L.Masking()(x))
        b = L.LSTM(3, return_sequences=True)(L.Masking()(L.ReLU()(x)))
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
    """With return_state the output hands the mask on, the states have none."""
    y, h, c = L.LSTM(4, return_sequences=True, return_state=True)(L.Masking()(x))
    z, state = L.GRU(3, return_state=True)(y)
    return L.Dense(2)(L.Concatenate()([h, c, z, state]))


def _begun_behind_a_mask() -> Any:
    """The layer that is given a state ignores the mask, but hands it on."""
    x, known = keras.Input((None, F), name="x"), keras.Input((2,), name="known")
    y = L.GRU(4, return_sequences=True)(L.Masking()(x), initial_state=L.Dense(4)(known))
    return shaken(keras.Model([x, known], L.LSTM(3)(y)))


ZOO: dict[str, Callable[[], Any]] = {
    "cell of a subclass": lambda: masked(L.RNN(Dropping(4), return_sequences=True), L.Dense(2)),
    "cell around a cell": lambda: masked(
        L.RNN(Residual(L.LSTMCell(F, dropout=0.3)), return_sequences=True), L.RNN([Residual(L.GRUCell(F)), Minimal(2)])
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
    "begun and masked": begun(lambda: L.LSTM(4, return_sequences=True), 2, mask=True),
    "begun behind a mask": _begun_behind_a_mask,
}

REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "masked rows of frames": (  # the mask says which rows count, not which steps
        lambda: frames(L.Masking(), L.ConvLSTM1D(2, 2, name="culprit"), L.Flatten(), shape=(5, 2)),
        "culprit",
        "per step",
    ),
    "masked bidirectional": (lambda: masked(L.Bidirectional(L.LSTM(2), name="culprit")), "culprit", "not arrived"),
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
}
