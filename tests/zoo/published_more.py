"""More models as people publish them: with attention, with layers of their own, for sound, hearts, machines, energy."""

from __future__ import annotations

from typing import Any

from tests.zoo.published import Published
from worker.model.backend import keras

L = keras.layers
Input = keras.Input
registered = keras.saving.register_keras_serializable("tests.zoo.published")


def attention_lstm() -> Any:
    """Attention pooling of the LSTM's outputs, as older examples spell it."""
    inputs = Input((12, 5))
    steps = L.LSTM(6, return_sequences=True)(inputs)
    shares = L.Activation("softmax")(L.Flatten()(L.Dense(1, activation="tanh")(steps)))
    shares = L.Permute((2, 1))(L.RepeatVector(6)(shares))
    pooled = keras.ops.sum(L.Multiply()([steps, shares]), axis=1)
    return keras.Model(inputs, L.Dense(3, activation="softmax")(pooled))


def attention_bilstm() -> Any:
    inputs = Input((12, 5))
    steps = L.Bidirectional(L.LSTM(6, return_sequences=True))(inputs)
    shares = L.Softmax(axis=1)(L.Dense(1)(L.Activation("tanh")(steps)))
    pooled = keras.ops.sum(steps * shares, axis=1)
    return keras.Model(inputs, L.Dense(3, activation="softmax")(pooled))


@registered
class ResidualBlock(keras.layers.Layer):
    """Two causal convolutions with a way around them."""

    def __init__(self, filters: int, width: int, dilation: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters, self.width, self.dilation = filters, width, dilation
        self.convolutions = [L.Conv1D(filters, width, padding="causal", dilation_rate=dilation) for _ in range(2)]
        self.dropouts = [L.SpatialDropout1D(0.1) for _ in range(2)]
        self.around = L.Conv1D(filters, 1, padding="same")

    def build(self, shape: Any) -> None:
        inside = (*shape[:-1], self.filters)
        self.convolutions[0].build(shape)
        self.convolutions[1].build(inside)
        self.around.build(shape)
        self.built = True

    def call(self, x: Any) -> Any:
        y = x
        for convolution, dropout in zip(self.convolutions, self.dropouts, strict=True):
            y = dropout(keras.ops.relu(convolution(y)))
        return keras.ops.relu(y + self.around(x)), y

    def get_config(self) -> Any:
        config = {"filters": self.filters, "width": self.width, "dilation": self.dilation}
        return {**super().get_config(), **config}


@registered
class ConvolutionalNetwork(keras.layers.Layer):
    """Residual blocks of growing dilation; the sum of what skips, at the last step."""

    def __init__(self, filters: int, width: int, dilations: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters, self.width, self.dilations = filters, width, tuple(dilations)
        self.blocks = [ResidualBlock(filters, width, dilation) for dilation in self.dilations]

    def build(self, shape: Any) -> None:
        for block in self.blocks:
            block.build(shape)
            shape = (*shape[:-1], self.filters)
        self.built = True

    def call(self, x: Any) -> Any:
        skipped = []
        for block in self.blocks:
            x, skip = block(x)
            skipped.append(skip)
        return L.add(skipped)[:, -1]

    def get_config(self) -> Any:
        return {
            **super().get_config(), "filters": self.filters, "width": self.width, "dilations": self.dilations,
        }  # fmt: skip


def tcn() -> Any:
    return keras.Sequential([Input((None, 3)), ConvolutionalNetwork(6, 3, (1, 2, 4)), L.Dense(1)])


def lstm_fcn() -> Any:
    inputs = Input((20, 1))
    x = L.Dropout(0.8)(L.LSTM(4)(L.Permute((2, 1))(inputs)))
    y = inputs
    for filters, width in ((8, 8), (8, 5), (8, 3)):
        y = L.Activation("relu")(L.BatchNormalization()(L.Conv1D(filters, width, padding="same")(y)))
    return keras.Model(inputs, L.Dense(3, activation="softmax")(L.concatenate([x, L.GlobalAveragePooling1D()(y)])))


def keyword_spotting() -> Any:
    """A step is a column of the spectrogram, (16, 1)."""
    return keras.Sequential([
        Input((20, 16, 1)), L.Resizing(8, 8), L.Normalization(), L.Conv2D(4, 3, activation="relu"),
        L.Conv2D(8, 3, activation="relu"), L.MaxPooling2D(), L.Dropout(0.25), L.Flatten(),
        L.Dense(8, activation="relu"), L.Dropout(0.5), L.Dense(8),
    ])  # fmt: skip


def heartbeats() -> Any:
    x = L.Conv1D(4, 5)(inputs := Input((60, 1)))
    for _ in range(2):
        y = L.Conv1D(4, 5, padding="same", activation="relu")(x)
        y = L.Conv1D(4, 5, padding="same")(y)
        x = L.MaxPooling1D(5, 2)(L.Activation("relu")(L.Add()([x, y])))
    x = L.Dense(8, activation="relu")(L.Flatten()(x))
    return keras.Model(inputs, L.Dense(5, activation="softmax")(x))


def ecg_cnn_lstm() -> Any:
    return keras.Sequential([
        Input((60, 1)), L.Conv1D(4, 8, activation="relu"), L.MaxPooling1D(2), L.Conv1D(6, 6, activation="relu"),
        L.MaxPooling1D(2), L.LSTM(6), L.Dense(5, activation="softmax"),
    ])  # fmt: skip


def bearing_faults() -> Any:
    return keras.Sequential([
        Input((64, 1)), L.Conv1D(4, 16, strides=8, padding="same", activation="relu"), L.MaxPooling1D(2),
        L.Conv1D(4, 3, padding="same", activation="relu"), L.MaxPooling1D(2), L.Flatten(),
        L.Dense(6, activation="sigmoid"), L.Dense(4, activation="softmax"),
    ])  # fmt: skip


def weather() -> Any:
    inputs = Input((24, 7))
    return keras.Model(inputs, L.Dense(1)(L.LSTM(8)(inputs)))


def energy_convolution() -> Any:
    return keras.Sequential([
        Input((None, 5)), L.Conv1D(8, 3, activation="relu"), L.Dense(8, activation="relu"), L.Dense(1),
    ])  # fmt: skip


def energy_in_one_shot() -> Any:
    return keras.Sequential([
        Input((24, 5)), L.LSTM(8), L.Dense(6 * 5), L.Reshape([6, 5]),
    ])  # fmt: skip


def energy_with_a_decoder() -> Any:
    """Encoder → the forecast of six steps, with batch normalisation between."""
    return keras.Sequential([
        Input((24, 5)), L.LSTM(8, activation="tanh"), L.BatchNormalization(), L.RepeatVector(6),
        L.LSTM(8, return_sequences=True), L.TimeDistributed(L.Dense(1)),
    ])  # fmt: skip


def causal_transformer() -> Any:
    x = inputs = Input((None, 4))
    y = L.MultiHeadAttention(num_heads=2, key_dim=4)(x, x, use_causal_mask=True)
    x = L.LayerNormalization()(x + y)
    y = L.Dense(4)(L.Dense(8, activation="relu")(x))
    x = L.LayerNormalization()(x + y)
    return keras.Model(inputs, L.Dense(2)(x))


PUBLISHED = {
    "attention-lstm": Published("github.com/philipperemy/keras-attention, many to one", attention_lstm),
    "attention-bilstm": Published("Zhou et al. 2016, doi:10.18653/v1/P16-2034", attention_bilstm, window=12),
    "tcn": Published("Bai, Kolter and Koltun 2018, arXiv:1803.01271; github.com/philipperemy/keras-tcn", tcn),
    "lstm-fcn": Published("Karim et al. 2018, arXiv:1709.05206", lstm_fcn, window=20),
    "keyword-spotting": Published("tensorflow.org/tutorials/audio/simple_audio", keyword_spotting, window=20),
    "heartbeats": Published("Kachuee, Fazeli and Sarrafzadeh 2018, arXiv:1805.00794", heartbeats, window=60),
    "ecg-cnn-lstm": Published("Oh et al. 2018, doi:10.1016/j.compbiomed.2018.06.002", ecg_cnn_lstm, first=21),
    "bearing-faults": Published("Zhang et al. 2017, WDCNN, doi:10.3390/s17020425", bearing_faults, window=64),
    "weather": Published("keras.io/examples/timeseries/timeseries_weather_forecasting", weather),
    "energy-convolution": Published(
        "tensorflow.org/tutorials/structured_data/time_series, convolution", energy_convolution, first=3
    ),
    "energy-one-shot": Published(
        "tensorflow.org/tutorials/structured_data/time_series, multi-step LSTM", energy_in_one_shot
    ),
    "energy-decoder": Published("encoder and decoder with RepeatVector, as forecasts are built", energy_with_a_decoder),
    "causal-transformer": Published("Radford et al. 2018, a block of GPT, for numbers", causal_transformer, memory=24),
}
