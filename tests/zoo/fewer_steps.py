"""Layers that make fewer steps than there are events: convolutions and poolings without padding, with strides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.models import F, L, sequential, shaken
from worker.model.backend import keras


def tutorial(length: int = 24, features: int = F, filters: int = 8, units: int = 10, classes: int = 6) -> Any:
    """Human activity from windows of sensor readings, as
    https://machinelearningmastery.com/cnn-models-for-human-activity-recognition-time-series-classification/ has it;
    there (128, 9), 64 filters and 100 units.
    """
    return sequential(
        L.Conv1D(filters, 3, activation="relu"),
        L.Conv1D(filters, 3, activation="relu"),
        L.Dropout(0.5),
        L.MaxPooling1D(2),
        L.LSTM(units),
        L.Dropout(0.5),
        L.Dense(units, activation="relu"),
        L.Dense(classes, activation="softmax"),
        length=length,
        features=features,
    )


def _branches() -> Any:
    """Three speeds side by side, and a fourth as an output of its own."""
    x = keras.Input((None, F))
    slow = L.GRU(3)(L.MaxPooling1D(2)(x))
    late = L.LSTM(2)(L.Conv1D(4, 4)(x))
    greatest = L.GlobalMaxPooling1D()(L.MaxPooling1D(3, 2)(x))
    return shaken(keras.Model(x, [L.Dense(2)(L.Concatenate()([slow, late])), greatest, L.AveragePooling1D(3, 5)(x)]))


def _past_it() -> Any:
    """A way around a convolution, cut to its length by a layer and by brackets."""
    x = keras.Input((None, F))
    y = L.Add()([L.Conv1D(4, 3)(x), L.Dense(4)(x[:, 2:])])
    y = L.Concatenate()([y, x[:, 1:-1], L.Cropping1D((1, 1))(x)])
    return shaken(keras.Model(x, L.LSTM(2)(y[:, ::2])))


def _weighed() -> Any:
    """A sum of shares of the pooled steps."""
    x = keras.Input((None, F))
    y = L.Conv1D(4, 2, strides=2)(x)
    return shaken(keras.Model(x, L.Dense(2)(keras.ops.sum(y * L.Softmax(axis=1)(L.Dense(1)(y)), axis=1))))


def _pictures() -> Any:
    """Text in pictures, column by column: what is found in each step, then over the steps."""
    return shaken(
        keras.Sequential(
            [
                keras.Input((None, 8, 8, 1)),
                L.TimeDistributed(L.Conv2D(2, 3, activation="relu")),
                L.TimeDistributed(L.MaxPooling2D(2)),
                L.TimeDistributed(L.Flatten()),
                L.Conv1D(4, 2),
                L.AveragePooling1D(2),
                L.GRU(3, return_sequences=True),
                L.Dense(2),
            ]
        )
    )


def planes(*layers: Any, shape: tuple[int, int] = (9, 2)) -> Any:
    """Steps that are columns of a picture, ``shape``; what is found in them goes through a recurrent layer."""
    flat = L.TimeDistributed(L.Flatten())
    return shaken(keras.Sequential([keras.Input((None, *shape)), *layers, flat, L.GRU(3), L.Dense(2)]))


def _volumes() -> Any:
    """Steps that are pictures, (4, 5, 2), over time."""
    layers = [L.Conv3D(3, (3, 2, 3)), L.MaxPooling3D((2, 1, 2)), L.GlobalAveragePooling3D(), L.Dense(2)]
    return shaken(keras.Sequential([keras.Input((None, 4, 5, 2)), *layers]))


def _planes_padded_before() -> Any:
    """Zeros before the first step make a convolution over planes causal, and a pooling."""
    x = keras.Input((None, 9, 2))
    y = L.Conv2D(3, (3, 2))(keras.ops.pad(x, [[0, 0], [2, 0], [0, 0], [0, 0]]))
    y = L.MaxPooling2D((2, 3), (1, 2))(keras.ops.pad(y, [[0, 0], [1, 0], [0, 0], [0, 0]]))
    return shaken(keras.Model(x, L.GRU(2)(L.Reshape((-1, 9))(y))))


ZOO: dict[str, Callable[[], Any]] = {
    "tutorial": tutorial,
    "planes, strides": lambda: planes(L.Conv2D(4, 3, strides=(2, 2), activation="relu"), L.MaxPooling2D(2)),
    "planes, dilated": lambda: planes(
        L.Conv2D(4, (3, 2), dilation_rate=(2, 3)), L.AveragePooling2D((2, 3), (3, 1)), L.Conv2D(2, (2, 1))
    ),
    "planes, one channel each": lambda: planes(
        L.DepthwiseConv2D((3, 2), strides=2), L.SeparableConv2D(3, 2), L.MaxPooling2D((2, 1))
    ),
    "volumes": _volumes,
    "planes padded before": _planes_padded_before,
    "three speeds": _branches,
    "around a convolution": _past_it,
    "shares of pooled steps": _weighed,
    "pictures, then pooled steps": _pictures,
    "strides over strides": lambda: sequential(
        L.Conv1D(4, 3, strides=2),
        L.MaxPooling1D(3),
        L.GRU(3, return_sequences=True),
        L.AveragePooling1D(2),
        L.Conv1D(2, 2),
    ),
    "strides, answered from the first event on": lambda: sequential(
        L.Conv1D(4, 5, strides=3, padding="causal"), L.GlobalAveragePooling1D(), L.Dense(2)
    ),
    "strides of one": lambda: sequential(L.Conv1D(4, 1, strides=3), L.MaxPooling1D(1, 2), L.SimpleRNN(3)),
    "padded by less than it looks back": lambda: sequential(
        L.ZeroPadding1D((1, 0)),
        L.Conv1D(4, 4, strides=2),
        L.SeparableConv1D(3, 2),
        L.DepthwiseConv1D(2, strides=2),
        L.LSTM(3),
    ),
    "cropped": lambda: sequential(L.Cropping1D((1, 2)), L.GRU(3)),
    "stacked cells behind a pooling": lambda: sequential(
        L.Masking(), L.MaxPooling1D(2), L.RNN([L.LSTMCell(3), L.GRUCell(2)]), L.Dense(1), length=8
    ),
    "moving extremes, and ids": lambda: shaken(
        keras.Sequential(
            [keras.Input((None,)), L.Embedding(11, 4), L.MaxPooling1D(3, 1), L.AveragePooling1D(2, 1), L.LSTM(3)]
        )
    ),
    "half precision, pooled": lambda: sequential(
        L.Conv1D(4, 3, dtype="mixed_float16"), L.MaxPooling1D(2, dtype="mixed_float16"), L.LSTM(3), L.Dense(2)
    ),
}

REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "steps that don't come together": (
        lambda: shaken(
            keras.Model(
                x := keras.Input((None, F)), L.LSTM(2)(L.Add(name="culprit")([L.Conv1D(F, 3)(x), x[:, 1:-1:2]]))
            )
        ),
        "culprit",
        "different numbers of steps",
    ),
    "more zeros than a stride may have": (
        lambda: sequential(L.ZeroPadding1D((3, 0)), L.Conv1D(2, 3, strides=2, name="culprit"), L.GRU(2)),
        "culprit",
        "zeros more than it looks back",
    ),
    "strides past counting": (
        lambda: sequential(L.MaxPooling1D(1, 2**24), L.GRU(2)),
        "sequence",
        "repeats itself only after",
    ),
}
