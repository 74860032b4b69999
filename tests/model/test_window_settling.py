"""Models that raise an error at some windows, and windows that are answered seldom: tried and proven all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from worker import StreamingModel
from worker.model.backend import keras
from worker.records.failing_rows import FailingRowsError

L, ops = keras.layers, keras.ops
N = 8


def failing_where(wrong: Callable[[Any], Any]) -> Any:
    """An id that the Embedding does not know where a sum is wrong."""
    keras.utils.set_random_seed(1)
    x = keras.Input((N, 2))
    ids = ops.cast(wrong(ops.sum(x, axis=-1)), "int32") * 9
    return keras.Model(x, L.Dense(2)(L.LSTM(3)(L.Concatenate()([L.Embedding(4, 2)(ids), x]))))


def rarely(x: Any) -> Any:
    return x > 5  # the samples are ids, from 0 to 3


@pytest.mark.parametrize("window", [N, None])
def test_rows_that_fail_are_left_out_of_the_comparison(window: int | None) -> None:
    model = StreamingModel(failing_where(rarely), window=window)
    vectors = model.samples(64, 16).reshape(-1, 2)
    assert rarely(vectors.sum(-1)).any()
    assert model.warm_up(64)
    xs = np.zeros((N, 3, 2), np.float32)
    xs[2, 1] = 3
    with pytest.raises(FailingRowsError) as failing:
        model.scan_packed(xs, np.tile(model.initial_row, (3, 1)))
    assert list(failing.value.reasons) == [1]


def test_the_proof_leaves_out_sequences_that_fail() -> None:
    model = StreamingModel(failing_where(rarely), window=N)
    assert 0 < rarely(model.samples(8, model.proof_steps).sum(-1)).any(1).sum() < 8
    assert model.check_parity(1e-4).sequences == 8


def test_where_every_window_fails_no_row_is_said_to_be_alone() -> None:
    assert not StreamingModel(failing_where(lambda x: x != 0), window=N).warm_up(64)


@pytest.mark.parametrize("fill", ["wait", "zeros"])
def test_a_proof_is_bounded_however_seldom_there_is_an_answer(fill: Any) -> None:
    keras.utils.set_random_seed(1)
    trained = keras.Sequential([keras.Input((N, 2)), L.Flatten(), L.Dense(2)])
    model = StreamingModel(trained, window=N, window_fill=fill, every=1_000_000)
    assert model.first_answer == 1_000_000
    assert model.proof_steps < 300
    assert model.check_parity(1e-4).max_abs_difference <= 1e-6
