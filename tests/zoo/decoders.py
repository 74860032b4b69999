"""Decoders behind a result so far: autoencoders, forecasters, anything along an axis that is no time of the stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.models import F, L, sequential, shaken
from worker.model.backend import keras

STEPS = 4


def _autoencoder(*middle: Any) -> Any:
    """As for anomalies in readings: the window again, n × width numbers."""
    layers = [L.LSTM(5), L.RepeatVector(STEPS), *middle, L.TimeDistributed(L.Dense(F))]
    return sequential(*layers, length=STEPS)


def _forecaster() -> Any:
    """Sequence to sequence without feedback: the decoder begins with the encoder's states."""
    x = keras.Input((None, F))
    y, h, c = L.LSTM(5, return_state=True)(x)
    decoded = L.LSTM(5, return_sequences=True)(L.RepeatVector(3)(y), initial_state=[h, c])
    return shaken(keras.Model(x, {"next": L.Dense(1)(decoded), "now": L.Dense(2)(y)}))


def _convolutional() -> Any:
    return sequential(
        L.GRU(6),
        L.RepeatVector(6),
        L.Conv1D(4, 3, padding="same"),
        L.MaxPooling1D(2),
        L.Conv1D(4, 2, strides=2),
        L.UpSampling1D(2),
        L.Flatten(),
        L.Dense(2),
        length=6,
    )


def _looking_around() -> Any:
    x = keras.Input((5, F))
    steps = L.Reshape((3, 4))(L.LSTM(12)(x))
    looked = L.LayerNormalization()(steps + L.MultiHeadAttention(2, 3)(steps, steps))
    twice = L.EinsumDense("btf,fu->btu", (3, 4))(looked)
    return shaken(keras.Model(x, keras.ops.mean(L.Softmax(axis=1)(twice) * looked, axis=1)))


def _with_a_constant() -> Any:
    """One vector per stream at every step of the stream, and the result so far at every step of the decoder."""
    x, kind = keras.Input((6, F)), keras.Input((2,))
    y = L.GRU(4)(L.Concatenate()([x, L.RepeatVector(6)(kind)]))
    return shaken(keras.Model([x, kind], L.GRU(3, return_sequences=True)(L.RepeatVector(6)(y))))


ZOO: dict[str, Callable[[], Any]] = {
    "autoencoder": lambda: _autoencoder(L.LSTM(6, return_sequences=True)),
    "autoencoder, both ways": lambda: _autoencoder(L.Bidirectional(L.GRU(3, return_sequences=True))),
    "autoencoder, unrolled and stateful": lambda: shaken(
        keras.Sequential(
            [
                keras.Input((STEPS, F), batch_size=5),
                L.LSTM(4, stateful=True),
                L.RepeatVector(STEPS),
                L.GRU(4, return_sequences=True, stateful=True, unroll=True),
                L.Bidirectional(L.LSTM(2, stateful=True)),
                L.Dense(2),
            ]
        )
    ),
    "forecaster": _forecaster,
    "decoder of convolutions": _convolutional,
    "decoder that looks around": _looking_around,
    "decoder of states in a row": lambda: sequential(L.LSTM(6), L.Reshape((2, 3)), L.SimpleRNN(3), L.Dense(1)),
    "decoder, masked": lambda: _autoencoder(L.Masking(), L.LSTM(3, return_sequences=True, go_backwards=True)),
    "decoder and a constant": _with_a_constant,
}

REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {}
