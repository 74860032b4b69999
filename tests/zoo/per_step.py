"""Layers and operations that work on each step alone, and those that do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.models import F, Subclassed, Unknown, sequential, shaken
from worker.model.backend import keras

L = keras.layers
ops = keras.ops


def _functional(body: Callable[[Any], Any], length: int | None = None, features: int = F) -> Callable[[], Any]:
    """Input (batch, length, features) → body → GRU → Dense."""

    def make() -> Any:
        x = keras.Input((length, features))
        return shaken(keras.Model(x, L.Dense(2)(L.GRU(3)(body(x)))))

    return make


def _steps(shape: tuple[int | None, ...], *layers: Any, dtype: str = "float32") -> Any:
    return shaken(keras.Sequential([keras.Input(shape, dtype=dtype), *layers]))


def _before(*layers: Any, length: int | None = None) -> Any:
    return sequential(*layers, L.LSTM(3), L.Dense(2), length=length)


def pictures(length: int | None) -> Any:
    return _steps(
        (length, 8, 8, 1),
        L.TimeDistributed(L.Conv2D(2, 3, activation="relu")),
        L.TimeDistributed(L.MaxPooling2D(2)),
        L.TimeDistributed(L.Flatten()),
        L.LSTM(4),
        L.Dense(2),
    )


def _network(*layers: Any, name: str | None = None) -> Any:
    return keras.Sequential([keras.Input((4, 2)), *layers], name=name)


def sub_windows() -> Any:
    """Each step is a window of its own: (batch, time, 4, 2). The inner model has another one inside."""
    inner = _network(L.Conv1D(3, 2), keras.Sequential([L.BatchNormalization(), L.Flatten()]), L.Dense(3))
    return _steps((5, 4, 2), L.TimeDistributed(inner), L.LSTM(3), L.Dense(1))


def sentences() -> Any:
    """Each step is a sentence of six words, 0 where there is none."""
    words = keras.Sequential([keras.Input((6,)), L.Embedding(9, 3, mask_zero=True), L.LSTM(4)])
    return _steps((None, 6), L.TimeDistributed(words), L.LSTM(3), L.Dense(2))


def fixed_batch() -> Any:
    """Operations name the batch of 4 in their shapes."""
    x = keras.Input(batch_shape=(4, 7, F))
    y = ops.reshape(ops.reshape(L.Dense(6)(x), (4, 7, 2, 3)), (4, -1, 6))
    return shaken(keras.Model(x, ops.reshape(L.LSTM(4)(y), (4, 2, 2))))


def masked_branches() -> Any:
    x = keras.Input((None,), dtype="int32")
    one, two = L.Embedding(4, 3, mask_zero=True)(x), L.Embedding(4, 3, mask_zero=True)(x)
    both = L.Concatenate()([L.Add()([one, two]), one * two])
    return shaken(keras.Model(x, L.LSTM(3)(both)))


def called_twice() -> Any:
    """A nested model of operations, called with its own output."""
    step = keras.Input((7, 4))
    both = ops.reshape(ops.stack([step * 2, ops.tanh(step)], axis=-1), (-1, 7, 8))
    turned = L.Permute((1, 3, 2))(L.Reshape((7, 4, 2))(both))
    inner = keras.Model(step, L.Dense(4)(ops.max(ops.layer_normalization(turned), axis=2)), name="inner")
    x = keras.Input((7, 4))
    return shaken(keras.Model(x, L.GRU(2)(inner(inner(x)))))


def functional_inside() -> Any:
    window = keras.Input((4, 2))
    both = L.Concatenate()([L.GlobalAveragePooling1D()(window), L.LSTM(3)(window), window[:, 0]])
    inner = keras.Model(window, L.Dense(4)(both))
    return _steps((None, 4, 2), L.TimeDistributed(inner), L.GRU(3, return_sequences=True))


def _arithmetic(x: Any) -> Any:
    y = ops.tanh(x) * 2 + ops.abs(-x) / 3 - np.array([1.0, 2.0, 3.0], "float32")
    return ops.where(y > 0, ops.log1p(ops.relu(y)), ops.clip(y, -1.0, 0.5)) ** 2


def _of_features(x: Any) -> Any:
    first, *rest = ops.split(x, 3, axis=-1)
    return ops.concatenate(
        [
            *(first, ops.softmax(ops.stack(rest, axis=2), axis=-2)[..., 0]),
            *(ops.norm(x, axis=-1, keepdims=True), ops.expand_dims(ops.std(x, axis=2), -1)),
            *(ops.cumprod(x, axis=-1), ops.flip(x, axis=2), ops.cast(ops.argmax(x, axis=-1)[..., None], "float32")),
        ],
        axis=2,
    )


def _moved_axes(x: Any) -> Any:
    y = ops.transpose(ops.stack([x, x * x], axis=-1), (0, 1, 3, 2))
    return ops.squeeze(ops.reshape(ops.moveaxis(y, 2, 3), (-1, 7, 1, 6)), 2)


def _products(x: Any) -> Any:
    kernel = np.arange(12, dtype="float32").reshape(F, 4) / 10
    y = ops.matmul(x, kernel) + ops.einsum("btf,fu->btu", x, kernel)
    return ops.squeeze(ops.matmul(ops.expand_dims(y, 2), ops.expand_dims(y, 3) * np.ones((1, 4), "float32")), 2)


def _with_constant(join: Callable[[Any, Any], Any], length: int | None = 6) -> Callable[[], Any]:
    """A vector per stream meets every step."""

    def make() -> Any:
        x, c = keras.Input((length, F)), keras.Input((4,))
        return shaken(keras.Model([x, c], L.LSTM(3)(join(L.Dense(4)(x), L.Dense(4, activation="tanh")(c)))))

    return make


def last_steps() -> Any:
    x = keras.Input((6, F))
    y = L.LSTM(4, return_sequences=True)(x)
    parts = [y[:, -1], L.Flatten()(y[:, -1:, 1:]), y[:, -1, ::2]]
    return shaken(keras.Model(x, L.Dense(2)(L.Concatenate()(parts))))


ZOO: dict[str, Callable[[], Any]] = {
    "einsum": lambda: _before(L.EinsumDense("btf,fu->btu", (None, 4), bias_axes="u")),
    "einsum of known length": lambda: _before(L.EinsumDense("btf,fuv->btuv", (7, 4, 2)), L.Reshape((7, -1)), length=7),
    "einsum with dots": lambda: _before(L.EinsumDense("...f,fu->...u", 4, activation="relu")),
    "spectral normalization": lambda: _before(
        L.SpectralNormalization(L.Dense(4)), L.SpectralNormalization(L.Conv1D(3, 2, padding="causal"))
    ),
    "buckets": lambda: _before(L.Discretization([-1.0, 0.0, 1.0]), L.Embedding(4, 2), L.Reshape((-1, 6))),
    "one-hot ids": lambda: _steps((None,), L.CategoryEncoding(5, output_mode="one_hot"), L.LSTM(3), dtype="int32"),
    "one-hot ids of known length, many in a step": lambda: _steps(
        (7, 2), L.CategoryEncoding(5, output_mode="one_hot"), L.Reshape((7, 10)), L.GRU(3), dtype="int32"
    ),
    "hashed ids": lambda: _steps((None,), L.Hashing(6), L.Embedding(6, 3), L.LSTM(2), dtype="int32"),
    "pictures, each step alone": lambda: pictures(None),
    "pictures, each step alone, length 5": lambda: pictures(5),
    "windows as steps": sub_windows,
    "sentences of words": sentences,
    "operations with a fixed batch": fixed_batch,
    "branches with masks": masked_branches,
    "nested operations called twice": called_twice,
    "functional model in each step": functional_inside,
    "a sequence in each step": lambda: _steps(
        (5, 4, 2), L.TimeDistributed(L.Bidirectional(L.LSTM(3))), L.TimeDistributed(L.Dense(3)), L.LSTM(3)
    ),
    "time distributed, masked": lambda: _steps(
        (None,), L.Embedding(5, 3, mask_zero=True), L.TimeDistributed(L.Dense(3)), L.LSTM(3)
    ),
    "normalised, masked": lambda: _steps(
        (None,), L.Embedding(5, 3, mask_zero=True), L.BatchNormalization(), L.RMSNormalization(), L.LSTM(3)
    ),
    "steps reshaped": lambda: _before(
        L.LSTM(6, return_sequences=True), L.Reshape((-1, 2, 3)), L.Permute((1, 3, 2)), L.Dense(2), L.Reshape((-1, 6))
    ),
    "steps reshaped, length 7": lambda: _before(
        L.Dense(6), L.Reshape((7, 2, -1)), L.LayerNormalization(), L.Reshape((7, 6)), length=7
    ),
    "a window of plain numbers": lambda: _steps((7,), L.Reshape((7, 1)), L.LSTM(3), L.Dense(1)),
    "steps with axes": lambda: _steps(
        (None, 4, 2), L.Dense(3), L.SpatialDropout2D(0.2), L.LayerNormalization(), L.Reshape((-1, 12)), L.LSTM(2)
    ),
    "arithmetic": _functional(_arithmetic),
    "parts of each step": _functional(lambda x: ops.concatenate([x[:, :, 0:2], x[..., 1:], x[:, :, ::2]], axis=-1)),
    "operations on features": _functional(_of_features),
    "moved axes": _functional(_moved_axes, length=7),
    "products": _functional(_products),
    "one-hot operation": lambda: shaken(
        keras.Model(x := keras.Input((None,), dtype="int32"), L.LSTM(3)(ops.one_hot(x, 4)))
    ),
    "last steps": last_steps,
    "merged with one column": _functional(lambda x: L.Multiply()([x, x[:, :, :1]])),
    "constant added": _with_constant(lambda x, c: L.Add()([x, c]), length=None),
    "constant of one step added": _with_constant(lambda x, c: L.Add()([x, L.Reshape((1, 4))(c)]), length=None),
    "constant by operator": _with_constant(lambda x, c: x * ops.expand_dims(c, 1)),
    "constant repeated": _with_constant(lambda x, c: L.Concatenate()([x, L.RepeatVector(6)(c)])),
}


def _branches(join: Callable[[Any, Any], Any]) -> Callable[[], Any]:
    return _functional(lambda x: join(x, L.LSTM(F)(x)), length=4)


def _last(body: Callable[[Any], Any]) -> Callable[[], Any]:
    return lambda: keras.Model(x := keras.Input((4, F)), body(L.LSTM(4)(x)))


# name → (model, the layer that must be named, a word of the reason)
REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "einsum along time": (
        lambda: _before(L.EinsumDense("btf,tu->buf", (5, F), name="culprit"), length=4),
        "culprit",
        "along time",
    ),
    "einsum with a bias per step": (
        lambda: _before(L.EinsumDense("btf,fu->btu", (4, 5), bias_axes="tu", name="culprit"), length=4),
        "culprit",
        "along time",
    ),
    "counted ids": (
        lambda: _steps((4,), L.CategoryEncoding(5, name="culprit"), L.Reshape((5, 1)), L.LSTM(2), dtype="int32"),
        "culprit",
        "counts over all steps",
    ),
    "state in each step": (
        lambda: keras.Sequential(
            [
                keras.Input((5, 4, 2), batch_size=2),
                L.TimeDistributed(L.LSTM(3, stateful=True, name="culprit"), name="each"),
                L.LSTM(2),
            ]
        ),
        "each.culprit",
        "stateful",
    ),
    "unknown layer in a model in each step": (
        lambda: _steps(
            (5, 4, 2),
            L.TimeDistributed(_network(Unknown(name="culprit"), L.Flatten(), name="n"), name="each"),
            L.GRU(2),
        ),
        "each.n.culprit",
        "Unknown",
    ),
    "subclassed model nested": (lambda: sequential(Subclassed(), length=4), "culprit", "subclassed"),
    "softmax with the mask of the steps": (
        lambda: _steps((None,), L.Embedding(5, 3, mask_zero=True), L.Softmax(name="culprit"), L.LSTM(3)),
        "culprit",
        "mask",
    ),
    "pictures without a wrapper": (
        lambda: _steps((5, 8, 8), L.Reshape((5, 8, 8, 1)), L.ZeroPadding3D(1, name="culprit"), L.Flatten(), L.Dense(1)),
        "culprit",
        "each picture alone",
    ),
    "window reshaped": (lambda: _before(L.Reshape((2, 6), name="culprit"), length=4), "culprit", "joins all steps"),
    "window reshaped by operation": (
        _functional(lambda x: ops.reshape(x, (-1, 2, 6)), length=4),
        "reshape",
        "joins all steps",
    ),
    "constant concatenated": (
        _with_constant(lambda x, c: ops.concatenate([x, ops.expand_dims(c, 1)], axis=1), None),
        "concatenate",
        "time",
    ),
    "branches of operators": (_branches(lambda x, last: x + ops.expand_dims(last, 1)), "add", "branch"),
    "steps cut out": (_functional(lambda x: x[:, 1:3], length=4), "get_item", "x[:, 1:3]"),
    "softmax operation over time": (_functional(lambda x: ops.softmax(x, axis=1)), "softmax", "time"),
    "flipped operation": (_functional(lambda x: ops.flip(x, axis=1)), "flip", "time"),
    "every axis": (_functional(lambda x: x / ops.norm(x)), "norm", "batch"),
    "stacked before time": (
        _functional(lambda x: ops.reshape(ops.stack([x, x], axis=1), (-1, 4, 6)), length=4),
        "stack",
        "before the time",
    ),
    "features and time swapped": (
        _functional(lambda x: ops.transpose(x, (0, 2, 1)), length=4),
        "transpose",
        "time axis",
    ),
    "a row per step": (
        _functional(lambda x: ops.logaddexp(x, np.ones((4, F), "float32")), length=4),
        "logaddexp",
        "array",
    ),
    "each step against each": (
        _functional(lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))), length=4),
        "transpose",
        "time",
    ),
    "each step against each by letters": (
        _functional(lambda x: ops.einsum("btf,bsf->bts", x, x), length=4),
        "einsum",
        "btf",
    ),
    "streams mixed after time": (_last(lambda h: ops.reshape(h, (-1, 2))), "reshape", "streams"),
    "streams summed after time": (_last(lambda h: h - ops.prod(h, axis=0, keepdims=True)), "prod", "streams"),
    "operation nobody knows": (_functional(lambda x: ops.tile(x, (1, 1, 2))), "tile", "Tile"),
}
