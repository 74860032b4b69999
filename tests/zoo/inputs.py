"""Several inputs and outputs, inputs that are constant per stream, steps that are no plain vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.models import F, L, shaken
from worker.model.backend import keras


def _two_sensors() -> Any:
    a, b = keras.Input((None, F), name="left"), keras.Input((None, 2), name="right")
    both = L.Concatenate()([L.GRU(4, return_sequences=True)(a), L.LSTM(3, return_sequences=True)(b)])
    return shaken(keras.Model([a, b], L.Dense(2)(L.SimpleRNN(4)(both))))


def _window_and_description() -> Any:
    """Readings over time, and what a device is: one vector for the whole stream."""
    x, device = keras.Input((7, F), name="readings"), keras.Input((4,), name="device")
    y = L.Concatenate()([L.LSTM(6)(x), L.Dense(3, activation="relu")(device)])
    return shaken(keras.Model([x, device], L.Dense(1, activation="sigmoid")(y)))


def _description_first() -> Any:
    x, device = keras.Input((None, F), name="readings"), keras.Input((4,), name="device")
    y = L.Multiply()([L.GRU(5)(x), L.Dense(5, activation="sigmoid")(device)])
    return shaken(keras.Model([device, x], L.Dense(1)(y)))


def _category() -> Any:
    """The kind of a device as an id that stays: embedded, flattened, joined."""
    x, kind = keras.Input((9, F), name="readings"), keras.Input((1,), dtype="int32", name="kind")
    y = L.Concatenate()([L.GRU(5)(x), L.Flatten()(L.Embedding(6, 3)(kind))])
    return shaken(keras.Model([x, kind], L.Dense(2)(y)))


def _words_and_numbers() -> Any:
    """Ids and vectors, both over time, of the same length."""
    words, x = keras.Input((8,), dtype="int32", name="words"), keras.Input((8, F), name="readings")
    y = L.Concatenate()([L.Embedding(9, 4)(words), L.Dense(3)(x)])
    return shaken(keras.Model([words, x], L.Dense(2)(L.LSTM(5)(y))))


def _scalar() -> Any:
    x, weight = keras.Input((None, F)), keras.Input((), name="weight")
    y = L.Concatenate()([L.LSTM(3)(x), L.Reshape((1,))(weight)])
    return shaken(keras.Model([x, weight], L.Dense(2)(y)))


def _named() -> Any:
    inputs = {"b": keras.Input((None, F), name="b"), "a": keras.Input((2,), name="a")}
    y = L.Concatenate()([L.GRU(3)(inputs["b"]), inputs["a"]])
    return shaken(keras.Model(inputs, {"risk": L.Dense(1)(y), "kind": L.Dense(3, activation="softmax")(y)}))


def _two_heads() -> Any:
    x = keras.Input((None, F))
    y = L.LSTM(5)(x)
    return shaken(keras.Model(x, [L.Dense(1, activation="sigmoid")(y), L.Dense(2)(y)]))


def _each_step_and_so_far() -> Any:
    x = keras.Input((None, F))
    each = L.GRU(4, return_sequences=True)(x)
    return shaken(keras.Model(x, [L.Dense(2)(each), L.SimpleRNN(3)(each)]))


def _output_and_states() -> Any:
    """An encoder: its states are outputs."""
    x = keras.Input((None, F))
    return shaken(keras.Model(x, L.LSTM(4, return_state=True)(x)))


def _pictures() -> Any:
    x = keras.Input((5, 4, 3))
    y = L.TimeDistributed(L.Flatten())(L.TimeDistributed(L.Conv1D(2, 2))(x))
    return shaken(keras.Model(x, L.Dense(2)(L.LSTM(3)(y))))


def _matrix_out() -> Any:
    x = keras.Input((None, F))
    return shaken(keras.Model(x, L.Reshape((2, 3))(L.LSTM(6)(x))))


def _nested_inputs() -> Any:
    """A nested model with two inputs, one of them constant."""
    a, b = keras.Input((None, F)), keras.Input((2,))
    inner = keras.Model([a, b], L.Add()([L.GRU(4)(a), L.Dense(4)(b)]), name="inner")
    x, z = keras.Input((None, F)), keras.Input((2,))
    return shaken(keras.Model([x, z], L.Dense(1)(inner([x, z]))))


def _integers_over_time() -> Any:
    """Counts as integers, straight into arithmetic."""
    x, n = keras.Input((None, F)), keras.Input((None, 1), dtype="int32")
    return shaken(keras.Model([x, n], L.LSTM(3)(L.Concatenate()([x, L.Rescaling(0.1)(n)]))))


def _mask_as_an_input() -> Any:
    """Which steps count comes from outside."""
    x, counts = keras.Input((None, F), name="readings"), keras.Input((None,), dtype="bool", name="counts")
    y = L.GlobalAveragePooling1D()(L.GRU(4, return_sequences=True)(x, mask=counts), mask=counts)
    return shaken(keras.Model([x, counts], L.Dense(2)(y)))


def _double() -> Any:
    x, device = keras.Input((None, F), dtype="float64"), keras.Input((2,), dtype="float64")
    y = L.Concatenate(dtype="float64")([L.GRU(3, dtype="float64")(x), device])
    return shaken(keras.Model([x, device], L.Dense(1, dtype="float64")(y)))


ZOO: dict[str, Callable[[], Any]] = {
    "two inputs over time": _two_sensors,
    "a window and a description": _window_and_description,
    "description first": _description_first,
    "a category that stays": _category,
    "words and numbers": _words_and_numbers,
    "a scalar per stream": _scalar,
    "named inputs and outputs": _named,
    "two heads": _two_heads,
    "each step and so far": _each_step_and_so_far,
    "output and states": _output_and_states,
    "pictures": _pictures,
    "matrix out": _matrix_out,
    "nested inputs": _nested_inputs,
    "integers over time": _integers_over_time,
    "a mask as an input": _mask_as_an_input,
    "double precision inputs": _double,
}


def _text() -> Any:
    x = keras.Input((None,), dtype="string", name="words")
    return keras.Model(x, L.LSTM(2)(L.Embedding(5, 2)(L.StringLookup(vocabulary=["a", "b"])(x))))


def _open_pictures() -> Any:
    x = keras.Input((None, None, 3), name="culprit")
    return keras.Model(x, L.LSTM(3)(L.TimeDistributed(L.GlobalMaxPooling1D())(x)))


def _two_lengths() -> Any:
    source, target = keras.Input((9, F), name="source"), keras.Input((4, F), name="target")
    return keras.Model([source, target], L.Dense(1)(L.Add()([L.LSTM(3)(source), L.LSTM(3)(target)])))


def _flat() -> Any:
    a, b = keras.Input((3,)), keras.Input((2,))
    return keras.Model([a, b], L.Dense(1)(L.Concatenate()([a, b])), name="culprit")


REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "text input": (_text, "words", "string"),
    "pictures of open size": (_open_pictures, "culprit", "shape"),
    "two lengths": (_two_lengths, "target", "9"),
    "nothing over time": (_flat, "culprit", "keeps a state"),
}
