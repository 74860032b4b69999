"""Classes of users' own whose code looks at the number of steps, or says what becomes of a mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.models import F, L, sequential
from worker import ModelRefusedError, StreamingModel
from worker.model.backend import keras

pytestmark = pytest.mark.zoo

ops = keras.ops
T = 5


class Table(L.Layer):
    """Positions out of a table that is longer than the window."""

    def __init__(self, rows: int = 50) -> None:
        super().__init__()
        self.rows = rows

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(self.rows, shape[-1]), name="table")

    def call(self, x: Any) -> Any:
        return x + self.table[: x.shape[1]]


@pytest.mark.parametrize("rows", [12, 50])
def test_a_table_longer_than_the_window_ends_with_the_window(rows: int) -> None:
    model = StreamingModel(sequential(Table(rows), L.LSTM(3), L.Dense(2), length=12))
    assert model.check_parity(1e-5, sequences=2).max_abs_difference < 1e-6
    assert model.last_step == 12
    xs = np.ones((13, 1, F), "float32")
    ys, _ = model.scan(xs, model.zero_states(1))
    assert np.isfinite(ys[:12]).all()
    assert np.isnan(ys[12]).all()
    longer = StreamingModel(sequential(Table(50), L.LSTM(3), length=14))
    assert longer.last_step == 14


class Squared(L.Layer):
    """Its output is as wide as the window is long."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units, self.inner = units, L.Dense(units)

    def call(self, x: Any) -> Any:
        y = ops.reshape(self.inner(x), (-1, x.shape[1], self.units // 4, 4))
        return ops.reshape(ops.mean(y, axis=1), (-1, self.units))


@pytest.mark.parametrize("units", [12, 8])
def test_an_output_as_wide_as_the_window_is_long_is_not_the_time(units: int) -> None:
    model = StreamingModel(sequential(Squared(units), L.Dense(2), length=12))
    assert model.check_parity(1e-5, sequences=2).max_abs_difference < 1e-6


class Masked(L.Layer):
    """``hands``: whether the mask goes on, or another one."""

    def __init__(self, hands: Any) -> None:
        super().__init__(name="culprit")
        self.supports_masking, self.hands = True, hands

    def call(self, x: Any) -> Any:
        return x * 2.0

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return self.hands(mask)


@pytest.mark.parametrize("ends", [True, False])
def test_compute_mask_says_whether_the_mask_goes_on(ends: bool) -> None:
    layers = L.Masking(), Masked((lambda mask: None) if ends else (lambda mask: mask))
    trained = sequential(*layers, L.LSTM(3), L.Dense(2), length=T)
    model = StreamingModel(trained)
    assert model.check_parity(1e-5, sequences=3).max_abs_difference < 1e-6
    xs = np.ones((T, 1, F), "float32")
    xs[2:] = 0
    ys, _ = model.scan(xs, model.zero_states(1))
    assert np.array_equal(ys[1], ys[-1]) is not ends
    np.testing.assert_allclose(ys[-1], trained(np.swapaxes(xs, 0, 1)), atol=1e-6)


def test_another_mask_than_that_of_the_input_is_refused() -> None:
    model = sequential(L.Masking(), Masked(ops.logical_not), L.LSTM(3), length=T)
    with pytest.raises(ModelRefusedError, match="compute_mask makes a mask"):
        StreamingModel(model)


class Learned(L.Layer):
    """As in the transformer examples of Keras."""

    def __init__(self) -> None:
        super().__init__(name="culprit")
        self.table = L.Embedding(50, F)

    def call(self, x: Any) -> Any:
        return x + self.table(ops.arange(0, ops.shape(x)[1], 1))


class Sines(L.Layer):
    def __init__(self) -> None:
        super().__init__(name="culprit")

    def call(self, x: Any) -> Any:
        steps = ops.cast(ops.arange(ops.shape(x)[1]), "float32")
        return x + ops.sin(steps[:, None] / ops.power(100.0, ops.arange(F, dtype="float32")))


@pytest.mark.parametrize("kind", [Learned, Sines])
def test_positions_over_an_open_length_are_refused_with_what_helps(kind: Any) -> None:
    open_length, fixed = (sequential(kind(), L.LSTM(3), L.Dense(2), length=length) for length in (None, 12))
    with pytest.raises(ModelRefusedError, match="positions over an open length") as refusal:
        StreamingModel(open_length)
    assert refusal.value.layer.startswith("culprit")
    assert "keras.Input((N, …))" in refusal.value.instead
    assert "model.window: N" in str(refusal.value)
    fixed.set_weights(open_length.get_weights())
    for followed in (StreamingModel(fixed), StreamingModel(open_length, window=12)):
        assert followed.check_parity(1e-5, sequences=2, steps=12).max_abs_difference < 1e-5
