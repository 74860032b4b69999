"""Graphs compute what the model says, whatever TensorFlow makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from worker import StreamingModel
from worker.model.backend import keras, tf
from worker.model.graph import call_model
from worker.model.graphs import as_graph

L = keras.layers
FEATURES, EVENTS = 3, 5


@pytest.mark.parametrize("factor", [-0.5, 0.2, 1.0, 2.0])
def test_a_maximum_of_a_number_and_its_multiple_is_not_taken_for_a_leaky_relu(factor: float) -> None:
    x = np.array([[-1.0, 2.0, -3.0]], np.float32)
    run = as_graph(lambda given: [tf.maximum(given, given * factor)], [tf.TensorSpec([None, 3])])
    np.testing.assert_array_equal(run(tf.constant(x))[0], np.maximum(x, x * factor))


@pytest.mark.parametrize("window", [None, EVENTS])
def test_nor_is_it_in_a_model(window: int | None) -> None:
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
