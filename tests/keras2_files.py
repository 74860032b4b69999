"""Writes model files with Keras 2 itself, and beside each what Keras 2 answers: python -m tests.keras2_files FOLDER.

A process of its own, which knows nothing of the worker or of Keras 3. It needs tf-keras.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorflow.core.protobuf import saved_model_pb2
from tf_keras.protobuf import saved_metadata_pb2
from tf_keras.src.engine.base_layer import TensorFlowOpLayer
from tf_keras.src.layers.rnn import gru_lstm_utils
from tf_keras.src.layers.rnn.cell_wrappers import DeviceWrapper, DropoutWrapper, ResidualWrapper
from tf_keras.src.layers.rnn.cudnn_gru import CuDNNGRU
from tf_keras.src.layers.rnn.cudnn_lstm import CuDNNLSTM

L, K = keras.layers, keras.backend
F, T = 3, 7  # features, steps
FIXED = {"batch_input_shape": (None, T, F)}
OPEN = {"batch_input_shape": (None, None, F)}

# With each recurrent layer Keras 2 also traces what a GPU would run instead: half of the time, and none of the answers.
gru_lstm_utils.function_register = lambda *_, **__: None


H5_ONLY = ("features",)  # the other format of Keras 2 can't hold x[..., n]


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
    tf.config.run_functions_eagerly(True)  # one step is not worth a graph
    model.fit(np.zeros((4, T, F)), np.zeros((4, 1)), verbose=0)
    tf.config.run_functions_eagerly(False)
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


def masks_apart(merge: Any, x: Any) -> Any:
    """A masked and an unmasked input, and two of different masks."""
    one, other = L.Masking(0.0)(x), L.Masking(1.0)(x)
    masked = L.LSTM(4, return_sequences=True)(one)
    half = merge([masked, L.Dense(4)(x)])
    both = merge([masked, L.GRU(4, return_sequences=True)(other)])
    return L.Dense(2)(L.Concatenate(name="end")([L.LSTM(3)(half), L.GRU(3)(both)]))


def masked_by(kind: str, x: Any) -> Any:
    return masks_apart(getattr(L, kind)(), x)


def undone() -> Any:
    """Layers that Keras 2 writes with arguments that Keras 3 does not take."""
    pictures = [L.Reshape((-1, 1, 1, 4)), L.SpatialDropout3D(0.2), L.Reshape((-1, 4))]
    per_step = [L.TimeDistributed(L.Conv1DTranspose(2, 2)), L.SpatialDropout2D(0.2), L.TimeDistributed(L.Flatten())]
    spread = [L.Reshape((-1, 2, 2, 1)), L.TimeDistributed(L.Conv2DTranspose(2, 2)), L.TimeDistributed(L.Flatten())]
    deep = [L.Reshape((-1, 3, 3, 2, 1)), L.TimeDistributed(L.Conv3DTranspose(1, 2)), L.TimeDistributed(L.Flatten())]
    start = [L.Dense(4, **OPEN), L.SpatialDropout1D(0.2)]
    return sequential(*start, *pictures, L.Reshape((-1, 4, 1)), *per_step, L.Dense(4), *spread, *deep, L.GRU(2))


def thresholds() -> Any:
    inside = [L.LeakyReLU(0.3), L.ELU(0.5), L.ReLU(0.7, 0.1, 0.02)]
    dense = [L.Dense(4, activation=one) for one in inside]
    cut = L.Dense(4, activation=L.ThresholdedReLU(0.2), batch_input_shape=(None, None, F))
    return sequential(cut, *dense, L.Activation(L.ThresholdedReLU(0.1)), L.GRU(3))


def masked_start() -> Any:
    x, h = keras.Input((None, F), name="x"), keras.Input((4,), name="h")
    return keras.Model([x, h], L.GRU(4)(L.Masking(0.0)(x), initial_state=h))


def masks_dropped(x: Any) -> Any:
    a = L.LSTM(4, return_sequences=True)(L.Masking(0.0)(x))
    normalization = L.Normalization(mean=[0.1, -0.2, 0.3, 0.0], variance=[0.2, 0.3, 0.4, 0.5])
    kept = [L.Rescaling(0.5, offset=0.3)(a), normalization(a), L.Identity()(a), L.Dropout(0.2)(a)]
    kept += [tf.identity(a), tf.add_n([a, a]), a + a, tf.nn.relu(a)]
    return L.Dense(2)(L.Concatenate()([L.LSTM(2)(one) for one in kept]))


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


def two_layers(x: Any) -> tuple[Any, Any]:
    a = L.LSTM(4, return_sequences=True)(x)
    return a, L.GRU(4, return_sequences=True)(a)


def numbers(x: Any) -> Any:
    """Operations that go number by number."""
    a, b = two_layers(x)
    pairs = [a + b, a - b, 1.0 - a, a * 2, a / (b * b + 3), 1 / (a + 3.0), a**2, a // 0.3, a % 0.3, -a, abs(a)]
    pairs += [a * np.array([1.0, 2.0, 3.0, 4.0], "float32"), tf.maximum(a, b), tf.minimum(a, 0.1), tf.pow(abs(a), b)]
    pairs += [tf.cast(a > b, tf.float32), tf.where(a >= 0, a, b * 2), tf.cast(tf.logical_not(a < b), "float32")]
    pairs += [tf.math.divide_no_nan(a, b), tf.nn.bias_add(a, [1.0, 2.0, 3.0, 4.0]), tf.add_n([a, b, a]), tf.identity(b)]
    nn = [tf.nn.relu, tf.nn.relu6, tf.nn.elu, tf.nn.selu, tf.nn.gelu, tf.nn.silu, tf.nn.leaky_relu, tf.nn.softplus]
    nn += [tf.nn.softsign, tf.sigmoid, tf.tanh, K.hard_sigmoid, tf.math.log_sigmoid, tf.nn.softmax, tf.nn.log_softmax]
    math = [tf.exp, tf.square, tf.sign, tf.floor, tf.math.ceil, tf.round, tf.sin, tf.cos, tf.atan, tf.math.erf]
    math += [tf.zeros_like, tf.ones_like, tf.stop_gradient, tf.math.expm1]
    one = [tf.sqrt(abs(a)), tf.math.log(abs(a) + 1), tf.math.rsqrt(a * a + 1), tf.nn.leaky_relu(b, alpha=0.4)]
    one += [tf.clip_by_value(a, -0.3, 0.3), tf.nn.gelu(a, approximate=True), tf.math.reciprocal(a + 4)]
    return L.GRU(3)(L.Dense(6)(L.Concatenate()([*pairs, *one, *(each(b) for each in (*nn, *math))])))


def features(x: Any) -> Any:
    """Operations along the features, and what they do to shapes."""
    a, b = two_layers(x)
    found = [tf.concat([a, b], -1), tf.concat(values=[b, a], axis=2), tf.reduce_mean(a, -1, keepdims=True)]
    found += [getattr(K, name)(b, axis=-1, keepdims=True) for name in ("sum", "max", "min", "prod", "std", "var")]
    found += [tf.reduce_logsumexp(a, axis=[2], keepdims=True), tf.math.l2_normalize(b, axis=-1), a[..., 1:3]]
    found += [tf.split(a, 2, axis=-1)[1], tf.split(b, [1, 3], axis=2)[1], tf.gather(a, [2, 0], axis=-1)]
    found += [tf.expand_dims(tf.unstack(b, axis=-1)[3], -1), tf.squeeze(tf.expand_dims(a, 2), [2])]
    found += [tf.one_hot(tf.cast(abs(a[:, :, 0]) * 5, "int32"), 4), tf.reduce_sum(tf.stack([a, b], axis=2), axis=2)]
    found += [
        tf.cast(tf.argmax(a, axis=-1), "float32")[..., None],
        tf.cast(tf.argmax(b, axis=-1, output_type="int32"), "float32")[..., None],
        tf.cumsum(b, axis=-1),
        tf.math.l2_normalize(a * 0, 2),
    ]
    found += [K.concatenate([a, b]), tf.transpose(tf.reshape(a, [-1, T, 2, 2]), [0, 1, 3, 2])[:, :, 0]]
    return L.GRU(3)(L.Dense(6)(L.Concatenate()(found)))


def over_time(x: Any) -> Any:
    """Operations along time, and a nested model's result as an argument."""
    a, b = two_layers(x)
    part = keras.Sequential([L.Dense(4, input_shape=(None, 4)), L.LSTM(4)], name="part")
    last = tf.reduce_mean(a, axis=1) + part(b)
    rest = [tf.reduce_sum(b, 1), tf.reduce_max(a, axis=[1]), tf.reduce_min(b, 1), a[:, -1], tf.cumsum(a, 1)[:, -1]]
    return L.Dense(3)(tf.concat([1.0 - last, *rest], -1))


def nodes(x: Any) -> Any:
    """Operations as TensorFlow 2.0 to 2.3 kept them."""
    a, b = two_layers(x)

    def node(op: str, tensors: list[Any], constants: Any = None, **attributes: Any) -> Any:
        count = len(tensors) + len(constants or ())
        attr = {"T": {"type": "DT_FLOAT"}, **attributes}
        message = {"name": op, "op": op, "input": [f"x{n}" for n in range(count)], "attr": attr}
        return TensorFlowOpLayer(message, op, constants)(tensors)

    place = {"Tidx": {"type": "DT_INT32"}}
    positive = node("Relu", [node("AddV2", [a, b])])
    joined = node(
        "ConcatV2", [node("Sub", [positive], {0: np.float32(1)}), a], {2: np.int32(-1)}, N={"i": "2"}, **place
    )
    scaled = node("Mul", [joined], {1: np.arange(8, dtype="float32")})
    mean = node("Mean", [scaled], {1: np.int32(1)}, keep_dims={"b": False}, **place)
    masks = {name: {"i": "0"} for name in ("ellipsis_mask", "new_axis_mask")}
    masks |= {"begin_mask": {"i": "1"}, "end_mask": {"i": "1"}, "shrink_axis_mask": {"i": "2"}}
    where = {1: np.array([0, -1, 2], "int32"), 2: np.array([0, 0, 5], "int32"), 3: np.array([1, 1, 2], "int32")}
    last = node("StridedSlice", [scaled], where, Index={"type": "DT_INT32"}, **masks)
    return L.Dense(3)(L.Concatenate()([mean, last]))


def separable() -> Any:
    before = [L.Normalization(axis=None, mean=0.3, variance=4.0, input_shape=(None, F)), L.ZeroPadding1D((2, 0))]
    return sequential(*before, L.DepthwiseConv1D(3), L.ZeroPadding1D((1, 0)), L.SeparableConv1D(4, 2), L.GRU(3))


def binned() -> Any:
    return sequential(keras.Input((None,)), L.Discretization([2.0, 5.0]), L.Embedding(3, 4), L.GRU(3))


def fractions(dtype: str) -> Any:
    """Between two whole numbers, on both sides of zero, and on a boundary."""
    bins = L.Discretization([-1.0, -0.5, 0.0, 0.1, 1.0])
    layers = [L.Rescaling(0.1, dtype=dtype), bins, L.Embedding(6, 3), L.TimeDistributed(L.Flatten())]
    return sequential(keras.Input((None, F), dtype=dtype), *layers, L.GRU(3))


def whole_dtypes(x: Any) -> Any:
    """To Keras 2 the dtype of these is no order to round what they are given."""
    x = L.Masking(dtype="int32")(x)
    a = L.Multiply(dtype="int64")([L.Activation("tanh", dtype="int32")(L.Dropout(0.2, dtype="int32")(x)), x])
    b = L.TimeDistributed(L.Flatten(dtype="int64"), dtype="int32")(L.Reshape((-1, 1, F), dtype="uint8")(a))
    return L.GRU(3)(L.Concatenate(dtype="int32")([a, b]))


def looked_up() -> Any:
    """Numbers that become whole in both."""
    ids = [L.IntegerLookup(vocabulary=[-2, -1, 0, 1, 2]), L.Embedding(7, 3), L.TimeDistributed(L.Flatten())]
    return sequential(keras.Input((None, F)), L.Rescaling(1.5, offset=0.5, dtype="int32"), *ids, L.GRU(3))


def exact_mask(dtype: str) -> Any:
    """A value of masked steps that each precision rounds in its own way."""
    layers = [L.Rescaling(0.1), L.Masking(0.1), L.LSTM(4, return_sequences=True), L.GRU(3)]
    keras.mixed_precision.set_global_policy(dtype)
    try:
        made = [type(one).from_config({**one.get_config(), "dtype": dtype}) for one in layers]
        return sequential(keras.Input((None, F), dtype="float32"), *made)
    finally:
        keras.mixed_precision.set_global_policy("float32")


def compared(dtype: str) -> Any:
    """With a number that each precision rounds in its own way."""

    def build(x: Any) -> Any:
        tenth = L.Rescaling(0.1, dtype=dtype)(x)
        found = [tenth > 0.1, tenth >= 0.1, tenth < 0.1, tenth <= 0.1, tf.equal(tenth, 0.1)]
        return L.GRU(3)(L.Concatenate()([tf.cast(one, "float32") for one in found]))

    return functional(build)


def learned() -> Any:
    bins = L.Discretization(num_bins=3)
    bins.adapt(np.arange(10.0))
    return sequential(keras.Input((None,)), bins, L.Embedding(3, 4), L.GRU(3))


@keras.saving.register_keras_serializable("Addons")
class Tripled(keras.layers.Layer):
    """As a layer of TensorFlow Addons is registered."""

    def call(self, x: Any) -> Any:
        return 3.0 * x


def recurrent(gpu: bool, wrapped: bool = False) -> Any:
    """Trained with the layers of a GPU; or the same for any processor, into which Keras 2 reads their weights."""
    lstm = CuDNNLSTM if gpu else L.LSTM
    gru = CuDNNGRU if gpu else lambda units, **options: L.GRU(units, reset_after=True, **options)
    if wrapped:
        return sequential(L.Bidirectional(lstm(4), **OPEN), L.Dense(2))
    part = keras.Sequential([gru(4, return_sequences=True, input_shape=(None, 5)), lstm(2, return_sequences=True)])
    return sequential(lstm(5, return_sequences=True, **OPEN), part, L.Dense(3), gru(4), L.Dense(2))


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
    **{
        f"masked_{kind.lower()}": partial(functional, partial(masked_by, kind))
        for kind in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
    },
    "masks_dropped": lambda: functional(masks_dropped),
    "masked_identity": lambda: sequential(L.Masking(0.0, **OPEN), L.Rescaling(2.0), L.Identity(), L.LSTM(3)),
    "masks_inside": lambda: sequential(
        L.TimeDistributed(L.Masking(0.0), batch_input_shape=(None, None, 2, F)),
        L.TimeDistributed(L.LSTM(3)),
        L.GRU(2),
    ),
    "undone": undone,
    "thresholds": thresholds,
    "masked_start": lambda: masked_start(),
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
    "numbers": lambda: functional(numbers),
    "features": lambda: functional(features, T),
    "over_time": lambda: functional(over_time),
    "nodes": lambda: functional(nodes),
    "cudnn": lambda: recurrent(True),
    "cudnn_both_ways": lambda: recurrent(True, wrapped=True),
    "separable": separable,
    "binned": binned,
    "learned": learned,
    "fractions": lambda: fractions("float32"),
    "fractions_float64": lambda: fractions("float64"),
    "whole_dtypes": lambda: functional(whole_dtypes),
    "looked_up": looked_up,
    "exact_mask_half": lambda: exact_mask("mixed_float16"),
    "exact_mask_double": lambda: exact_mask("float64"),
    "compared_half": lambda: compared("float16"),
    "compared_double": lambda: compared("float64"),
    "causal_separable": lambda: sequential(
        L.SeparableConv1D(4, 3, padding="causal", dilation_rate=2, activation="tanh", **OPEN), L.GRU(3)
    ),
    "residual": lambda: sequential(L.RNN(ResidualWrapper(L.LSTMCell(F)), return_sequences=True, **OPEN), L.GRU(2)),
    "not_wrapped": lambda: functional(lambda x: L.GRU(2)(L.Add()([x, L.RNN(L.LSTMCell(F), return_sequences=True)(x)]))),
    "on_a_device": lambda: sequential(L.RNN(DeviceWrapper(L.LSTMCell(F), "/cpu:0"), **OPEN)),
    "dropping_cell": lambda: sequential(L.RNN(DropoutWrapper(L.GRUCell(F), 0.5), **OPEN)),
    "local": lambda: sequential(L.LocallyConnected1D(2, 1, **FIXED), L.GRU(2)),
    "addon": lambda: sequential(L.TimeDistributed(Tripled(), **OPEN), L.GRU(2)),
    "dropped": lambda: functional(lambda x: L.GRU(3)(tf.nn.dropout(L.GRU(4, return_sequences=True)(x), 0.2))),
    "transposed": lambda: functional(lambda x: L.GRU(T)(tf.matmul(*two_layers(x), transpose_b=True)), T),
    "own_operation": lambda: functional(lambda x: L.GRU(4)(tf.tile(L.GRU(4, return_sequences=True)(x), [1, 1, 2]))),
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
        return [rng.normal(size=(4, *(T if n is None else n for n in shape[1:]))) for shape in model.input_shape]
    rows = model.input_shape[0] or 4
    if len(model.input_shape) == 2:
        return rng.integers(0, 11, (rows, T))
    x = rng.normal(scale=1.5, size=(rows, T, *model.input_shape[2:]))
    x[1, 2:4] = x[2, 0] = x[3, -1] = 0.0  # masked steps, where a model masks
    x[0, 4] = x[2, 3] = x[3, 0] = 1.0  # by another mask
    return x


def answers(model: Any, x: Any) -> dict[str, Any]:
    """What the model says to the whole, and where its length is open to every prefix: (rows, steps, units)."""
    if isinstance(x, list):
        whole = np.array(model(x, training=False))
        return {"x": np.concatenate(x, axis=-1), "whole": whole} if len({one.ndim for one in x}) == 1 else {}
    found = {"x": x, "whole": np.array(model(x, training=False))}
    if model.input_shape[1] is None and found["whole"].ndim == 2:
        found["prefixes"] = np.stack([np.array(model(x[:, : n + 1], training=False)) for n in range(T)], axis=1)
    return found


def as_before_tensorflow_2_5(source: Path, target: Path) -> None:
    """A SavedModel whose layers are told in the graph: TensorFlow 2.5 moved them into a file of their own."""
    shutil.copytree(source, target)
    saved, notes = saved_model_pb2.SavedModel(), saved_metadata_pb2.SavedMetadata()
    saved.ParseFromString((target / "saved_model.pb").read_bytes())
    notes.ParseFromString((target / "keras_metadata.pb").read_bytes())
    nodes = saved.meta_graphs[0].object_graph_def.nodes
    for note in notes.nodes:
        nodes[note.node_id].user_object.identifier = note.identifier
        nodes[note.node_id].user_object.metadata = note.metadata
    (target / "saved_model.pb").write_bytes(saved.SerializeToString())
    (target / "keras_metadata.pb").unlink()


def main(folder: Path) -> None:
    for name, build in MODELS.items():
        model = build()
        if name not in ("normalized", "learned"):  # adapted to data
            shaken(model)
        for suffix in ("h5",) if name in H5_ONLY else ("h5", "keras"):
            model.save(folder / f"{name}.{suffix}")
        if name.startswith("cudnn"):  # they run on a GPU only
            model = recurrent(False, wrapped="both_ways" in name)
            model.load_weights(folder / f"{name}.h5")
        np.savez(folder / name, **answers(model, inputs(model)))
        if name == "lstm":
            model.save(folder / "folder", save_format="tf")
            as_before_tensorflow_2_5(folder / "folder", folder / "old_folder")
            for kept in ("folder", "old_folder"):
                keras.models.load_model(folder / kept, compile=False).save(folder / f"from_{kept}.h5")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
