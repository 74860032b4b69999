"""Cells of users' own: what Keras' RNN takes besides its own cells."""

from __future__ import annotations

from typing import Any

from worker.model.backend import keras

registered = keras.saving.register_keras_serializable("tests.zoo.cells")


@registered
class Minimal(keras.layers.Layer):
    """One state that is the output, and no get_initial_state: Keras begins at zeros."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = self.state_size = units

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(self.units, self.units), name="recurrent_kernel")

    def call(self, inputs: Any, states: Any) -> Any:
        output = keras.ops.tanh(inputs @ self.kernel + states[0] @ self.recurrent_kernel)
        return output, [output]

    def get_config(self) -> Any:
        return {**super().get_config(), "units": self.units}


@registered
class Learned(Minimal):
    """Begins at a learned state."""

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.first = self.add_weight(shape=(self.units,), name="first")

    def get_initial_state(self, batch_size: Any = None) -> Any:
        return [keras.ops.tile(keras.ops.convert_to_tensor(self.first)[None], (batch_size, 1))]


@registered
class Accumulator(keras.layers.Layer):
    """Three states of several shapes, one of them a matrix that begins at one; the output is none of them."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.state_size = [units, 1, units]
        self.output_size = units + 1

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")

    def get_initial_state(self, batch_size: Any = None) -> Any:
        zeros, ones = keras.ops.zeros, keras.ops.ones
        sizes = (batch_size, self.units), (batch_size, 1), (batch_size, 2, self.units)
        return [zeros(sizes[0], self.compute_dtype), zeros(sizes[1], self.compute_dtype), ones(sizes[2], "float32")]

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        mean, count, rows = states
        new = inputs @ self.kernel
        count = count + 1
        mean = mean + (new - mean) / count
        rows = 0.5 * rows + keras.ops.stack([new, mean], axis=1)
        dropped = keras.random.dropout(mean, 0.5) if training else mean
        return keras.ops.concatenate([dropped * keras.ops.sum(rows, axis=1), 1 / count], axis=-1), [mean, count, rows]

    def get_config(self) -> Any:
        return {**super().get_config(), "units": self.units}


@registered
class Plain:
    """A cell that is no layer: half of what was, and the input."""

    compute_dtype = "float32"

    def __init__(self, state_size: int) -> None:
        self.state_size = state_size

    def __call__(self, inputs: Any, states: Any) -> Any:
        return self.call(inputs, states)

    def call(self, inputs: Any, states: Any) -> Any:
        output = states[0] * 0.5 + inputs
        return output + 1, [output]

    def get_config(self) -> Any:
        return {"state_size": self.state_size}

    @classmethod
    def from_config(cls, config: Any) -> Plain:
        return cls(**config)


@registered
class Dropping(keras.layers.LSTMCell):
    """Of another kind than LSTMCell only by its class: what it does is not known."""

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        output, states = super().call(inputs, states, training=training)
        return output * 0.5, states


@registered
class Residual(keras.layers.Layer):
    """A cell around a cell: adds the input to its output."""

    def __init__(self, cell: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cell = cell
        self.state_size = cell.state_size
        self.output_size = cell.units

    def build(self, input_shape: Any) -> None:
        if not self.cell.built:  # a cell made from its configuration is built already
            self.cell.build(input_shape)

    def get_initial_state(self, batch_size: Any = None) -> Any:
        return self.cell.get_initial_state(batch_size)

    def call(self, inputs: Any, states: Any, training: Any = None) -> Any:
        output, states = self.cell(inputs, states, training=training)
        return output + inputs, states

    def get_config(self) -> Any:
        return {**super().get_config(), "cell": keras.saving.serialize_keras_object(self.cell)}

    @classmethod
    def from_config(cls, config: Any) -> Residual:
        return cls(keras.saving.deserialize_keras_object(config.pop("cell")), **config)


@registered
class OwnLSTM(keras.layers.LSTM):
    """A subclass may compute anything."""


@registered
class Drawing(Minimal):
    def get_initial_state(self, batch_size: Any = None) -> Any:
        return [keras.random.normal((batch_size, self.units))]


@registered
class Counting(Minimal):
    def get_initial_state(self, batch_size: Any = None) -> Any:
        return [keras.ops.ones((batch_size, self.units)) * batch_size]


@registered
class Growing(Minimal):
    """Returns a state of another shape than it takes."""

    def call(self, inputs: Any, states: Any) -> Any:
        output, _ = super().call(inputs, [states[0][:, : self.units]])
        return output, [keras.ops.concatenate([output, output], axis=-1)]
