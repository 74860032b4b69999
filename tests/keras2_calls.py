"""Writes a model of Keras 2 for each call of TensorFlow in its graph: python -m tests.keras2_calls FOLDER.

The calls are text, so that tests can list them without tf-keras; a process of its own runs them. In each, x is what an
LSTM answers to every step, (batch, time, 3), and h what it answers after the last, (batch, 3).
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np

ROWS, T, F = 4, 4, 3

_GO_ON = ("mean", "sum", "max", "min")  # with every step
_REDUCED = (*_GO_ON, "prod", "std", "variance", "logsumexp")
_ALONG = (
    *("tf.math.l2_normalize", "tf.nn.softmax", "tf.nn.log_softmax", "tf.math.argmax", "tf.math.argmin"),
    *("tf.math.cumsum", "K.l2_normalize", "K.argmax", "K.softmax", "K.cumsum"),
)
_LAST_BY_DEFAULT = ("tf.nn.softmax", "tf.nn.log_softmax", "K.softmax", "K.argmax")


def _each(call: str, *axes: str) -> list[str]:
    """The call with each of these arguments, "" for none: the calls say {} where they go."""
    return [call.format(f", {axis}" if axis else "") for axis in axes]


_X_FEATURES, _X_TIME = ("axis=2", "axis=-1"), ("axis=1", "axis=-2")
_H_FEATURES, _BATCH = ("axis=1", "axis=-1"), ("axis=0", "axis=-3")

# They stream, and by the numbers of Keras 2.
STREAMED = [
    *(one for name in _REDUCED for one in _each(f"tf.math.reduce_{name}(x{{}})", *_X_FEATURES, "axis=[2]")),
    *(one for name in _REDUCED for one in _each(f"tf.math.reduce_{name}(h{{}})", *_H_FEATURES, "axis=[-1]")),
    *(one for name in _GO_ON for one in _each(f"tf.math.reduce_{name}(x{{}})", *_X_TIME, "axis=[1]")),
    *(one for name in _GO_ON for one in _each(f"tf.math.reduce_{name}(x{{}}, keepdims=True)", "axis=1", "axis=-1")),
    *(one for name in ("any", "all") for one in _each(f"tf.math.reduce_{name}(x > 0.1{{}})", "axis=2", "axis=[-1]")),
    *(one for call in _ALONG for one in _each(f"{call}(x{{}})", *_X_FEATURES)),
    *(one for call in _ALONG for one in _each(f"{call}(h{{}})", *_H_FEATURES)),
    *(f"{call}({tensor})" for call in _LAST_BY_DEFAULT for tensor in ("x", "h")),
    *("tf.math.l2_normalize(x, axis=[2])", "tf.math.l2_normalize(x * 1e-7, -1)", "tf.nn.softmax(x, axis=None)"),
    *_each("tf.concat([x, 2 * x]{})", *_X_FEATURES), *_each("tf.concat([h, 2 * h]{})", *_H_FEATURES),
    *("K.concatenate([x, x])", "tf.math.cumsum(x, axis=1)", "K.cumsum(x, 1)"),
    *_each("tf.stack([x, 2 * x]{})", "axis=2", "axis=3", "axis=-1", "axis=-2"),
    *_each("tf.stack([h, 2 * h]{})", "axis=1", "axis=2", "axis=-1"),
    *_each("tf.unstack(x{})[1]", *_X_FEATURES), *_each("tf.split(x, 3{})[1]", *_X_FEATURES),
    *("tf.split(x, [1, 2], axis=2)[1]", "tf.split(x, [1, 1, 1], -1)[2]", "tf.split(h, 3, axis=1)[2]"),
    *_each("tf.expand_dims(x{})", "axis=2", "axis=3", "axis=-1", "axis=-2"), "tf.expand_dims(h, 1)", "K.expand_dims(x)",
    *("tf.squeeze(x[..., :1], axis=2)", "tf.squeeze(x[..., :1], axis=[-1])", "tf.squeeze(x[..., :1, None], [2, 3])"),
    *("K.squeeze(x[..., None], 3)", "tf.squeeze(h[:, :1], axis=1)"),
    *("tf.transpose(x, [0, 1, 2])", "tf.transpose(x[..., None], [0, 1, 3, 2])", "tf.transpose(h, [0, 1])"),
    *("tf.reshape(h, [-1, 3, 1])", "tf.gather(x, 1, axis=2)"),
    *_each("tf.gather(x, [2, 0]{})", *_X_FEATURES), "tf.gather(x, [2, 0], axis=2, batch_dims=0)",
    *("tf.gather(h, [0, 2], axis=1)", "tf.one_hot(tf.argmax(x, 2), 3)", "tf.one_hot(tf.argmax(x, 2), 3, axis=-1)"),
    *("tf.one_hot(tf.argmax(x, 2), 2, dtype='float64')", "tf.one_hot(tf.cast(x[:, :, 0] * 5, 'int32'), 3)"),
    *("tf.clip_by_value(x, -0.1, 0.2)", "tf.nn.moments(x, axes=[2])[0]", "tf.nn.gelu(x)", "tf.nn.leaky_relu(x)"),
    *("tf.nn.gelu(x, approximate=True)", "tf.nn.leaky_relu(x, 0.05)", "tf.nn.elu(x)", "tf.nn.relu6(9 * x)"),
    *("K.relu(9 * x, alpha=.1, max_value=2., threshold=.5)", "K.relu(x, alpha=0.2)", "K.hard_sigmoid(9 * x)"),
    *("K.elu(x, 0.5)", "tf.round(9 * x)", "tf.math.floormod(x, -0.07)", "x // 0.07", "x % 0.07", "0.5 // x"),
    *("tf.pow(abs(x), x)", "2.0 ** x", "tf.cast(9 * x, 'int32') // 2", "tf.cast(9 * x, 'int32') % 3"),
    *("tf.cast(9 * x, 'int32') / 2", "tf.cast(9 * x, 'bool')", "tf.cast(x, 'float64') * 2", "tf.argmax(x, 2) / 2"),
    *("tf.where(x > 0, x, 0.0)", "tf.where(x[..., :1] > 0, x, 2 * x)", "tf.where(x > 0, 1.0, 0.0)", "1 - x"),
    *("tf.math.divide_no_nan(x, tf.nn.relu(x))", "tf.add_n([x, x])", "tf.nn.bias_add(x, [1., 2., 3.])"),
    *("x[:]", "x[...]", "x[:, :]", "x[0:]", "x[::1]", "x[:, -1]", "x[:, -1:]", "x[:, -1][...]", "x[:, -1][:]"),
    *("x[..., 0]", "x[..., ::2]", "x[..., ::-1]", "x[..., None]", "x[:, :, 1]", "h[...]", "h[:]", "h[:, 0]"),
    *("tf.linalg.matmul(x, np.ones((3, 2), 'float32'))", "tf.linalg.matmul(h, np.ones((3, 2), 'float32'))"),
]  # fmt: skip

# They mix streams or steps, or have no equal in Keras 3: {call: the reason, as it begins}.
_MIXED = "(along|axis=).* (mixes the streams of a batch|goes across the sequences of a batch)"
_TIME = "axis=.* is time"
_MOVED = "it moves the batch axis or the time axis away"
_AXIS_BEFORE = "axis=.* puts a new axis before the time axis"
_TAKEN = "it takes x.* out of the batch"
_ODD = "it is tf.* an operation of Keras 2 that is not converted"
_GROUPS: list[tuple[str, list[str]]] = [
    *((_MIXED, _each(f"tf.math.reduce_{name}(x{{}})", "", *_BATCH, "axis=[0, 1]")) for name in _REDUCED),
    *((_MIXED, _each(f"tf.math.reduce_{name}(h{{}})", "", "axis=0", "axis=-2")) for name in _REDUCED),
    *((_MIXED, _each(f"tf.math.reduce_{name}(x > 0.1{{}})", "", "axis=0")) for name in ("any", "all")),
    *((_TIME, _each(f"tf.math.reduce_{name}(x{{}})", *_X_TIME, "axis=[1, 2]")) for name in _REDUCED[4:]),
    *((_MIXED, _each(f"{call}(x{{}})", *_BATCH)) for call in _ALONG),
    *((_MIXED, [f"{call}(h, axis=0)"]) for call in _ALONG),
    *((_MIXED, [f"{call}(x)", f"{call}(h)"]) for call in _ALONG if call not in _LAST_BY_DEFAULT),
    *((_TIME, _each(f"{call}(x{{}})", *_X_TIME)) for call in _ALONG if "soft" not in call and "cum" not in call),
    ("over time the share", _each("tf.nn.softmax(x{})", *_X_TIME)),
    (_TIME, ["tf.nn.log_softmax(x, axis=1)", "tf.concat([x, x], axis=1)", "tf.split(x, 1, axis=1)[0]"]),
    (_TIME, ["tf.unstack(x, axis=1)[3]", "tf.gather(x, [0, 1], axis=1)", "tf.gather(x, 0, axis=-2)"]),
    (_MIXED, ["tf.math.l2_normalize(x, axis=None)", "tf.compat.v1.math.l2_normalize(x)", "tf.argmax(x, axis=None)"]),
    (_MIXED, ["tf.gather(x, [0, 1])", "tf.split(x, 1)[0]", "K.gather(h, [0])", "tf.split(h, 1, axis=0)[0]"]),
    (_MIXED, ["tf.concat([x, x], axis=0)", "tf.concat([h, h], axis=0)"]),
    (_AXIS_BEFORE, ["tf.stack([x, x])", "tf.stack([h, h])", "K.stack([x, x])", "tf.expand_dims(x, 1)"]),
    (_AXIS_BEFORE, ["tf.expand_dims(h, 0)", "tf.one_hot(tf.argmax(x, 2), 3, axis=1)"]),
    (_MOVED, ["tf.transpose(x)", "tf.transpose(x, [0, 2, 1])", "tf.transpose(h)", "tf.transpose(h, [1, 0])"]),
    ("without an axis", ["tf.squeeze(x[..., :1])", "tf.squeeze(h[:, :1])"]),
    ("it mixes the streams of a batch", ["tf.reshape(x, [-1])", "tf.reshape(h, [-1])", "K.flatten(x)"]),
    ("Reshape joins all steps of the window", ["tf.reshape(x, [-1, 3])"]),
    (_TAKEN, ["x[0]", "x[-1]", "x[1:]", "x[:2]", "x[::-1]", "x[None]", "x[0, :]", "x[None, ...][0]"]),
    (_TAKEN, ["h[0]", "h[1:]", "h[None]"]),
    ("it cuts x.* out of the sequence", ["x[:, 0]", "x[:, None]"]),
    (_ODD, ["tf.norm(x)", "tf.sort(x, axis=1)", "tf.roll(x, 1, axis=1)", "tf.repeat(x, 2)", "tf.tile(x, [1, 1, 2])"]),
    (_ODD, ["tf.clip_by_norm(x, 0.1)", "tf.math.top_k(x, 2)[0]", "tf.reverse(x, [1])", "tf.math.cumprod(x)"]),
    ("it is tf.math.l2_normalize with epsilon, an operation", ["tf.math.l2_normalize(x, -1, epsilon=0.1)"]),
    ("it is tf.math.cumsum with reverse, an operation", ["tf.math.cumsum(x, axis=2, reverse=True)"]),
    ("it is tf.one_hot with on_value, an operation", ["tf.one_hot(tf.argmax(x, 2), 3, on_value=2.)"]),
    ("it is tf.split with a size of -1, an operation", ["tf.split(x, [2, -1], axis=2)[1]"]),
    ("it is tf.compat.v1.transpose with conjugate, an operation", ["tf.transpose(x, conjugate=True)"]),
    ("it is tf.ones_like with dtype, an operation", ["tf.ones_like(x, dtype='int32')"]),
]
REFUSED = {call: why for why, calls in _GROUPS for call in calls}
CALLS = [*STREAMED, *REFUSED]


def main(folder: Path) -> None:
    tf, keras = (importlib.import_module(name) for name in ("tensorflow", "tf_keras"))
    known = {"tf": tf, "K": keras.backend, "np": np}
    rng = np.random.default_rng(3)
    given = rng.normal(scale=1.5, size=(ROWS, T, F)).astype("float32")
    np.save(folder / "x.npy", given)
    x = keras.Input((T, F))
    layers = {name: keras.layers.LSTM(3, return_sequences=name == "x") for name in ("x", "h")}
    outputs = {name: layer(x) for name, layer in layers.items()}
    for layer in layers.values():
        layer.set_weights([rng.normal(scale=0.8, size=weight.shape) for weight in layer.get_weights()])
    prefixes = [{name: layer(given[:, : n + 1]) for name, layer in layers.items()} for n in range(T)]
    for number, call in enumerate(CALLS):
        keras.Model(x, eval(call, known, outputs)).save(folder / f"{number}.h5")
        if call in STREAMED:
            np.savez(folder / str(number), *(np.asarray(eval(call, known, prefix)) for prefix in prefixes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
