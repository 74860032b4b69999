"""Causal convolutions and what is pooled over time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.models import F, L, sequential, shaken
from worker.model.backend import keras

O = keras.ops  # noqa: E741


def temporal_network() -> Any:
    """Residual blocks of dilated convolutions, and nothing recurrent: its memory is longer than the sequences."""
    x = y = keras.Input((None, F))
    for dilation in (1, 2, 4, 8):
        z = L.Conv1D(4, 2, dilation_rate=dilation, padding="causal", activation="relu")(y)
        z = L.Dropout(0.2)(L.LayerNormalization()(z))
        z = L.Conv1D(4, 3, dilation_rate=dilation, padding="causal")(z)
        y = L.Activation("relu")(L.Add()([z, L.Conv1D(4, 1)(y)]))
    return shaken(keras.Model(x, L.Dense(2)(y)))


def gated_network() -> Any:
    """As in WaveNet: zeros put before the first step by a layer of their own, gates, skips."""
    x = y = keras.Input((12, F))
    skips = []
    for dilation in (1, 2, 4):
        padded = L.ZeroPadding1D((dilation, 0))(y)
        gate = [L.Conv1D(3, 2, dilation_rate=dilation, activation=a)(padded) for a in ("tanh", "sigmoid")]
        z = L.Multiply()(gate)
        skips.append(L.Conv1D(4, 1, padding="same")(z))
        y = L.Add()([y, z])
    return shaken(keras.Model(x, L.Conv1D(2, 1, activation="softmax")(L.Add()(skips))))


def shared_convolution() -> Any:
    """One layer called twice: one set of weights, two states."""
    x = keras.Input((None, F))
    layer = L.Conv1D(F, 3, padding="causal", activation="tanh", name="conv")
    return shaken(keras.Model(x, L.GRU(2)(layer(layer(x)))))


def nested_convolutions() -> Any:
    def part(name: str) -> Any:
        layers = [L.Conv1D(F, 3, padding="causal", name="conv"), L.Conv1D(F, 2, padding="causal", name="second")]
        return keras.Sequential([keras.Input((None, F)), *layers], name=name)

    x = keras.Input((None, F))
    return shaken(keras.Model(x, L.LSTM(2, name="conv")(part("two")(part("one")(x)))))


def padded_by_operation() -> Any:
    x = keras.Input((None, F))
    y = L.Conv1D(4, 3, dilation_rate=2)(O.pad(x, [[0, 0], [4, 0], [0, 0]]))
    return shaken(keras.Model(x, L.GRU(2)(O.pad(y, [[0, 0], [0, 0], [1, 0]]))))


def all_poolings() -> Any:
    """The usual end of a network: mean and maximum side by side."""
    x = keras.Input((None, F))
    y = L.GRU(4, return_sequences=True)(x)
    return shaken(
        keras.Model(x, L.Dense(2)(L.Concatenate()([L.GlobalAveragePooling1D()(y), L.GlobalMaxPooling1D()(y)])))
    )


def reductions() -> Any:
    """keras.ops over time, with and without the axis kept, and over the features of each step."""
    x = keras.Input((None, F))
    y = L.Dense(4)(x) - 1.0
    so_far = [
        O.mean(y, axis=1),
        O.max(y, axis=-2),
        O.min(y, axis=[1]),
        O.sum(y, axis=1) * 0.1,
        L.Flatten()(O.mean(y, axis=1, keepdims=True)),
        O.max(O.cumsum(y, axis=1), axis=1) * 0.1,
        O.mean(O.mean(y, axis=-1, keepdims=True), axis=1),
        L.Reshape((1,))(O.max(y, axis=(1, 2))),
    ]
    return shaken(keras.Model(x, L.Dense(2)(L.Concatenate()(so_far))))


def _conv(*args: Any, **kwargs: Any) -> Any:
    return L.Conv1D(*args, padding="causal", **kwargs)


ZOO: dict[str, Callable[[], Any]] = {
    "convolution before a recurrent layer": lambda: sequential(_conv(4, 3, activation="relu"), L.LSTM(5), L.Dense(1)),
    "convolution between recurrent layers": lambda: sequential(
        L.LSTM(4, return_sequences=True), _conv(5, 4, use_bias=False), L.BatchNormalization(), L.GRU(3), length=7
    ),
    "convolution without anything recurrent": lambda: sequential(_conv(4, 3), length=12),
    "convolution in groups": lambda: sequential(_conv(8, 3, groups=2, dilation_rate=2), L.GRU(3), features=4),
    "temporal network": temporal_network,
    "gated network": gated_network,
    "shared convolution": shared_convolution,
    "nested convolutions": nested_convolutions,
    "kernels of one": lambda: sequential(
        L.Conv1D(4, 1),
        L.Conv1D(4, 1, padding="same", groups=2),
        _conv(3, 1, dilation_rate=3),
        L.SeparableConv1D(4, 1),
        L.DepthwiseConv1D(1, depth_multiplier=2),
        L.AveragePooling1D(1),
        L.LSTM(2),
    ),
    "separable, padded before": lambda: sequential(
        L.ZeroPadding1D((4, 0)),
        L.SeparableConv1D(4, 3, dilation_rate=2, depth_multiplier=2),
        L.ZeroPadding1D((2, 0)),
        L.DepthwiseConv1D(3),
        L.GRU(2),
    ),
    "padded once for two": lambda: sequential(L.ZeroPadding1D((6, 0)), L.Conv1D(4, 3), L.Conv1D(2, 5), length=12),
    "moving average and maximum": lambda: sequential(
        L.ZeroPadding1D((3, 0)),
        L.AveragePooling1D(4, strides=1),
        L.ZeroPadding1D((0, 0)),
        L.ZeroPadding1D((2, 0)),
        L.MaxPooling1D(3, 1),
        L.GRU(2),
    ),
    "padded by an operation": padded_by_operation,
    "convolution in every step": lambda: shaken(
        keras.Sequential(
            [
                keras.Input((None, 6, 2)),
                L.TimeDistributed(L.Conv1D(3, 3, padding="same", strides=2)),
                L.TimeDistributed(L.GlobalMaxPooling1D()),
                L.LSTM(3),
            ]
        )
    ),
    "convolution after time": lambda: sequential(
        L.LSTM(6), L.Reshape((3, 2)), L.Conv1D(4, 2), L.ZeroPadding1D(1), L.AveragePooling1D(2), L.GlobalMaxPooling1D()
    ),
    "convolution of masked steps": lambda: sequential(L.Masking(), _conv(4, 3), L.GRU(2)),
    "convolution of float64": lambda: sequential(
        *(_conv(4, 3, dtype="float64"), L.GlobalAveragePooling1D(dtype="float64"), L.Dense(2, dtype="float64"))
    ),
    "convolution of ids": lambda: shaken(
        keras.Sequential([keras.Input((None,)), L.Embedding(11, 4), _conv(3, 5), L.GlobalMaxPooling1D(), L.Dense(2)])
    ),
    "mean over time": lambda: sequential(L.LSTM(4, return_sequences=True), L.GlobalAveragePooling1D(), L.Dense(1)),
    "maximum over time": lambda: sequential(_conv(4, 3), L.GlobalMaxPooling1D(), L.Dense(1), length=9),
    "axis of time kept": lambda: sequential(
        L.LSTM(4, return_sequences=True), L.GlobalAveragePooling1D(keepdims=True), L.Flatten(), L.Dense(1)
    ),
    "mean and maximum": all_poolings,
    "mean of what is not masked": lambda: shaken(
        keras.Sequential(
            [keras.Input((None,)), L.Embedding(11, 4, mask_zero=True), L.GlobalAveragePooling1D(), L.Dense(2)]
        )
    ),
    "reductions": reductions,
    "pictures pooled over space and time": lambda: shaken(
        keras.Sequential(
            [
                keras.Input((None, 6, 2)),
                L.Conv2D(3, (1, 3), padding="same"),
                L.MaxPooling2D((1, 2)),
                L.GlobalAveragePooling2D(),
                L.Dense(2),
            ]
        )
    ),
}


def _padded_with_ones() -> Any:
    x = keras.Input((4, F))
    return keras.Model(x, L.GRU(2)(L.Conv1D(4, 3)(O.pad(x, [[0, 0], [2, 0], [0, 0]], constant_values=1.0))))


def _pad_and_stop() -> Any:
    x = keras.Input((4, F))
    return keras.Model(x, [L.GRU(2)(x), L.ZeroPadding1D((2, 0))(x)], name="culprit")


def _over_batch() -> Any:
    x = keras.Input((4, F))
    return keras.Model(x, O.mean(L.GRU(2, return_sequences=True)(x), axis=0, keepdims=True) + L.Dense(2)(x))


def _no_features() -> Any:
    x = keras.Input((4, F))
    y = O.mean(L.GRU(2, return_sequences=True)(x), axis=2)
    return keras.Model(x, L.Reshape((1,))(O.max(y, axis=1)))


def _alone(*layers: Any) -> Callable[[], Any]:
    """Made when called: layers can be used once only."""
    return lambda: sequential(*(layer() for layer in layers), L.GRU(2), length=12)


REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "transposed": (_alone(lambda: L.Conv1DTranspose(2, 3, name="culprit")), "culprit", "spreads"),
    "convolution along features": (
        _alone(lambda: L.Conv1D(2, 2, data_format="channels_first", name="culprit")),
        "culprit",
        "channels_first",
    ),
    "mean along features": (
        lambda: sequential(
            L.GlobalAveragePooling1D(data_format="channels_first", keepdims=True, name="culprit"), L.LSTM(2), length=4
        ),
        "culprit",
        "channels_first",
    ),
    "padded after": (
        _alone(lambda: L.ZeroPadding1D((1, 1), name="culprit")),
        "culprit",
        "no last step",
    ),
    "padded with ones": (_padded_with_ones, "pad", "other than zeros"),
    "padded twice": (
        _alone(lambda: L.ZeroPadding1D((2, 0)), lambda: L.Conv1D(2, 3, padding="causal", name="culprit")),
        "culprit",
        "causal",
    ),
    "padded for a recurrent layer": (
        lambda: sequential(L.ZeroPadding1D((2, 0)), L.GRU(2, name="culprit")),
        "culprit",
        "its input begins with zeros, before the first step",
    ),
    "padded too much": (
        lambda: sequential(L.ZeroPadding1D((3, 0)), L.Conv1D(2, 3), L.GRU(2, name="culprit")),
        "culprit",
        "zeros",
    ),
    "padded output": (_pad_and_stop, "culprit", "begins with zeros"),
    "adaptive": (_alone(lambda: L.AdaptiveAveragePooling1D(4, name="culprit")), "culprit", "whole sequence"),
    "convolution over pictures": (
        lambda: keras.Sequential(
            [keras.Input((4, 6, 2)), L.Conv2D(3, 3, 2, padding="same", name="culprit"), L.GlobalMaxPooling2D()]
        ),
        "culprit",
        "how long the sequence is",
    ),
    "pooling over pictures": (
        lambda: keras.Sequential(
            [keras.Input((4, 6, 2)), L.MaxPooling2D(3, padding="same", name="culprit"), L.GlobalMaxPooling2D()]
        ),
        "culprit",
        "how long the sequence is",
    ),
    "mean over a batch": (_over_batch, "mean", "batch"),
    "maximum of plain numbers": (_no_features, "max", "no feature axis"),
}
