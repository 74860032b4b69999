"""For every piece of advice in a refusal: a model that is refused with it, and the model once it is followed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.models import F, L, Subclassed, shaken
from worker.model.backend import keras, tf
from worker.model.rules import Time, run_as_it_is, streams

ops = keras.ops
T, U = 6, 4
IDS = 7
Model = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Remedy:
    """``refused`` and, each a way to follow the advice, ``followed``.

    ``keeps``: what needs no training again. "numbers": the followed model says the same with the same weights;
    "weights": it is put together otherwise; "": another model, and the advice must say that it is to be trained.
    """

    refused: Model
    followed: tuple[Model, ...]
    keeps: str = ""
    memory: int | None = None  # model.memory of the followed models, and of the refused one
    given: int | None = None


def of(*layers: Any, shape: tuple[int | None, ...] = (T, F), dtype: str = "float32") -> Model:
    """A Sequential model, layers made by functions, so that each call makes new ones."""
    return lambda: shaken(keras.Sequential([keras.Input(shape, dtype=dtype), *(layer() for layer in layers)]))


def on(body: Callable[..., Any], *shapes: tuple[int | None, ...], dtypes: tuple[str, ...] = ()) -> Model:
    """A Functional model; what still runs over time at its end goes through a recurrent layer."""

    def make() -> Any:
        given = shapes or ((T, F),)
        kinds = dtypes or ("float32",) * len(given)
        inputs = [keras.Input(shape, dtype=dtype) for shape, dtype in zip(given, kinds, strict=True)]
        y = body(*inputs)
        if isinstance(y, list):
            return shaken(keras.Model(inputs, y))
        if len(y.shape) > 3:
            y = L.TimeDistributed(L.Flatten())(y)
        return shaken(keras.Model(inputs, L.Dense(2)(L.GRU(3)(y) if len(y.shape) == 3 else y)))

    return make


def lstm(**more: Any) -> Callable[[], Any]:
    return lambda: L.LSTM(U, **{"return_sequences": True, **more})


def last() -> Any:
    return L.LSTM(3)


def dense() -> Any:
    return L.Dense(2)


def mel(**more: Any) -> Any:
    return L.MelSpectrogram(fft_length=8, sequence_stride=4, num_mel_bins=3, **more)


def _as_of_keras_2(layer: Any) -> Any:
    """As it comes from a file of Keras 2."""
    layer.of_keras_2 = True
    return layer


class Clip(keras.layers.Layer):
    """Not of keras.ops, so its code can't be followed."""

    def call(self, x: Any) -> Any:
        return tf.clip_by_value(x, -0.5, 0.5)


class ClipWithARule(Clip):
    pass


class Dropping(keras.layers.Layer):
    """Keras drops a mask here, as in training."""

    def call(self, x: Any) -> Any:
        return ops.tanh(x)


class Handing(Dropping):
    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.supports_masking = True

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return None if mask is None else ops.logical_not(mask)


class Ending(Handing):
    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None


class Counted(keras.layers.Layer):
    """Positions as in the transformer examples of Keras."""

    def call(self, x: Any) -> Any:
        return x + ops.cast(ops.arange(ops.shape(x)[1]), "float32")[:, None]


@streams(
    ClipWithARule,
)
def _clip(call: Any, form: Any) -> Any:
    return run_as_it_is(call, form, form.time(call.tensors[0]))


class Doubled(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return ops.repeat(x, 2, axis=1)


class Halved(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return ops.split(x, 2, axis=1)[0]


@streams(Doubled, Halved)
def _wrong(call: Any, form: Any) -> Any:
    return run_as_it_is(call, form, Time.EACH_STEP)


class Shapeless(Clip):
    def compute_output_shape(self, shape: Any) -> Any:
        raise NotImplementedError


class Factor:
    """Keras can't write this into a configuration."""

    number = 0.5


class Cell(keras.layers.Layer):
    """A cell that must be told its size, and tells nobody."""

    def __init__(self, units: int, **more: Any) -> None:
        super().__init__(**more)
        self.units = self.state_size = units

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        self.built = True

    def call(self, x: Any, states: Any) -> Any:
        h = 0.5 * states[0] + ops.tanh(ops.matmul(x, self.kernel))
        return h, [h]


class ToldCell(Cell):
    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


class FactorCell(Cell):
    def __init__(self, units: int, factor: Any = None, **more: Any) -> None:
        super().__init__(units, **more)
        self.factor = factor


class BegunCell(ToldCell):
    def get_initial_state(self, batch_size: Any = None) -> Any:
        return [ops.ones((batch_size, self.units)) / 3]


class RandomCell(ToldCell):
    def get_initial_state(self, batch_size: Any = None) -> Any:
        return [keras.random.normal((batch_size, self.units))]


class StubbornCell(ToldCell):
    def get_initial_state(self, batch_size: Any = None) -> Any:
        return [ops.zeros((batch_size.no_such_thing, self.units))]


class DoubledCell(ToldCell):
    def call(self, x: Any, states: Any) -> Any:
        h, _ = super().call(x, states)
        return h, [ops.cast(h, "float64")]


def _unread(batch: Any) -> Any:
    model = keras.Sequential([keras.Input((T, F)), L.LSTM(U, name="memory")])
    model.layers[0].stateful = True
    return model


def _subclassed() -> Any:
    model = Subclassed()
    model(np.zeros((1, T, F), "float32"))
    return shaken(model)


def _shapeless() -> Any:
    model = keras.Sequential([keras.Input((T, F)), L.LSTM(U, return_sequences=True)])
    model.add(Shapeless())
    return model


def _encoder(model: Any) -> Any:
    """What the advice says, word for word."""
    return keras.Model(model.inputs, model.get_layer("encoder").output)


def _started(x: Any) -> Any:
    _, h, c = L.LSTM(U, return_state=True, name="encoder")(x)
    return L.LSTM(U, name="decoder")(x, initial_state=[h, c])


def _lengths() -> Any:
    source, target = keras.Input((9, F), name="source"), keras.Input((T, F), name="target")
    return keras.Model([source, target], [L.LSTM(U, name="encoder")(source), L.LSTM(3)(target)])


def _constants(*widths: int) -> Model:
    def make() -> Any:
        x, constants = keras.Input((None, F)), [keras.Input((width,)) for width in widths]
        return shaken(keras.Model([x, *constants], L.Dense(2)(L.Concatenate()([L.LSTM(U)(x), *constants]))))

    return make


def _scores(softmax: Any) -> Callable[[Any], Any]:
    return lambda x: ops.sum(x * softmax(L.Dense(1)(x)), axis=1)


def _by_hand(s: Any) -> Any:
    share = ops.exp(s - ops.max(s, axis=1, keepdims=True))
    return share / ops.sum(share, axis=1, keepdims=True)


def _attended(h: Any) -> Any:
    return L.Attention()([h, h])


def _luong(h: Any) -> Any:
    return L.Dot(axes=1)([h, L.Softmax(axis=1)(L.Dot(axes=(1, 2))([h[:, -1], h]))])


def _causal(h: Any) -> Any:
    return L.Attention()([h, h], use_causal_mask=True)


PICTURES = (T, 8, 8, 1)
EACH = L.TimeDistributed

REMEDIES: dict[str, Remedy] = {
    # ---- the whole model
    "no state": Remedy(of(dense), (of(last, dense),)),
    "padded end": Remedy(of(lstm(), lambda: L.ZeroPadding1D((2, 0))), (of(lstm()),), "weights"),
    "shares answered": Remedy(
        on(lambda x: [ops.softmax(x, axis=1), L.LSTM(3)(x)]), (on(lambda x: [L.LSTM(3)(x)]),), "weights"
    ),
    "unknown width": Remedy(
        of(last, lambda: L.Lambda(lambda x: x * 2, output_shape=(None,))),
        (of(last, lambda: L.Lambda(lambda x: x * 2, output_shape=(3,))),),
        "numbers",
    ),
    "subclassed": Remedy(_subclassed, (of(last),), "numbers"),
    "never built": Remedy(lambda: keras.Sequential([L.LSTM(3)]), (of(last),), "weights"),
    "no configuration": Remedy(
        of(lambda: L.RNN(FactorCell(U, Factor()))), (of(lambda: L.RNN(ToldCell(U))),), "numbers"
    ),
    "shapeless": Remedy(_shapeless, (of(lstm(), ClipWithARule, last),), "weights"),
    "code without a shape": Remedy(
        of(lstm(), lambda: L.Lambda(lambda x: x.numpy()), last),
        (of(lstm(), lambda: L.Activation("relu"), last),),
        "weights",
    ),
    # ---- inputs
    "seven constants": Remedy(_constants(1, 2, 3, 4, 5, 6, 7), (_constants(28),), "weights"),
    "words": Remedy(
        on(lambda x: L.Embedding(IDS, 3)(L.StringLookup(vocabulary=["a", "b"])(x)), (T,), dtypes=("string",)),
        (on(lambda x: L.Embedding(IDS, 3)(x), (T,), dtypes=("int32",)),),
        "weights",
    ),
    "unknown step": Remedy(
        on(lambda x: EACH(L.GlobalMaxPooling1D())(x), (T, None, 2)),
        (on(lambda x: EACH(L.GlobalMaxPooling1D())(x), (T, 5, 2)),),
        "weights",
    ),
    "two lengths": Remedy(
        _lengths,
        (
            lambda: keras.Model((m := _lengths()).inputs[0], m.get_layer("encoder").output),
            on(lambda x, y: [L.LSTM(U)(x), L.LSTM(3)(y)], (9, F), (9, F)),
        ),
    ),
    # ---- ids
    "counts of ids": Remedy(
        on(lambda x: L.Dense(2)(L.CategoryEncoding(IDS, output_mode="multi_hot")(x)[:, None]), (T,), dtypes=("int32",)),
        (
            on(lambda x: L.CategoryEncoding(IDS, output_mode="one_hot")(x), (T,), dtypes=("int32",)),
            on(lambda x: EACH(L.CategoryEncoding(IDS, output_mode="multi_hot"))(x), (T, 3), dtypes=("int32",)),
        ),
    ),
    "encoded bins": Remedy(
        on(lambda x: L.Discretization([-1.0, 1.0], output_mode="one_hot")(x), (T, 1)),
        (
            on(lambda x: L.CategoryEncoding(3, output_mode="one_hot")(L.Discretization([-1.0, 1.0])(x)), (T, 1)),
            on(lambda x: L.Embedding(3, 3)(L.Discretization([-1.0, 1.0])(x)[:, :, 0]), (T, 1)),
        ),
        "weights",
    ),
    "categories crossed": Remedy(
        on(lambda x: L.Embedding(IDS, 3)(L.HashedCrossing(IDS)([x, x + 1])), (T,), dtypes=("int32",)),
        (on(lambda x: L.Embedding(IDS, 3)(x), (T,), dtypes=("int32",)),),
        "weights",
    ),
    # ---- cells and states
    "begins elsewhere, stateful": Remedy(
        lambda: keras.Sequential([keras.Input((T, F), batch_size=2), L.RNN(BegunCell(U), stateful=True)]),
        (of(lambda: L.RNN(BegunCell(U))),),
        "weights",
    ),
    "begins at random": Remedy(of(lambda: L.RNN(RandomCell(U))), (of(lambda: L.RNN(BegunCell(U))),), "weights"),
    "begins with an error": Remedy(of(lambda: L.RNN(StubbornCell(U))), (of(lambda: L.RNN(BegunCell(U))),), "weights"),
    "begins with other shapes": Remedy(
        on(lambda x, c: L.GRU(U)(x, initial_state=L.Dense(U + 1)(c)), (T, F), (2,)),
        (on(lambda x, c: L.GRU(U)(x, initial_state=L.Dense(U)(c)), (T, F), (2,)),),
    ),
    "states of other kinds": Remedy(of(lambda: L.RNN(DoubledCell(U))), (of(lambda: L.RNN(ToldCell(U))),), "weights"),
    "begins with an encoder": Remedy(
        on(_started), (lambda: _encoder(on(_started)()), on(lambda x: L.LSTM(U)(L.LSTM(U, return_sequences=True)(x))))
    ),
    "begins with an array": Remedy(
        on(lambda x: L.GRU(U)(x, initial_state=ops.ones((1, U)))),
        (on(lambda x, start: L.GRU(U)(x, initial_state=start), (T, F), (U,)),),
        "weights",
    ),
    "masked by an array": Remedy(
        on(lambda x: L.GRU(U)(x, mask=ops.ones((1, T), "bool"))),
        (on(lambda x, mask: L.GRU(U)(x, mask=mask), (T, F), (T,), dtypes=("float32", "bool")),),
        "weights",
    ),
    "dropping in a recurrent layer": Remedy(
        on(lambda x: L.GRU(U, dropout=0.5)(x, training=True)), (on(lambda x: L.GRU(U, dropout=0.5)(x)),), "weights"
    ),
    "masked by the end": Remedy(
        on(lambda x: L.GRU(U)(x, mask=L.Dense(T)(L.GRU(2)(x)) > 0)), (on(lambda x: L.GRU(U)(x, mask=x[:, :, 0] > 0)),)
    ),
    "masked features": Remedy(
        on(lambda x: L.LSTM(U)(x, mask=x > 0)), (on(lambda x: L.LSTM(U)(x, mask=x[:, :, 0] > 0)),)
    ),
    "backwards": Remedy(of(lstm(go_backwards=True)), (of(lstm()),)),
    "stateful afterwards": Remedy(lambda: _unread(2), (of(last),), "weights"),
    # ---- convolution and pooling
    "strides over too many zeros": Remedy(
        of(lambda: L.ZeroPadding1D((3, 0)), lambda: L.Conv1D(2, 3, strides=2), last),
        (of(lambda: L.ZeroPadding1D((2, 0)), lambda: L.Conv1D(2, 3, strides=2), last),),
    ),
    "strides past counting": Remedy(
        of(lambda: L.Conv1D(2, 1, strides=2**24), last, shape=(None, F)), (of(lambda: L.Conv1D(2, 1, strides=2), last),)
    ),
    "branches of different speeds": Remedy(
        on(lambda x: L.Concatenate()([L.Conv1D(2, 1 + T // 2)(x), L.MaxPooling1D(2)(x)])),
        (on(lambda x: L.Concatenate()([L.Conv1D(2, 2, strides=2)(x), L.MaxPooling1D(2)(x)])),),
    ),
    "same, by the length": Remedy(
        of(lambda: L.Conv1D(2, 3, strides=2, padding="same"), last),
        (of(lambda: L.Conv1D(2, 3, strides=2, padding="valid"), last),),
    ),
    "ahead": Remedy(
        on(lambda x: ops.sum(x * ops.softmax(L.Conv1D(F, 3, padding="same")(x), axis=1), axis=1)),
        (on(lambda x: ops.sum(x * ops.softmax(L.Conv1D(F, 3, padding="causal")(x), axis=1), axis=1)),),
    ),
    "padded behind": Remedy(
        of(lambda: L.ZeroPadding1D((1, 1)), last), (of(lambda: L.ZeroPadding1D((1, 1)), lambda: L.Conv1D(2, 3), last),)
    ),
    "batch padded": Remedy(
        on(lambda x: L.Conv1D(2, 2)(ops.pad(x, [[1, 0], [1, 0], [0, 0]]))),
        (on(lambda x: L.Conv1D(2, 2)(ops.pad(x, [[0, 0], [1, 0], [0, 0]]))),),
    ),
    "padded with ones": Remedy(
        on(lambda x: L.Conv1D(2, 2)(ops.pad(x, [[0, 0], [1, 0], [0, 0]], constant_values=1))),
        (on(lambda x: L.Conv1D(2, 2)(ops.pad(x, [[0, 0], [1, 0], [0, 0]]))),),
    ),
    "padded twice": Remedy(
        of(lambda: L.ZeroPadding1D((2, 0)), lambda: L.Conv1D(2, 3, padding="causal"), last),
        (of(lambda: L.ZeroPadding1D((2, 0)), lambda: L.Conv1D(2, 3, padding="valid"), last),),
    ),
    "padded, and a recurrent layer": Remedy(
        of(lambda: L.ZeroPadding1D((2, 0)), last), (of(lambda: L.ZeroPadding1D((2, 0)), lambda: L.Conv1D(2, 3), last),)
    ),
    "strides over planes": Remedy(
        on(lambda x: L.Conv2D(2, 3, strides=2, padding="same")(x), (T, 8, 1)),
        (on(lambda x: L.Conv2D(2, 3, strides=2, padding="valid")(x), (T, 8, 1)),),
    ),
    "planes padded twice": Remedy(
        on(lambda x: L.Conv2D(2, 3, padding="same")(ops.pad(x, [[0, 0], [1, 0], [0, 0], [0, 0]])), (T, 8, 1)),
        (on(lambda x: L.Conv2D(2, 3)(ops.pad(x, [[0, 0], [2, 0], [0, 0], [0, 0]])), (T, 8, 1)),),
    ),
    "planes padded too much": Remedy(
        on(lambda x: L.MaxPooling2D(2)(ops.pad(x, [[0, 0], [2, 0], [0, 0], [0, 0]])), (T, 8, 1)),
        (on(lambda x: L.MaxPooling2D(2)(ops.pad(x, [[0, 0], [1, 0], [0, 0], [0, 0]])), (T, 8, 1)),),
    ),
    "transposed": Remedy(
        of(lambda: L.Conv1DTranspose(2, 2), last), (of(lambda: L.Conv1D(2, 2, padding="causal"), last),)
    ),
    "masked beside ahead": Remedy(
        on(lambda x: L.Multiply()([L.Masking()(x), L.Conv1D(F, 3, padding="same")(x)])),
        (
            on(lambda x: L.Multiply()([x, L.Conv1D(F, 3, padding="same")(x)])),
            on(lambda x: L.Add()([L.Masking()(x), L.Conv1D(F, 3, padding="same")(x)])),
        ),
    ),
    "channels first": Remedy(
        of(lambda: L.Conv1D(2, 2, data_format="channels_first"), last),
        (of(lambda: L.Conv1D(2, 2, padding="causal", data_format="channels_last"), last),),
    ),
    "pooled over planes": Remedy(
        on(lambda x: L.MaxPooling2D(3, padding="same")(x), (T, 8, 1)),
        (on(lambda x: L.MaxPooling2D(3, padding="valid")(x), (T, 8, 1)),),
    ),
    "channels first, planes": Remedy(
        on(lambda x: L.MaxPooling2D(2, data_format="channels_first")(x), (T, 8, 2)),
        (on(lambda x: L.MaxPooling2D(2, data_format="channels_last")(x), (T, 8, 2)),),
    ),
    "pooled into parts": Remedy(
        on(lambda x: L.AdaptiveMaxPooling1D(2)(L.LSTM(U, return_sequences=True)(x))),
        (of(lstm(), L.GlobalMaxPooling1D, dense), of(lstm(), L.GlobalAveragePooling1D, dense)),
    ),
    "mean of all": Remedy(
        on(lambda x: x - ops.mean(x)), (on(lambda x: ops.mean(L.LSTM(U, return_sequences=True)(x), axis=1)),)
    ),
    "mean without features": Remedy(
        on(lambda x: ops.mean(x, axis=1, keepdims=True), (T,)), (on(lambda x: ops.mean(x, axis=1), (T, F)),)
    ),
    # ---- joining
    "other ranks": Remedy(
        on(lambda x: L.Add()([L.Reshape((T, 1, F))(x), L.Dense(1)(x)])),
        (on(lambda x: L.Add()([L.Reshape((T, 1, F))(x), L.Reshape((T, 1, 1))(L.Dense(1)(x))])),),
    ),
    "other ranks after time": Remedy(
        on(lambda x: ops.add(L.Reshape((2, 3))(y := L.LSTM(6)(x)), L.Dense(3)(y))),
        (on(lambda x: L.Flatten()(ops.add(L.Reshape((2, 3))(y := L.LSTM(6)(x)), L.Reshape((1, 3))(L.Dense(3)(y))))),),
    ),
    "branches": Remedy(
        on(lambda x: x + L.LSTM(F)(x)[:, None]),
        (on(lambda x: x + L.LSTM(F, return_sequences=True)(x)), on(lambda x: L.LSTM(F)(x) + x[:, -1])),
    ),
    "joined along time": Remedy(
        on(lambda x: L.Concatenate(axis=1)([x, x * 2])), (on(lambda x: L.Concatenate(axis=-1)([x, x * 2])),)
    ),
    "constant joined": Remedy(
        on(lambda x, c: L.Concatenate(axis=1)([x, L.Reshape((1, F))(c)]), (T, F), (F,)),
        (on(lambda x, c: L.Concatenate(axis=-1)([x, L.RepeatVector(T)(c)]), (T, F), (F,)),),
    ),
    "array for each step": Remedy(
        on(lambda x: ops.logaddexp(x, np.ones((T, 1), "float32"))),
        (on(lambda x: x + 1.0), on(lambda x: x + np.arange(3.0, dtype="float32"))),
    ),
    # ---- operations
    "axis before time": Remedy(on(lambda x: ops.expand_dims(x, 1)[:, 0]), (on(lambda x: ops.expand_dims(x, -1)),)),
    "steps multiplied": Remedy(
        on(lambda x: ops.matmul(np.ones((T, T), "float32"), x)),
        (on(lambda x: ops.matmul(x, np.ones((F, 2), "float32"))), on(L.Dense(2))),
    ),
    "letters": Remedy(
        on(lambda x: ops.einsum("btf,ts->bsf", x, np.ones((T, T), "float32"))),
        (on(lambda x: ops.einsum("btf,fu->btu", x, np.ones((F, 2), "float32"))),),
    ),
    "over the batch": Remedy(on(lambda x: ops.softmax(x, axis=0)), (on(lambda x: ops.softmax(x, axis=-1)),)),
    "over time": Remedy(
        on(lambda x: L.Reshape((1,))(ops.logsumexp(L.Dense(1)(x), axis=1))),
        tuple(on(lambda x, over=over: over(x, axis=1)) for over in (ops.sum, ops.mean, ops.max)),
    ),
    "over time, no features": Remedy(
        on(lambda x: L.Reshape((T, 1))(ops.sort(x, axis=1)), (T,)), (on(lambda x: ops.max(x, axis=1), (T, F)),)
    ),
    "logarithm of a softmax over time": Remedy(
        on(_scores(lambda s: ops.exp(ops.log_softmax(s, axis=1)))),
        (on(_scores(lambda s: ops.softmax(s, axis=1))),),
        "numbers",
    ),
    "softmax over time by hand": Remedy(
        on(_scores(_by_hand)), (on(_scores(lambda s: ops.softmax(s, axis=1))),), "numbers"
    ),
    "one step taken": Remedy(
        on(lambda x: ops.take(L.LSTM(U, return_sequences=True)(x), T - 1, axis=1)),
        (on(lambda x: L.LSTM(U, return_sequences=True)(x)[:, -1]),),
        "numbers",
    ),
    "steps turned": Remedy(
        on(lambda x: ops.transpose(x, (0, 2, 1, 3)), (T, 2, F)),
        (on(lambda x: ops.transpose(x, (0, 1, 3, 2)), (T, 2, F)),),
    ),
    "squeezed": Remedy(
        on(lambda x: ops.squeeze(x[..., None])), (on(lambda x: ops.squeeze(x[..., None], axis=-1)),), "numbers"
    ),
    "cut out": Remedy(
        on(lambda x: x[:, 1:3]), (on(lambda x: x[:, :, 2:]), on(lambda x: L.LSTM(U, return_sequences=True)(x)[:, -1]))
    ),
    "streams mixed": Remedy(on(lambda x: ops.reshape(x, (2, -1, T, F))[0]), (on(lambda x: L.Reshape((T, F, 1))(x)),)),
    "streams mixed after time": Remedy(
        on(lambda x: ops.reshape(L.LSTM(U)(x), (-1, 2))), (on(lambda x: L.Reshape((2, 2))(L.LSTM(U)(x))[:, 0]),)
    ),
    "masked and begun, in Keras 2": Remedy(
        on(lambda x, c: _as_of_keras_2(L.GRU(U))(L.Masking()(x), initial_state=c), (T, F), (U,)),
        (
            on(lambda x: L.GRU(U)(L.Masking()(x))),
            on(lambda x, c: _as_of_keras_2(L.GRU(U))(x, initial_state=c), (T, F), (U,)),
        ),
    ),
    # ---- single steps
    "normalised over time": Remedy(
        of(lambda: L.LayerNormalization(axis=1), last), (of(lambda: L.LayerNormalization(axis=-1), last),)
    ),
    "normalised over time, one feature": Remedy(
        of(lambda: L.LayerNormalization(axis=1), last, shape=(T, 1)), (of(last, shape=(T, 1)),)
    ),
    "softmax of masked features": Remedy(
        of(L.Masking, L.Softmax, last), (of(L.Masking, lambda: L.Activation("softmax"), last),)
    ),
    "softmax of masked steps": Remedy(
        on(_scores(lambda s: L.Softmax(axis=1)(L.Masking()(s)))),
        (on(_scores(lambda s: ops.softmax(L.Masking()(s), axis=1))),),
    ),
    "shares used alone": Remedy(
        on(lambda x: L.GRU(2)(x * ops.softmax(L.Dense(1)(x), axis=1))),
        (on(_scores(lambda s: ops.softmax(s, axis=1))),),
    ),
    "numbers for each step": Remedy(
        of(lambda: L.Rescaling(np.ones((T, 1))), last),
        (of(lambda: L.Rescaling(2.0), last), of(lambda: L.Rescaling([1.0, 2.0, 3.0]), last)),
    ),
    "slopes for each step": Remedy(of(L.PReLU, last), (of(lambda: L.PReLU(shared_axes=[1]), last),)),
    "weights along time": Remedy(
        of(lambda: L.EinsumDense("btf,ts->bsf", (T, F)), last),
        (of(lambda: L.EinsumDense("btf,fu->btu", (T, U)), last),),
    ),
    "two tensors": Remedy(
        on(lambda x, now: L.Dropout(0.5)(x, training=now), (T, F), (), dtypes=("float32", "bool")),
        (on(lambda x: L.Dropout(0.5)(x)),),
        "weights",
    ),
    "no time": Remedy(of(dense, shape=(F,)), (of(last, dense), of(lambda: L.Embedding(IDS, 3), last, shape=(T,)))),
    "masking of numbers alone": Remedy(
        on(lambda x: L.Reshape((T, 1))(L.Masking()(x)), (T,)),
        (of(lambda: L.Reshape((-1, 1)), L.Masking, last, shape=(T,)),),
    ),
    "always dropping": Remedy(
        on(lambda x: L.Dropout(0.5)(x, training=True)), (on(lambda x: L.Dropout(0.5)(x)),), "weights"
    ),
    "another number of steps": Remedy(
        of(lstm(), Doubled, last),
        (of(lstm(), lambda: L.Activation("tanh"), last),),
    ),
    "fails on one step": Remedy(
        of(lstm(), Halved, last),
        (of(lstm(), lambda: L.Activation("tanh"), last),),
    ),
    "a kind that hands its mask on": Remedy(
        of(L.Masking, Handing, last), (of(Handing, last), of(L.Masking, Ending, last)), "weights"
    ),
    "positions over an open length": Remedy(of(Counted, last, shape=(None, F)), (of(Counted, last),), "weights"),
    "a kind of one's own": Remedy(
        of(lstm(), Clip, last), (of(lstm(), ClipWithARule, last), of(lstm(), lambda: L.ReLU(), last))
    ),
    # ---- shapes
    "flattened, nothing recurrent": Remedy(of(L.Flatten, dense), (of(lstm(return_sequences=False), dense),)),
    "flattened": Remedy(of(lstm(), L.Flatten, dense), (of(lstm(return_sequences=False), dense),)),
    "decoder masked by steps": Remedy(
        on(lambda x: L.GRU(U)(L.RepeatVector(T)(L.GRU(2)(x)), mask=x[:, :, 0] > 0)),
        (on(lambda x: L.GRU(U)(L.RepeatVector(T)(L.GRU(2)(x)))),),
    ),
    "window repeated": Remedy(on(lambda x: L.RepeatVector(2)(x), (T,)), (of(last),)),
    "time moved": Remedy(of(lambda: L.Permute((2, 1)), last), (of(last),)),
    # ---- layers that never stream over time
    "both ways": Remedy(of(lambda: L.Bidirectional(L.LSTM(3)), dense), (of(last, dense),)),
    "attention": Remedy(on(_attended), (on(lambda x: _causal(x)),), memory=T),
    "attention, nobody says how far back": Remedy(on(lambda x: _causal(x)), (on(lambda x: _causal(x)),), "numbers", T),
    "attention along two axes": Remedy(
        on(lambda x: L.MultiHeadAttention(2, 3, attention_axes=1)(x, x, use_causal_mask=True), (T, 2, F)),
        (on(lambda x: L.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True), (T, F)),),
        memory=T,
    ),
    "last step asks, answered": Remedy(
        on(lambda x: [L.Dot(axes=(1, 2))([x[:, -1], x]), L.GRU(2)(x)]), (on(_luong),), memory=T, given=T
    ),
    "last step asks, into a recurrent layer": Remedy(
        on(lambda x: L.GRU(2)(ops.tanh(x + x[:, -1:]))), (on(_luong),), memory=T, given=T
    ),
    "attention, masked": Remedy(
        on(lambda x: _causal(L.Masking()(x))),
        (on(lambda x: _causal(x)),),
        memory=T,
    ),
    "attention of what is so far": Remedy(
        on(lambda x: L.Attention()([L.RepeatVector(T)(L.LSTM(F)(x)), x], use_causal_mask=True)),
        (on(lambda x: L.Attention()([L.RepeatVector(T)(L.LSTM(F)(x)), x])),),
        memory=T,
    ),
    "repeated steps": Remedy(of(lambda: L.UpSampling1D(2), last), (of(last),)),
    "groups": Remedy(
        of(lstm(), lambda: L.GroupNormalization(2), last), (of(lstm(), lambda: L.LayerNormalization(axis=-1), last),)
    ),
    "dot": Remedy(
        on(lambda x: L.Dot(axes=2)([x, x * 2])),
        (
            on(lambda x: L.Dense(1)(L.Multiply()([x, x * 2]))),
            on(lambda x: ops.sum(L.Multiply()([x, x * 2]), axis=-1, keepdims=True)),
        ),
    ),
    "pictures": Remedy(
        on(lambda x: L.ZeroPadding3D(1)(x), PICTURES),
        (on(lambda x: EACH(L.ZeroPadding2D(1))(x), PICTURES), on(lambda x: x, PICTURES)),
    ),
    "spectrum": Remedy(
        on(lambda x: mel()(x), (64,)),
        (on(lambda x: EACH(mel(power_to_db=False))(x), (T, 64)),),
    ),
    "loudest of a batch": Remedy(
        on(lambda x: EACH(mel())(x), (T, 64)),
        (on(lambda x: EACH(mel(power_to_db=False))(x), (T, 64)),),
    ),
    # ---- around other layers
    "stateful inside a step": Remedy(
        lambda: keras.Sequential([keras.Input((T, 5, 2), batch_size=2), EACH(L.LSTM(3, stateful=True)), L.GRU(2)]),
        (of(lambda: EACH(L.LSTM(3)), last, shape=(T, 5, 2)),),
        "weights",
    ),
    "mask inside a step": Remedy(
        on(lambda x: EACH(L.Softmax())(L.Masking()(x))), (on(lambda x: EACH(L.Softmax())(x)),)
    ),
    "code of other steps": Remedy(
        of(lstm(), lambda: L.Lambda(lambda x: x[:, ::2]), last), (of(lstm(), last),), "weights"
    ),
}
