"""Trained-looking models for tests: small, with random weights and biases, so that no two layers agree by accident."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from worker.model.backend import keras

L = keras.layers
F = 3  # features


def shaken(model: Any, seed: int = 7) -> Any:
    """The model with the same random weights in every run: no bias is zero, variances are positive."""
    rng = np.random.default_rng(seed)
    weights = []
    for variable in model.weights:
        value = rng.normal(scale=0.3, size=variable.shape)
        name = variable.path.rsplit("/", 1)[-1]
        weights.append(np.abs(value) + 0.1 if "variance" in name else value + 1 if name == "gamma" else value)
    model.set_weights(weights)
    return model


def sequential(*layers: Any, length: int | None = None, batch: int | None = None, features: int = F) -> Any:
    return shaken(keras.Sequential([keras.Input(batch_shape=(batch, length, features)), *layers]))


def door(length: int | None = 7, **recurrent: Any) -> Any:
    """The usual one: m sequences, 7 steps, 3 features, a probability at the end."""
    return sequential(
        L.LSTM(32, return_sequences=True, **recurrent),
        L.LeakyReLU(),
        L.Dropout(0.2),
        L.LSTM(16, **recurrent),
        L.Dense(1, activation="sigmoid"),
        length=length,
        batch=20 if recurrent.get("stateful") else None,
    )


def characters() -> Any:
    return shaken(
        keras.Sequential(
            [
                keras.Input((40,), batch_size=64),
                L.Embedding(11, 5),
                L.LSTM(12, return_sequences=True, stateful=True),
                L.TimeDistributed(L.Dense(11, activation="softmax")),
            ]
        )
    )


def residual() -> Any:
    """Two branches over time, joined by layers and by plain operators."""
    x = keras.Input((None, F))
    a = L.GRU(6, return_sequences=True)(x)
    b = L.Dense(6, activation="tanh")(x)
    c = L.Concatenate()([L.Add()([a, b]), L.Multiply()([a, b]), a - b * 0.5])
    d = L.SimpleRNN(4, return_sequences=True)(c)
    return shaken(keras.Model(x, L.Dense(2)(d)))


def last_step_by_slice() -> Any:
    x = keras.Input((9, F))
    a = L.LSTM(5, return_sequences=True)(x)
    return shaken(keras.Model(x, L.Dense(2, activation="softmax")(a[:, -1, :])))


def nested() -> Any:
    """Two nested models whose layers have the same names."""

    def part(name: str, features: int, sequences: bool) -> Any:
        layers = [L.LSTM(4, return_sequences=True, name="lstm"), L.GRU(3, return_sequences=sequences, name="gru")]
        return keras.Sequential([keras.Input((None, features)), *layers], name=name)

    x = keras.Input((None, F))
    y = part("second", 3, False)(part("first", F, True)(x))
    return shaken(keras.Model(x, L.Dense(1, name="lstm")(y)))


def shared() -> Any:
    """One recurrent layer called twice: one set of weights, two states."""
    x = keras.Input((None, F))
    layer = L.GRU(F, return_sequences=True, name="gru")
    return shaken(keras.Model(x, L.Dense(2)(layer(layer(x)))))


def final_states() -> Any:
    """The output is made of the layer's own final states."""
    x = keras.Input((None, F))
    _, h, c = L.LSTM(5, return_state=True)(x)
    return shaken(keras.Model(x, L.Dense(2)(L.Concatenate()([h, c]))))


def normalised() -> Any:
    normalization = L.Normalization(mean=[5.0, -3.0, 100.0], variance=[4.0, 1.0, 900.0])
    return sequential(normalization, L.GRU(6, return_sequences=True), L.BatchNormalization(), L.LSTM(4), L.Dense(2))


def adapted() -> Any:
    """As ``normalised``, but the layer has learned mean and variance from data."""
    normalization = L.Normalization()
    model = sequential(normalization, L.GRU(6), L.Dense(2))
    normalization.adapt(np.random.default_rng(2).normal([5, -3, 100], [2, 1, 30], (20, 5, F)))
    return model


ZOO: dict[str, Callable[[], Any]] = {
    "door": door,
    "door, length open": lambda: door(None),
    "door, batch 20, stateful, length 7": lambda: door(stateful=True),
    "door, unrolled": lambda: door(unroll=True),
    "lstm returning sequences": lambda: sequential(L.LSTM(8, return_sequences=True), L.Dense(2)),
    "gru": lambda: sequential(L.GRU(8), L.Dense(2, activation="softmax")),
    "gru, reset before": lambda: sequential(L.GRU(8, reset_after=False, return_sequences=True), L.GRU(3)),
    "simple": lambda: sequential(L.SimpleRNN(8, activation="relu", use_bias=False), L.Dense(1)),
    "five deep, all sizes": lambda: sequential(
        L.LSTM(3, return_sequences=True),
        L.GRU(9, return_sequences=True),
        L.SimpleRNN(1, return_sequences=True),
        L.LSTM(7, return_sequences=True),
        L.GRU(2),
    ),
    "recurrent layer last": lambda: sequential(L.LSTM(4)),
    "dropout inside": lambda: sequential(L.LSTM(6, dropout=0.3, recurrent_dropout=0.3), L.Dropout(0.5), L.Dense(1)),
    "per-step layers": lambda: sequential(
        L.Rescaling(0.1, offset=0.5),
        L.Dense(5, activation="elu"),
        L.GaussianNoise(0.3),
        L.LSTM(6, return_sequences=True),
        L.SpatialDropout1D(0.4),
        L.LayerNormalization(),
        L.PReLU(shared_axes=[1]),
        L.ActivityRegularization(0.1),
        L.GRU(4, return_sequences=True),
        L.UnitNormalization(),
        L.Activation("softmax"),
        L.SimpleRNN(3, return_sequences=True),
        L.Softmax(),
        length=12,
    ),
    "normalised": normalised,
    "rescaled per feature": lambda: sequential(L.Rescaling([0.1, 2.0, 1.0], offset=[1.0, 0.0, -1.0]), L.GRU(4)),
    "adapted": adapted,
    "layers after time": lambda: sequential(
        L.LSTM(6), L.Reshape((2, 3)), L.Flatten(), L.LayerNormalization(axis=1), L.PReLU(), L.Dense(2)
    ),
    "time distributed layer": lambda: sequential(L.TimeDistributed(L.Dense(4, activation="relu")), L.LSTM(3)),
    "characters": characters,
    "residual": residual,
    "last step by slice": last_step_by_slice,
    "nested": nested,
    "shared": shared,
    "final states": final_states,
    "nested at the beginning": lambda: sequential(
        keras.Sequential([keras.Input((None, F)), L.LSTM(4, return_sequences=True), L.ELU()]), L.GRU(3), L.Dense(1)
    ),
    "float64": lambda: sequential(L.LSTM(5, dtype="float64"), L.Dense(2, dtype="float64")),
}


def _state_from_inside() -> Any:
    x = keras.Input((None, F))
    _, h, c = L.LSTM(4, return_state=True, name="encoder")(x)
    return keras.Model(x, L.LSTM(4, name="decoder")(x, initial_state=[h, c]))


def _branches_of_two_kinds() -> Any:
    x = keras.Input((4, 3))
    flat, over_time = L.LSTM(3)(x), L.LSTM(3, return_sequences=True)(x)
    return keras.Model(x, L.LSTM(2)(L.Add(name="culprit")([flat, over_time])))


def _always_dropping() -> Any:
    x = keras.Input((None, F))
    return keras.Model(x, L.Dropout(0.5, name="culprit")(L.LSTM(3)(x), training=True))


def _constant_per_step() -> Any:
    x = keras.Input((4, F))
    y = keras.ops.logaddexp(x, np.arange(4 * F, dtype="float32").reshape(4, F))
    return keras.Model(x, L.LSTM(3)(y))


class Unknown(keras.layers.Layer):
    """Its code can't be followed."""

    def call(self, x: Any) -> Any:
        return x * 2 if keras.ops.sum(x) > 0 else x

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="culprit")
        self.lstm = L.LSTM(3)

    def call(self, x: Any) -> Any:
        return self.lstm(x) if keras.ops.sum(x) > -1e9 else self.lstm(-x)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], 3)


def _trap(layer: Any, *after: Any, length: int | None = 4) -> Callable[[], Any]:
    return lambda: sequential(L.LSTM(3, return_sequences=True, name="first"), layer(), *after, length=length)


# name → (model, the layer that must be named, a word of the reason)
REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "flatten": (_trap(lambda: L.Flatten(name="culprit"), L.Dense(1)), "culprit", "window"),
    "reshape": (_trap(lambda: L.Reshape((12,), name="culprit")), "culprit", "window"),
    "permute": (_trap(lambda: L.Permute((2, 1), name="culprit")), "culprit", "time"),
    "bidirectional": (_trap(lambda: L.Bidirectional(L.LSTM(2), name="culprit")), "culprit", "not arrived"),
    "go_backwards": (_trap(lambda: L.GRU(2, go_backwards=True, name="culprit")), "culprit", "go_backwards"),
    "unknown": (_trap(lambda: Unknown(name="culprit")), "culprit", "Unknown"),
    "normalised over time": (_trap(lambda: L.LayerNormalization(axis=1, name="culprit")), "culprit", "time"),
    "normalised over both": (_trap(lambda: L.LayerNormalization(axis=[1, 2], name="culprit")), "culprit", "time"),
    "batch normalised over time": (_trap(lambda: L.BatchNormalization(axis=1, name="culprit")), "culprit", "time"),
    "softmax over time": (_trap(lambda: L.Softmax(axis=1, name="culprit")), "culprit", "time"),
    "group": (_trap(lambda: L.GroupNormalization(1, name="culprit")), "culprit", "window"),
    "slopes per step": (_trap(lambda: L.PReLU(name="culprit")), "culprit", "each step"),
    "upsampling": (_trap(lambda: L.UpSampling1D(2, name="culprit")), "culprit", "several steps"),
    "unknown in a wrapper": (
        _trap(lambda: L.TimeDistributed(Unknown(name="culprit"), name="each")),
        "each.culprit",
        "Unknown",
    ),
    "nested flatten": (
        _trap(lambda: keras.Sequential([keras.Input((4, 3)), L.Flatten(name="culprit")], name="head")),
        "head.culprit",
        "window",
    ),
    "attention": (
        lambda: keras.Model(x := keras.Input((4, F)), L.LSTM(2)(L.Attention(name="culprit")([x, x]))),
        "culprit",
        "not arrived",
    ),
    "joined along time": (
        lambda: keras.Model(x := keras.Input((4, F)), L.LSTM(2)(L.Concatenate(axis=1, name="culprit")([x, x]))),
        "culprit",
        "time",
    ),
    "first step by slice": (
        lambda: keras.Model(x := keras.Input((4, F)), L.Dense(2)(L.LSTM(2, return_sequences=True)(x)[:, 0])),
        "get_item",
        "cuts",
    ),
    "scaled per step": (
        lambda: sequential(L.Rescaling(np.arange(12.0).reshape(4, F), name="culprit"), L.LSTM(2), length=4),
        "culprit",
        "each step",
    ),
    "no time axis": (
        lambda: keras.Sequential([keras.Input((F,)), L.Dense(2, name="culprit")]),
        "culprit",
        "no feature axis",
    ),
    "no state": (lambda: sequential(L.Dense(2)), "", "keeps a state"),
    "never built": (lambda: keras.Sequential([L.LSTM(3), L.Dense(1)], name="culprit"), "culprit", "never built"),
    "subclassed": (Subclassed, "culprit", "subclassed"),
    "state from inside": (_state_from_inside, "decoder", "initial state"),
    "branches of two kinds": (_branches_of_two_kinds, "culprit", "branch"),
    "always dropping": (_always_dropping, "culprit", "training=True"),
    "constant per step": (_constant_per_step, "logaddexp", "array"),
}
