"""Graphs compute what the model says, whatever TensorFlow makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from worker import StreamingModel
from worker.model.backend import keras, tf
from worker.model.graph import call_model
from worker.model.graphs import as_graph

L = keras.layers
FEATURES, EVENTS = 3, 5


def likeliest(x: Any) -> Any:
    return tf.math.log(tf.nn.softmax(x))


def bent(x: Any) -> Any:
    z = tf.nn.bias_add(tf.matmul(x, np.full((FEATURES, 4), 0.5, np.float32)), np.full(4, 0.25, np.float32))
    return z * 0.5 * (1.0 + tf.math.erf(z * 0.7))


# What TensorFlow takes for something else, and numbers that show it.
REWRITTEN: dict[str, tuple[Callable[[Any], Any], list[float]]] = {
    "a maximum, for a leaky ReLU": (lambda x: tf.maximum(x, x * 2.0), [-1.0, 2.0, -3.0]),
    "a quotient, for a product": (lambda x: tf.floor(x / 41.0), [41.0, 82.0, 123.0]),
    "two sums, for one": (lambda x: (x - 1.7e9) - 37.0, [1.7e9, 1.7e9 + 128, 3.0]),
    "a logarithm of shares, for their own": (likeliest, [1000.0, 0.0, -1000.0]),
    "a maximum of roots, for the root of it": (lambda x: tf.reduce_max(tf.sqrt(x), axis=1), [4.0, -1.0, 1.0]),
    "a product with erf, for GELU": (bent, [-1.0, 0.5, 2.0]),
    "numbers out of range, for others": (lambda x: x * 1e38 * 1e-38, [700.0, 1.0, 0.0]),
}


@pytest.mark.parametrize("name", REWRITTEN)
def test_a_graph_computes_what_it_says(name: str) -> None:
    function, numbers = REWRITTEN[name]
    x = tf.constant([numbers], tf.float32)
    run = as_graph(lambda given: [function(given)], [tf.TensorSpec([None, 3])])
    np.testing.assert_array_equal(run(x)[0], function(x))


def test_tensorflow_by_itself_computes_something_else() -> None:
    """Or there would be nothing to guard against. Which of them it rewrites depends on the processor."""
    rewritten = []
    for name, (function, numbers) in REWRITTEN.items():
        x = tf.constant([numbers], tf.float32)
        given = tf.function(function, input_signature=[tf.TensorSpec([None, 3])], autograph=False)(x)
        rewritten += [] if np.array_equal(given, function(x), equal_nan=True) else [name]
    assert "a quotient, for a product" in rewritten, rewritten


@pytest.mark.parametrize("window", [None, EVENTS])
def test_so_does_a_model(window: int | None) -> None:
    keras.utils.set_random_seed(3)
    x = keras.Input((EVENTS, FEATURES))
    trained = keras.Model(x, L.Dense(2)(L.LSTM(4)(L.Maximum()([x, x * 2.0]))))
    model: Any = StreamingModel(trained, window=window) if window else StreamingModel(trained)
    model.check_parity(1e-5)
    xs = np.random.default_rng(5).normal(size=(EVENTS, 1, FEATURES)).astype(np.float32)
    states = model.zero_states(1)
    for event in xs:
        y, states = model.step(event, states)
    np.testing.assert_allclose(y, call_model(trained, [np.swapaxes(xs, 0, 1)])[0], atol=1e-6)
