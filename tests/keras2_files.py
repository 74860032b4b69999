"""Writes model files with Keras 2 itself, and beside each what Keras 2 answers: python -m tests.keras2_files FOLDER.

A process of its own, which knows nothing of the worker or of Keras 3. It needs tf-keras.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras

L = keras.layers
F, T = 3, 7  # features, steps
FIXED = {"batch_input_shape": (None, T, F)}
OPEN = {"batch_input_shape": (None, None, F)}


def sequential(*layers: Any) -> Any:
    return keras.Sequential(list(layers))


def functional(build: Callable[[Any], Any], length: int | None = None) -> Any:
    x = keras.Input((length, F), name="x")
    return keras.Model(x, build(x))


def branches(x: Any) -> Any:
    """Layers of one size, made and used in different orders."""
    b = L.LSTM(4, name="b", return_sequences=True)(x)
    a = L.LSTM(4, name="a", return_sequences=True)(x)
    late = L.Dense(4, name="late")(a)
    c, d = L.Dense(4, name="c")(b), L.Dense(4, name="d")(a)
    return L.Concatenate()([L.Add()([d, c]), late])


def encoder_and_decoder(x: Any) -> Any:
    _, h, c = L.LSTM(4, return_state=True)(x)
    return L.Dense(2)(L.LSTM(4, return_sequences=True)(x, initial_state=[h, c]))


def nested(x: Any) -> Any:
    def part(features: int, name: str) -> Any:
        layers = [L.GRU(4, return_sequences=True, name="gru", input_shape=(None, features)), L.BatchNormalization()]
        frozen = L.GRU(4, return_sequences=True, trainable=False, name="frozen")
        return keras.Sequential([*layers, frozen, L.GRU(4, return_sequences=True, name="last")], name=name)

    return L.Dense(2)(part(4, "second")(part(F, "first")(x)))


def shared(x: Any) -> Any:
    layer = L.GRU(F, return_sequences=True)
    return L.Dense(2)(layer(layer(x)))


def normalized() -> Any:
    normalization = L.Normalization(input_shape=(None, F))
    normalization.adapt(np.random.default_rng(2).normal([5, -3, 100], [2, 1, 30], (200, F)))
    return sequential(normalization, L.Rescaling(0.5, offset=0.1), L.GRU(4), L.Dense(2))


def normalizations() -> Any:
    layers = [L.LayerNormalization(), L.UnitNormalization(), L.BatchNormalization(), L.GaussianNoise(0.2), L.Softmax()]
    return sequential(L.LSTM(4, return_sequences=True, **OPEN), *layers, L.Dropout(0.3), L.GRU(2))


def slopes() -> Any:
    layers = [L.LeakyReLU(alpha=0.2), L.ELU(0.7), L.PReLU(shared_axes=[1]), L.LeakyReLU(), L.ReLU(1.5, 0.1, 0.02)]
    return sequential(L.Dense(4, **OPEN), *layers, L.ThresholdedReLU(0.05), L.GRU(3), L.Dense(2))


def training() -> Any:
    """Everything that a configuration says about training, and a custom loss and metric."""
    options = {
        "kernel_initializer": keras.initializers.RandomNormal(0.0, 0.1),
        "kernel_regularizer": keras.regularizers.L1L2(0.01, 0.02),
        "recurrent_constraint": keras.constraints.MaxNorm(2.0),
        "dropout": 0.2,
        "recurrent_dropout": 0.1,
    }
    model = sequential(L.LSTM(4, **options, **OPEN), L.Dense(1))

    def own_loss(wanted: Any, given: Any) -> Any:
        return (wanted - given) ** 2

    def own_metric(wanted: Any, given: Any) -> Any:
        return abs(wanted - given)

    model.compile("adam", own_loss, metrics=[own_metric])
    model.fit(np.zeros((4, T, F)), np.zeros((4, 1)), verbose=0)
    return model


def activations() -> Any:
    names = ["linear", "relu", "elu", "selu", "softplus", "softsign", "swish", "gelu", "exponential", "mish"]
    names += ["sigmoid", "tanh", "softmax", "hard_sigmoid", "leaky_relu", "relu6", "silu", "log_softmax"]
    names = [name for name in names if hasattr(keras.activations, name)]
    return functional(lambda x: L.Concatenate()([L.Dense(3, activation=name)(x) for name in names]))


def characters() -> Any:
    return sequential(L.Embedding(11, 5, input_length=T), L.LSTM(6, return_sequences=True), L.Dense(11, "softmax"))


def stateful() -> Any:
    return sequential(L.LSTM(5, stateful=True, batch_input_shape=(20, T, F)), L.Dense(1))


def cells() -> Any:
    stacked = [L.LSTMCell(4, recurrent_activation="hard_sigmoid"), L.GRUCell(3, reset_after=False)]
    return functional(lambda x: L.RNN(stacked, return_sequences=True)(x))


def masked_words() -> Any:
    layers = [L.Embedding(11, 5, mask_zero=True), L.LSTM(6, return_sequences=True), L.Dropout(0.1), L.Dense(4)]
    return sequential(*layers, L.LayerNormalization(), L.GRU(3, return_sequences=True), L.LSTM(2))


def masked_branches(x: Any) -> Any:
    masked = L.Masking(0.0)(x)
    a, b = L.LSTM(4, return_sequences=True)(masked), L.GRU(4, return_sequences=True)(masked)
    joined = L.Concatenate()([L.Add()([a, b]), L.TimeDistributed(L.Dense(2))(a)])
    return L.Dense(2)(L.LSTM(3)(L.BatchNormalization()(L.Activation("tanh")(joined))))


def two_inputs() -> Any:
    x, y = keras.Input((None, F), name="x"), keras.Input((None, 2), name="a")
    return keras.Model([x, y], L.GRU(3)(L.Concatenate()([L.Dense(2)(y), L.LSTM(4, return_sequences=True)(x)])))


def part_per_step() -> Any:
    part = keras.Sequential([L.Dense(4, "tanh", input_shape=(F,)), L.BatchNormalization(), L.Dense(2)])
    return sequential(L.TimeDistributed(part, **OPEN), L.GRU(3))


def pictures() -> Any:
    return sequential(L.ConvLSTM1D(2, 2, batch_input_shape=(None, None, 5, 2)), L.Flatten(), L.Dense(2))


def hard_gru(reset_after: bool) -> Any:
    options = {"activation": "hard_sigmoid", "recurrent_activation": "hard_sigmoid", "reset_after": reset_after}
    return sequential(L.GRU(4, **options, **OPEN), L.Dense(2))


MODELS: dict[str, Callable[[], Any]] = {
    "lstm": lambda: sequential(L.LSTM(5, return_sequences=True, **FIXED), L.LeakyReLU(), L.LSTM(4), L.Dense(1)),
    "embedding": characters,
    "time_distributed": lambda: sequential(L.TimeDistributed(L.Dense(4), **FIXED), L.GRU(3), L.Dense(2)),
    "branches": lambda: functional(branches),
    "encoder_and_decoder": lambda: functional(encoder_and_decoder, T),
    "last_step": lambda: functional(lambda x: L.Dense(2)(L.LSTM(4, return_sequences=True)(x)[:, -1]), T),
    "nested": lambda: functional(nested),
    "shared": lambda: functional(shared),
    "reset_after": lambda: sequential(L.GRU(4, reset_after=True, **OPEN), L.Dense(2)),
    "reset_before": lambda: sequential(L.GRU(4, reset_after=False, implementation=1, **OPEN), L.Dense(2)),
    "stateful": stateful,
    "unrolled": lambda: sequential(L.SimpleRNN(5, unroll=True, **FIXED), L.Dense(1)),
    "masked": lambda: sequential(L.Masking(0.0, **OPEN), L.LSTM(4, return_sequences=True), L.GRU(3)),
    "masked_words": masked_words,
    "masked_branches": lambda: functional(masked_branches),
    "masked_mean": lambda: sequential(
        L.Masking(0.0, **OPEN), L.GRU(3, return_sequences=True), L.GlobalAveragePooling1D()
    ),
    "masked_zeros": lambda: sequential(L.Masking(0.0, **OPEN), L.RNN(L.GRUCell(3), zero_output_for_mask=True)),
    "causal": lambda: sequential(L.Conv1D(4, 3, padding="causal", dilation_rate=2, **OPEN), L.GRU(3), L.Dense(1)),
    "part_per_step": part_per_step,
    "two_inputs": two_inputs,
    "pictures": pictures,
    "training": training,
    "normalized": normalized,
    "normalizations": normalizations,
    "slopes": slopes,
    "activations": activations,
    "cells": cells,
    "hard_lstm": lambda: sequential(L.LSTM(4, recurrent_activation="hard_sigmoid", **OPEN), L.Dense(2, "hard_sigmoid")),
    "hard_gru": lambda: hard_gru(True),
    "hard_gru_reset_before": lambda: hard_gru(False),
    "hard_simple": lambda: sequential(L.SimpleRNN(4, activation="hard_sigmoid", **OPEN), L.Dense(2)),
    "float64": lambda: sequential(L.LSTM(4, dtype="float64", **OPEN), L.Dense(2, dtype="float64")),
    "flattened": lambda: sequential(L.GRU(4, return_sequences=True, **FIXED), L.Flatten(), L.Dense(2)),
    "bidirectional": lambda: sequential(L.Bidirectional(L.LSTM(4), **FIXED), L.Dense(2)),
    "hard_cell_state": lambda: sequential(L.LSTM(4, activation="hard_sigmoid", **OPEN)),
    "hard_alone": lambda: sequential(L.GRU(4, **OPEN), L.Activation("hard_sigmoid")),
    "operator": lambda: functional(lambda x: L.GRU(3)(x * 2.0)),
    "two_axes": lambda: sequential(L.GRU(4, return_sequences=True, **FIXED), L.LayerNormalization(axis=[1, 2])),
    "python": lambda: sequential(L.GRU(4, **OPEN), L.Lambda(lambda x: x * 2.0, name="culprit")),
}


def shaken(model: Any) -> Any:
    """The model with large random weights: gates and activations leave the range where all of them look alike."""
    rng = np.random.default_rng(11)
    weights = []
    for variable in model.weights:
        value = rng.normal(scale=0.8, size=variable.shape)
        weights.append(np.abs(value) + 0.3 if "variance" in variable.name or "count" in variable.name else value)
    model.set_weights(weights)
    return model


def inputs(model: Any) -> Any:
    rng = np.random.default_rng(5)
    if isinstance(model.input_shape, list):
        return [rng.normal(size=(4, T, width)) for *_, width in model.input_shape]
    rows = model.input_shape[0] or 4
    if len(model.input_shape) == 2:
        return rng.integers(0, 11, (rows, T))
    x = rng.normal(scale=1.5, size=(rows, T, *model.input_shape[2:]))
    x[1, 2:4] = x[2, 0] = x[3, -1] = 0.0  # masked steps, where a model masks
    return x


def answers(model: Any, x: Any) -> dict[str, Any]:
    """What the model says to the whole, and where its length is open to every prefix: (rows, steps, units)."""
    if isinstance(x, list):
        return {"x": np.concatenate(x, axis=-1), "whole": np.array(model(x, training=False))}
    found = {"x": x, "whole": np.array(model(x, training=False))}
    if model.input_shape[1] is None and found["whole"].ndim == 2:
        found["prefixes"] = np.stack([np.array(model(x[:, : n + 1], training=False)) for n in range(T)], axis=1)
    return found


def main(folder: Path) -> None:
    for name, build in MODELS.items():
        model = build()
        if name != "normalized":  # adapted to data
            shaken(model)
        np.savez(folder / name, **answers(model, inputs(model)))
        for suffix in ("h5", "keras"):
            model.save(folder / f"{name}.{suffix}")
        if name == "lstm":
            model.save(folder / "folder", save_format="tf")
            keras.models.load_model(folder / "folder", compile=False).save(folder / "from_folder.h5")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
