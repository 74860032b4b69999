"""Models that were really trained, for a few steps: moved statistics, adapted layers, losses of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.models import F, L
from worker.model.backend import keras


def _fitted(model: Any, x: Any, y: Any, loss: Any, batch: int = 20, epochs: int = 2) -> Any:
    model.compile("adam", loss)
    model.fit(x, y, batch_size=batch, epochs=epochs, verbose=0, shuffle=False)
    return model


def _windows(count: int, steps: int, features: int = F) -> tuple[Any, Any]:
    """Random walks, and whether the first feature ends above where it began."""
    keras.utils.set_random_seed(1)
    x = np.random.default_rng(4).normal(size=(count, steps, features)).cumsum(axis=1).astype("float32")
    return x, (x[:, -1, :1] > x[:, 0, :1]).astype("float32")


@keras.saving.register_keras_serializable("zoo")  # type: ignore[untyped-decorator]
def squared_and_more(wanted: Any, given: Any) -> Any:
    """A loss that is not of Keras."""
    return keras.ops.mean((wanted - given) ** 2, axis=-1) + 0.1 * keras.ops.mean(keras.ops.abs(given), axis=-1)


def _door() -> Any:
    """Windows of 7, a probability at the end: the usual one, trained."""
    x, y = _windows(200, 7)
    layers = [L.LSTM(32, return_sequences=True), L.LeakyReLU(), L.Dropout(0.2), L.LSTM(16), L.Dropout(0.2)]
    model = keras.Sequential([keras.Input((7, F)), *layers, L.Dense(1, activation="sigmoid")])
    return _fitted(model, x, y, "binary_crossentropy")


def _stateful() -> Any:
    """Trained with a fixed batch and states of its own."""
    x, y = _windows(40, 5)
    model = keras.Sequential(
        [keras.Input(batch_shape=(20, 5, F)), L.GRU(8, stateful=True, return_sequences=True), L.LSTM(6), L.Dense(1)]
    )
    return _fitted(model, x, y, squared_and_more)


def _one_at_a_time() -> Any:
    """Trained with batch 1 on single steps."""
    x, _ = _windows(30, 1)
    model = keras.Sequential([keras.Input(batch_shape=(1, 1, F)), L.LSTM(6, stateful=True), L.Dense(F)])
    return _fitted(model, x, x[:, 0], "mse", batch=1, epochs=1)


def _normalised() -> Any:
    """Statistics that have moved in training, in three kinds of layers."""
    x, y = _windows(100, 9)
    normalization = L.Normalization()
    normalization.adapt(100 * x + 7)
    layers = [L.Dense(6), L.BatchNormalization(), L.GRU(5, return_sequences=True), L.LayerNormalization()]
    model = keras.Sequential(
        [keras.Input((9, F)), normalization, *layers, L.LSTM(4), L.BatchNormalization(), L.Dense(1)]
    )
    return _fitted(model, 100 * x + 7, y, "mse")


def _characters() -> Any:
    text = "the quick brown fox jumps over the lazy dog and runs away from the quick dog " * 6
    items = sorted(set(text))
    ids = np.array([items.index(c) for c in text])
    windows = np.stack([ids[start : start + 21] for start in range(0, len(ids) - 21, 3)])
    keras.utils.set_random_seed(2)
    layers = [
        L.Embedding(len(items), 8),
        L.LSTM(24, return_sequences=True),
        L.TimeDistributed(L.Dense(len(items), activation="softmax")),
    ]
    model = keras.Sequential([keras.Input((20,)), *layers])
    return _fitted(model, windows[:, :-1], windows[:, 1:], "sparse_categorical_crossentropy")


def _padded() -> Any:
    """Sequences of all lengths, filled up with a value that is masked."""
    x, y = _windows(120, 10)
    for row, length in enumerate(np.random.default_rng(3).integers(3, 10, len(x))):
        x[row, length:] = -1
    model = keras.Sequential([keras.Input((10, F)), L.Masking(-1.0), L.GRU(8, return_sequences=True), L.LSTM(5)])
    model.add(L.Dense(1))
    return _fitted(model, x, y, "mse")


def _convolutions() -> Any:
    """A causal network with residuals, read out by a recurrent layer."""
    steps, _ = _windows(100, 16)
    x = keras.Input((16, F))
    y = L.Conv1D(8, 3, padding="causal", activation="relu")(x)
    y = L.Add()([y, L.Conv1D(8, 3, padding="causal", dilation_rate=2, activation="relu")(y)])
    model = keras.Model(x, L.Dense(F)(L.GRU(6, return_sequences=True)(y)))
    return _fitted(model, steps[:, :, :], np.roll(steps, -1, axis=1), "mse")


def _forecast() -> Any:
    """One series, the next value, with recurrent dropout in training."""
    series = np.sin(np.arange(400) / 9).astype("float32")
    x = np.stack([series[start : start + 24] for start in range(370)])[..., np.newaxis]
    keras.utils.set_random_seed(3)
    layers = [L.LSTM(12, return_sequences=True, recurrent_dropout=0.1, dropout=0.1), L.SimpleRNN(6), L.Dense(1)]
    model = keras.Sequential([keras.Input((None, 1)), *layers])
    return _fitted(model, x, series[24:394, np.newaxis], "mae", epochs=1)


ZOO: dict[str, Callable[[], Any]] = {
    "trained door": _door,
    "trained with batch 20 and states": _stateful,
    "trained one at a time": _one_at_a_time,
    "trained with statistics": _normalised,
    "trained on characters": _characters,
    "trained on padded sequences": _padded,
    "trained with convolutions": _convolutions,
    "trained forecast": _forecast,
}

REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {}
