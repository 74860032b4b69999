"""Where a model's answers end, as its last layers say it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.models import L, door, sequential
from worker.model.backend import keras
from worker.model.streaming import StreamingModel

INF = float("inf")
SIGMOID, TANH, SOFTMAX, NOWHERE = [0.0, 1.0], [-1.0, 1.0], [-INF, 1.0], [-INF, INF]


def ends(model: Any) -> list[list[float]]:
    found: list[list[float]] = StreamingModel(model).output_ends.tolist()
    return found


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        ([L.Dense(1, activation="sigmoid")], [SIGMOID]),
        ([L.Dense(2, activation="tanh"), L.Dropout(0.1)], [TANH, TANH]),
        ([L.Dense(3, activation="softmax")], [SOFTMAX] * 3),
        ([L.Dense(2), L.Softmax()], [SOFTMAX] * 2),
        ([L.Dense(1), L.Activation("hard_sigmoid")], [SIGMOID]),
        ([L.TimeDistributed(L.Dense(1, activation="softsign"))], [TANH]),
        ([L.Dense(1)], [NOWHERE]),
        ([L.Dense(1, activation="relu")], [NOWHERE]),
        ([], [NOWHERE] * 4),
    ],
)
def test_the_ends_of_each_unit(layers: list[Any], wanted: list[list[float]]) -> None:
    assert ends(sequential(L.GRU(4, return_sequences=True), *layers)) == wanted


def test_several_outputs_side_by_side() -> None:
    x = keras.Input((None, 3))
    h = L.GRU(4, return_sequences=True)(x)
    outputs = [L.Dense(2, activation="softmax")(h), L.Dense(1)(h), keras.Sequential([L.Dense(1, activation="tanh")])(h)]
    assert ends(keras.Model(x, outputs)) == [SOFTMAX, SOFTMAX, NOWHERE, TANH]


def test_no_answer_is_beyond_its_ends() -> None:
    model = StreamingModel(door(None))
    x = np.full((5, model.features), 1e6, np.float32)
    y, _ = model.step(x, model.zero_states(5))
    (low, high), *_ = model.output_ends
    assert ((low <= y) & (y <= high)).all()
