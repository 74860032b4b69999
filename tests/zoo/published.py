"""Models as people publish them, made small: layers, order and options as in the source, with fewer units and steps.

Each says how it is to run: streamed, or, where its answer depends on the whole window, by its window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worker.model.backend import keras

L = keras.layers
Input = keras.Input


@dataclass(frozen=True, slots=True)
class Published:
    """``window``: steps of the window that it needs, None where it streams. ``first``: the event answered first.

    ``memory``: steps that its attention looks back over.
    """

    source: str
    make: Callable[[], Any]
    window: int | None = None
    first: int = 1
    memory: int | None = None


def cnn_lstm() -> Any:
    return keras.Sequential([
        Input((24, 9)), L.Conv1D(8, 3, activation="relu"), L.Conv1D(8, 3, activation="relu"), L.Dropout(0.5),
        L.MaxPooling1D(2), L.LSTM(10), L.Dropout(0.5), L.Dense(10, activation="relu"), L.Dense(6, activation="softmax"),
    ])  # fmt: skip


def cnn_lstm_of_parts() -> Any:
    """A step is a part of the window, (8, 3)."""
    inside = [L.Conv1D(6, 3, activation="relu"), L.Conv1D(6, 3, activation="relu"), L.Dropout(0.5), L.MaxPooling1D(2)]
    parts = [L.TimeDistributed(layer) for layer in [*inside, L.Flatten()]]
    return keras.Sequential([
        Input((None, 8, 3)), *parts, L.LSTM(10), L.Dropout(0.5), L.Dense(10, activation="relu"),
        L.Dense(6, activation="softmax"),
    ])  # fmt: skip


def conv_lstm() -> Any:
    """A step is a part of the window, (1, 8, 3)."""
    return keras.Sequential([
        Input((4, 1, 8, 3)), L.ConvLSTM2D(4, (1, 3), activation="relu"), L.Dropout(0.5), L.Flatten(),
        L.Dense(10, activation="relu"), L.Dense(6, activation="softmax"),
    ])  # fmt: skip


def deep_conv_lstm() -> Any:
    convolutions = [L.Conv1D(8, 5, activation="relu") for _ in range(4)]
    return keras.Sequential([
        Input((24, 7)), *convolutions, L.LSTM(12, return_sequences=True), L.Dropout(0.5), L.LSTM(12), L.Dropout(0.5),
        L.Dense(5, activation="softmax"),
    ])  # fmt: skip


def stacked_lstm() -> Any:
    return keras.Sequential([
        Input((50, 25)), L.LSTM(10, return_sequences=True), L.Dropout(0.2), L.LSTM(5), L.Dropout(0.2),
        L.Dense(1, activation="sigmoid"),
    ])  # fmt: skip


def sentiment_bilstm() -> Any:
    ids = Input((None,), dtype="int32")
    x = L.Embedding(50, 8)(ids)
    x = L.Bidirectional(L.LSTM(6, return_sequences=True))(x)
    x = L.Bidirectional(L.LSTM(6))(x)
    return keras.Model(ids, L.Dense(1, activation="sigmoid")(x))


def lstm_autoencoder() -> Any:
    return keras.Sequential([
        Input((9, 1)), L.LSTM(10, activation="relu"), L.RepeatVector(9),
        L.LSTM(10, activation="relu", return_sequences=True), L.TimeDistributed(L.Dense(1)),
    ])  # fmt: skip


def convolutional_autoencoder() -> Any:
    return keras.Sequential([
        Input((24, 1)), L.Conv1D(8, 7, padding="same", strides=2, activation="relu"), L.Dropout(0.2),
        L.Conv1D(4, 7, padding="same", strides=2, activation="relu"),
        L.Conv1DTranspose(4, 7, padding="same", strides=2, activation="relu"), L.Dropout(0.2),
        L.Conv1DTranspose(8, 7, padding="same", strides=2, activation="relu"),
        L.Conv1DTranspose(1, 7, padding="same"),
    ])  # fmt: skip


def fully_convolutional() -> Any:
    x = inputs = Input((30, 1))
    for _ in range(3):
        x = L.Conv1D(8, 3, padding="same")(x)
        x = L.BatchNormalization()(x)
        x = L.ReLU()(x)
    return keras.Model(inputs, L.Dense(2, activation="softmax")(L.GlobalAveragePooling1D()(x)))


def residual() -> Any:
    x = inputs = Input((30, 3))
    for filters in (4, 8):
        shortcut = L.BatchNormalization()(L.Conv1D(filters, 1, padding="same")(x))
        for width in (8, 5, 3):
            x = L.Conv1D(filters, width, padding="same")(x)
            x = L.BatchNormalization()(x)
            x = L.ReLU()(x) if width > 3 else x
        x = L.ReLU()(L.Add()([shortcut, x]))
    return keras.Model(inputs, L.Dense(3, activation="softmax")(L.GlobalAveragePooling1D()(x)))


def inception_time() -> Any:
    x = inputs = Input((30, 3))
    for _ in range(2):
        narrow = L.Conv1D(4, 1, padding="same", use_bias=False)(x)
        branches = [L.Conv1D(4, width, padding="same", use_bias=False)(narrow) for width in (9, 5, 3)]
        branches.append(L.Conv1D(4, 1, padding="same", use_bias=False)(L.MaxPooling1D(3, 1, padding="same")(x)))
        x = L.ReLU()(L.BatchNormalization()(L.Concatenate(axis=2)(branches)))
    return keras.Model(inputs, L.Dense(3, activation="softmax")(L.GlobalAveragePooling1D()(x)))


def transformer() -> Any:
    x = inputs = Input((20, 1))
    for _ in range(2):
        y = L.MultiHeadAttention(key_dim=4, num_heads=2, dropout=0.25)(x, x)
        x = L.LayerNormalization(epsilon=1e-6)(L.Dropout(0.25)(y)) + x
        y = L.Dropout(0.25)(L.Conv1D(4, 1, activation="relu")(x))
        x = L.LayerNormalization(epsilon=1e-6)(L.Conv1D(1, 1)(y)) + x
    x = L.GlobalAveragePooling1D(data_format="channels_last")(x)
    x = L.Dropout(0.4)(L.Dense(8, activation="relu")(x))
    return keras.Model(inputs, L.Dense(2, activation="softmax")(x))


def wavenet() -> Any:
    dilated = [L.Conv1D(6, 2, padding="causal", activation="relu", dilation_rate=rate) for rate in (1, 2, 4, 8) * 2]
    return keras.Sequential([Input((None, 1)), *dilated, L.Conv1D(10, 1)])


def sound_crnn() -> Any:
    """A step is a column of the spectrogram, (16, 1)."""
    x = inputs = Input((None, 16, 1))
    for pool in (4, 2):
        x = L.Conv2D(4, (3, 3), padding="same")(x)
        x = L.BatchNormalization()(x)
        x = L.MaxPooling2D((1, pool))(L.ReLU()(x))
    x = L.Reshape((-1, 2 * 4))(x)
    x = L.Bidirectional(L.GRU(4, return_sequences=True))(x)
    return keras.Model(inputs, L.TimeDistributed(L.Dense(3, activation="sigmoid"))(x))


PUBLISHED = {
    "cnn-lstm": Published("the tutorials' CNN-LSTM for activity recognition (UCI HAR)", cnn_lstm, first=6),
    "cnn-lstm-parts": Published(
        "machinelearningmastery.com, How to Develop RNN Models for Human Activity Recognition: CNN-LSTM",
        cnn_lstm_of_parts,
    ),
    "conv-lstm": Published(
        "machinelearningmastery.com, How to Develop RNN Models for Human Activity Recognition: ConvLSTM", conv_lstm
    ),
    "deep-conv-lstm": Published("Ordóñez and Roggen 2016, doi:10.3390/s16010115", deep_conv_lstm, first=17),
    "predictive-maintenance": Published("github.com/umbertogriffo/Predictive-Maintenance-using-LSTM", stacked_lstm),
    "bilstm": Published("keras.io/examples/nlp/bidirectional_lstm_imdb", sentiment_bilstm, window=12),
    "lstm-autoencoder": Published(
        "machinelearningmastery.com, A Gentle Introduction to LSTM Autoencoders", lstm_autoencoder
    ),
    "conv-autoencoder": Published(
        "keras.io/examples/timeseries/timeseries_anomaly_detection", convolutional_autoencoder, window=24
    ),
    "fcn": Published("keras.io/examples/timeseries/timeseries_classification_from_scratch", fully_convolutional),
    "resnet": Published("Wang, Yan and Oates 2017, arXiv:1611.06455", residual),
    "inception-time": Published("Ismail Fawaz et al. 2020, arXiv:1909.04939", inception_time),
    "transformer": Published(
        "keras.io/examples/timeseries/timeseries_classification_transformer", transformer, window=20
    ),
    "wavenet": Published("van den Oord et al. 2016, arXiv:1609.03499, simplified as in textbooks", wavenet),
    "sound-crnn": Published("Adavanne et al. 2019, SELDnet, arXiv:1807.00129", sound_crnn, window=10),
}
