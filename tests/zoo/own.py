"""Layers and models of users' own that are made of Keras: their code is followed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.models import F, L, sequential, shaken
from worker.model.backend import keras

ops = keras.ops
registered = keras.saving.register_keras_serializable("tests.zoo.own")


@registered
class ResidualBlock(L.Layer):
    """Two dilated convolutions with all that stands between them, and the input added, as wide as needed."""

    def __init__(self, filters: int, kernel: int, dilation: int, **more: Any) -> None:
        super().__init__(**more)
        self.filters, self.kernel, self.dilation = filters, kernel, dilation

    def build(self, shape: Any) -> None:
        self.chain: list[Any] = []
        for number in range(2):
            self.chain += [
                L.Conv1D(
                    self.filters, self.kernel, dilation_rate=self.dilation, padding="causal", name=f"conv_{number}"
                ),
                L.BatchNormalization(name=f"norm_{number}"),
                L.Activation("relu", name=f"active_{number}"),
                L.SpatialDropout1D(0.1, name=f"dropped_{number}"),
            ]
        wide = shape[-1] == self.filters
        self.matched = L.Identity() if wide else L.Conv1D(self.filters, 1, padding="same", name="matched")
        self.last = L.Activation("relu", name="last")
        inside = shape
        for layer in self.chain:
            layer.build(inside)
            inside = layer.compute_output_shape(inside)
        self.matched.build(shape)
        super().build(shape)

    def call(self, x: Any, training: Any = None) -> Any:
        y = x
        for layer in self.chain:
            y = layer(y, training=training) if "Dropout" in type(layer).__name__ else layer(y)
        return self.last(L.add([self.matched(x), y])), y

    def get_config(self) -> Any:
        own = {"filters": self.filters, "kernel": self.kernel, "dilation": self.dilation}
        return {**super().get_config(), **own}


@registered
class TCN(L.Layer):
    """Temporal convolutional network: residual blocks, their sums skipped ahead, the last step cut out."""

    def __init__(
        self, filters: int = 4, dilations: Any = (1, 2), sequences: bool = False, code: bool = False, **more: Any
    ) -> None:
        super().__init__(**more)
        self.code = code  # whether a Lambda cuts the last step out
        self.filters, self.dilations, self.sequences = filters, list(dilations), sequences

    def build(self, shape: Any) -> None:
        self.blocks = [
            ResidualBlock(self.filters, 3, dilation, name=f"block_{dilation}") for dilation in self.dilations
        ]
        for number, block in enumerate(self.blocks):
            block.build((*shape[:-1], self.filters) if number else shape)
        self.sliced = L.Lambda(lambda x: x[:, -1, :])
        super().build(shape)

    def call(self, x: Any, training: Any = None) -> Any:
        self.skipped: list[Any] = []  # an attribute that is written in each call, and never read in the next
        for block in self.blocks:
            x, y = block(x, training=training)
            self.skipped.append(y)
        x = L.add(self.skipped)
        return x if self.sequences else self.sliced(x) if self.code else x[:, -1, :]

    def get_config(self) -> Any:
        own = {"filters": self.filters, "dilations": self.dilations, "sequences": self.sequences, "code": self.code}
        return {**super().get_config(), **own}


@registered
class Attended(L.Layer):
    """The Attention class of many tutorials: weights of its own, a softmax over time, the weighted sum."""

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], 1), name="kernel")
        self.bias = self.add_weight(shape=(1,), name="bias")
        super().build(shape)

    def call(self, x: Any) -> Any:
        scores = ops.squeeze(ops.tanh(ops.matmul(x, self.kernel) + self.bias), axis=-1)
        shares = ops.expand_dims(ops.softmax(scores, axis=1), axis=-1)
        return ops.sum(x * shares, axis=1)


@registered
class Tower(keras.Model):
    """A subclassed model within another."""

    def __init__(self, units: int = 3, **more: Any) -> None:
        super().__init__(**more)
        self.units = units
        self.first = L.LSTM(units, return_sequences=True)
        self.normal = L.LayerNormalization()
        self.second = L.GRU(units, return_sequences=True)

    def build(self, shape: Any) -> None:
        for layer in (self.first, self.normal, self.second):
            layer.build(shape)
            shape = (*shape[:-1], self.units)
        self.built = True

    def call(self, x: Any, training: bool = False) -> Any:
        y = self.normal(self.first(x), training=training)
        return y + self.second(y)

    def get_config(self) -> Any:
        return {"name": self.name, "units": self.units}


@registered
class CnnLstm(keras.Model):
    """The CNN-LSTM of many tutorials as a class: short sequences have no answer."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.filtered, self.pooled = L.Conv1D(4, 3, activation="relu"), L.MaxPooling1D(2)
        self.read, self.told = L.LSTM(4), L.Dense(2)

    def build(self, shape: Any) -> None:
        for layer in (self.filtered, self.pooled, self.read, self.told):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.built = True

    def call(self, x: Any) -> Any:
        return self.told(self.read(self.pooled(self.filtered(x))))

    def get_config(self) -> Any:
        return {"name": self.name}


@registered
class Louder(L.Layer):
    """Another number in each call."""

    def call(self, x: Any, by: float = 1.0) -> Any:
        return ops.tanh(x * by)


def louder_twice() -> Any:
    louder, x = Louder(), keras.Input((None, F))
    return shaken(keras.Model(x, L.LSTM(3)(louder(louder(x, by=0.5), by=2.0))))


@registered
class Embedded(L.Layer):
    """An Embedding inside: its ids must be known as such."""

    def build(self, shape: Any) -> None:
        self.table = L.Embedding(7, 4)
        self.table.build(shape)
        super().build(shape)

    def call(self, ids: Any) -> Any:
        return self.table(ids) * 2.0


@registered
class MinimalGRU(L.Layer):
    """A cell of minGRU: neither gate nor candidate looks at the state."""

    def __init__(self, units: int, **more: Any) -> None:
        super().__init__(**more)
        self.units = self.state_size = units
        self.gate, self.candidate = L.Dense(units, activation="sigmoid"), L.Dense(units)

    def build(self, shape: Any) -> None:
        self.gate.build(shape)
        self.candidate.build(shape)
        super().build(shape)

    def call(self, x: Any, states: Any) -> Any:
        gate = self.gate(x)
        h = (1 - gate) * states[0] + gate * self.candidate(x)
        return h, [h]

    def get_config(self) -> Any:
        return {**super().get_config(), "units": self.units}


@registered
class GatedLinear(MinimalGRU):
    """A cell of the RG-LRU kind: a linear recurrence whose decay depends on the input, with a norm kept."""

    def build(self, shape: Any) -> None:
        super().build(shape)
        self.decay = self.add_weight(shape=(self.units,), name="decay")

    def call(self, x: Any, states: Any) -> Any:
        kept = ops.exp(-8 * self.gate(x) * ops.softplus(self.decay))
        h = kept * states[0] + ops.sqrt(1 - kept * kept) * self.candidate(x)
        return h, [h]


ZOO: dict[str, Callable[[], Any]] = {
    "own tcn": lambda: sequential(TCN(), L.Dense(2), length=9),
    "own tcn over time": lambda: sequential(TCN(sequences=True), L.GRU(2)),
    "own attention": lambda: sequential(L.LSTM(4, return_sequences=True), Attended(), L.Dense(1), length=6),
    "own model nested": lambda: sequential(Tower(), Tower(), L.Dense(2), length=5),
    "own cells, minGRU": lambda: sequential(
        L.RNN(MinimalGRU(5), return_sequences=True), L.RNN(MinimalGRU(4)), L.Dense(1)
    ),
    "own cells, RG-LRU": lambda: sequential(L.RNN(GatedLinear(5), return_sequences=True), L.Dense(2), length=6),
    "own CNN-LSTM": lambda: sequential(CnnLstm(), length=10),
    "own layer called in two ways": louder_twice,
    "own embedding": lambda: shaken(keras.Sequential([keras.Input((6,)), Embedded(), L.LSTM(3), L.Dense(F)])),
}

REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {}
