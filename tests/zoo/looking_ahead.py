"""Layers with padding='same', whose steps later events change, and what stands behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.models import F, L, sequential, shaken
from tests.zoo.fewer_steps import planes
from worker.model.backend import keras


def _residual() -> Any:
    """A block of a residual network over time, as
    https://github.com/hfawaz/dl-4-tsc/blob/master/classifiers/resnet.py has it.
    """
    x = keras.Input((None, F))
    y = L.Activation("relu")(L.BatchNormalization()(L.Conv1D(4, 4, padding="same")(x)))
    y = L.Activation("relu")(L.BatchNormalization()(L.Conv1D(4, 3, padding="same")(y)))
    y = L.BatchNormalization()(L.Conv1D(4, 3, padding="same")(y))
    y = L.Activation("relu")(L.Add()([L.BatchNormalization()(L.Conv1D(4, 1, padding="same")(x)), y]))
    return shaken(keras.Model(x, L.Dense(2, activation="softmax")(L.GlobalAveragePooling1D()(y))))


def _inception() -> Any:
    """A module of InceptionTime, https://github.com/hfawaz/InceptionTime/blob/master/classifiers/inception.py"""
    x = keras.Input((20, F))
    narrow = L.Conv1D(2, 1, padding="same", use_bias=False)(x)
    wide = [L.Conv1D(2, size, padding="same", use_bias=False)(narrow) for size in (8, 4, 2)]
    pooled = L.Conv1D(2, 1, padding="same", use_bias=False)(L.MaxPooling1D(3, strides=1, padding="same")(x))
    y = L.Activation("relu")(L.BatchNormalization()(L.Concatenate(axis=2)([*wide, pooled])))
    return shaken(keras.Model(x, L.Dense(3, activation="softmax")(L.GlobalAveragePooling1D()(y))))


def _many_ends() -> Any:
    """The last step, the greatest of all, every step, and a sum, all behind one tail."""
    x = keras.Input((None, F))
    y = L.Conv1D(4, 4, padding="same", dilation_rate=2)(x)
    z = L.GRU(3, return_sequences=True)(y)
    greatest = L.GlobalMaxPooling1D()(L.Concatenate()([y, z, L.Reshape((-1, 4))(y)]))
    summed = keras.ops.cumsum(L.EinsumDense("btf,fu->btu", (None, 2))(y), axis=1) * 0.1
    return shaken(keras.Model(x, [L.Dense(2)(z[:, -1]), greatest, z, summed]))


def _from_a_device() -> Any:
    """A recurrent layer behind a tail that begins with what the device is."""
    x, device = keras.Input((None, F)), keras.Input((3,))
    y = L.Conv1D(4, 3, padding="same")(x)
    return shaken(keras.Model([x, device], L.Dense(2)(L.GRU(3)(y, initial_state=L.Dense(3)(device)))))


def _spectrogram() -> Any:
    """Sounds and their beginnings, as in arXiv:1807.00129 but forwards alone: a step is a column, (16, 1)."""
    x = keras.Input((None, 16, 1))
    y = L.ReLU()(L.BatchNormalization()(L.Conv2D(4, (3, 3), padding="same")(x)))
    y = L.Dropout(0.2)(L.MaxPooling2D((1, 4))(y))
    y = L.MaxPooling2D((1, 2))(L.ReLU()(L.BatchNormalization()(L.Conv2D(4, (3, 3), padding="same")(y))))
    y = L.GRU(4, return_sequences=True)(L.Reshape((-1, 8))(L.Permute((1, 3, 2))(y)))
    return shaken(keras.Model(x, L.TimeDistributed(L.Dense(3, activation="sigmoid"))(y)))


def _past_a_plane() -> Any:
    """A way around a convolution over planes, and the means of each channel."""
    x = keras.Input((None, 5, 2))
    y = L.Add()([L.Conv2D(2, 3, padding="same")(x), x])
    return shaken(keras.Model(x, [L.GlobalAveragePooling2D()(y), L.Dense(2)(L.GlobalMaxPooling2D()(y))]))


ZOO: dict[str, Callable[[], Any]] = {
    "spectrogram, same": _spectrogram,
    "spectrogram, pooled over time": lambda: planes(
        L.Conv2D(4, 3, padding="same", activation="relu"),
        L.MaxPooling2D(2),
        L.Conv2D(4, (4, 2), padding="same", activation="relu"),
        L.MaxPooling2D((3, 2)),
    ),
    "planes, pools of the same size": lambda: planes(
        L.AveragePooling2D(3, (1, 2), padding="same"), L.MaxPooling2D((2, 3), (1, 1), padding="same")
    ),
    "planes, strides, same": lambda: planes(
        L.Conv2D(3, 2, strides=2, padding="same"), L.AveragePooling2D(2, padding="same"), L.MaxPooling2D((4, 1))
    ),
    "planes, one channel each, behind a tail": lambda: planes(
        L.SeparableConv2D(3, (3, 2), padding="same"), L.DepthwiseConv2D(3, strides=2), L.Conv2D(2, (1, 3))
    ),
    "planes, one wide in the end, behind a tail": lambda: planes(
        L.Conv2D(1, 3, padding="same"), L.Conv2D(2, (3, 8), strides=2, activation="tanh")
    ),
    "volumes, same": lambda: shaken(
        keras.Sequential(
            [
                keras.Input((None, 4, 5, 2)),
                L.Conv3D(3, (3, 2, 3), padding="same"),
                L.AveragePooling3D((2, 3, 2), (1, 2, 2), padding="same"),
                L.Conv3D(2, (2, 1, 2), strides=(2, 1, 1)),
                L.TimeDistributed(L.Flatten()),
                L.LSTM(3),
            ]
        )
    ),
    "around a convolution over planes": _past_a_plane,
    "residual block, same": _residual,
    "inception module": _inception,
    "many ends behind a tail": _many_ends,
    "begun by a device, behind a tail": _from_a_device,
    "sound, convolutions and recurrent": lambda: sequential(
        L.Conv1D(4, 3, padding="same", activation="relu"),
        L.MaxPooling1D(2),
        L.Conv1D(4, 3, padding="same", activation="relu"),
        L.MaxPooling1D(2),
        L.LSTM(3),
        L.Dense(2),
    ),
    "pools, same": lambda: sequential(
        L.MaxPooling1D(2, padding="same"),
        L.AveragePooling1D(3, 1, padding="same"),
        L.MaxPooling1D(3, 1, padding="same"),
        L.GRU(3),
    ),
    "strides, same": lambda: sequential(
        L.AveragePooling1D(2, padding="same"), L.Conv1D(3, 4, strides=2, padding="same"), L.GRU(3)
    ),
    "without padding, behind a tail": lambda: sequential(
        L.Conv1D(4, 3, padding="same"),
        L.Conv1D(4, 3),
        L.AveragePooling1D(3, 2),
        L.SeparableConv1D(3, 2, padding="same"),
        L.LSTM(3),
    ),
    "padded on both sides": lambda: sequential(
        L.ZeroPadding1D(1),
        L.Conv1D(4, 3, activation="relu"),
        L.ZeroPadding1D((2, 1)),
        L.Conv1D(3, 4, strides=2),
        L.RNN([L.LSTMCell(3), L.GRUCell(2)]),
        L.Dense(2),
    ),
    "every step, same": lambda: sequential(
        L.DepthwiseConv1D(3, padding="same"), L.RNN([L.LSTMCell(3), L.GRUCell(2)], return_sequences=True), L.Dense(2)
    ),
}

REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "strides that depend on the length": (
        lambda: sequential(L.Conv1D(2, 3, strides=2, padding="same", name="culprit"), L.GRU(2)),
        "culprit",
        "how long the sequence is",
    ),
    "shares of steps ahead": (
        lambda: shaken(
            keras.Model(
                x := keras.Input((None, F)),
                keras.ops.sum(x * L.Softmax(axis=1, name="culprit")(L.Conv1D(F, 3, padding="same")(x)), axis=1),
            )
        ),
        "culprit",
        "have not arrived yet",
    ),
}
