"""The packed step: a row's result is its own, bit for bit, whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import written
from tests.models import door, sequential
from worker import StreamingModel
from worker.assembly.model import prove_model
from worker.config import load_config
from worker.errors import ModelRefusedError
from worker.model.backend import keras
from worker.model.explicit import ExplicitModel
from worker.model.item_ports import refuse_waiting
from worker.model.step import BATCH_MULTIPLES_ROWS, PackedStep
from worker.records.states import StateSpec

L = keras.layers
MODELS: dict[str, Callable[[], Any]] = {
    "door": door,
    "gru 64": lambda: sequential(L.GRU(64), L.Dense(4, activation="softmax"), features=5),
    "one unit": lambda: sequential(L.SimpleRNN(1), features=1),
    "lstm 17": lambda: sequential(L.LSTM(17, return_sequences=True), L.Dense(3), features=7),
}


def rows(model: StreamingModel, count: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(count, model.features)).astype(model.dtype)
    return x, np.tanh(rng.normal(size=(count, model.state_width))).astype(model.dtype)


@pytest.mark.parametrize("name", MODELS)
def test_a_row_does_not_depend_on_its_batch_nor_its_place(name: str) -> None:
    model = StreamingModel(MODELS[name]())
    x, packed = rows(model, 4096)
    y, after = model.step_packed(x, packed)
    chance = np.random.default_rng(9)
    for count in [*range(1, 70), 100, 255, 256, 257, 1000, 4095]:
        given, state = model.step_packed(x[:count], packed[:count])
        np.testing.assert_array_equal(given, y[:count])
        np.testing.assert_array_equal(state, after[:count])
    for count in [*[1] * 50, 3, 31, 300]:
        place = chance.permutation(4096)[:count]
        given, state = model.step_packed(x[place], packed[place])
        np.testing.assert_array_equal(given, y[place])
        np.testing.assert_array_equal(state, after[place])


def test_of_a_model_that_waits_a_column_more_says_which_rows_are_answered() -> None:
    """By hand: the sum of the inputs, answered while it is above 1."""
    x, before = keras.Input((1, 2)), keras.Input((1,))
    after = L.Add()([before, keras.ops.sum(x, axis=(1, 2), keepdims=True)[:, 0]])
    answered = keras.ops.cast(after > 1, "float32")
    explicit = ExplicitModel(
        keras_model=keras.Model([x, before], [L.Concatenate()([after, -after]), answered, after]),
        states=[StateSpec("sum", "h", (1,), "float32")],
        layers=[],
        inputs=[],
        step_shape=(2,),
        features=2,
        units=2,
        outputs=[],
        initial=np.zeros(1, np.float32),
        waits=True,
        first_answer=2,
    )
    packed = PackedStep(explicit)
    xs = np.random.default_rng(2).integers(-1, 3, (9, 5, 2)).astype(np.float32)
    state, ys = np.zeros((5, 1), np.float32), []
    for step in xs:
        y, state = packed.step(step, state)
        ys.append(y)
    sums = np.cumsum(xs.sum(axis=2), axis=0)
    wanted = np.stack([sums, -sums, np.ones_like(sums)], axis=2) * (sums > 1)[..., np.newaxis]
    np.testing.assert_array_equal(np.stack(ys), wanted)
    first = np.zeros((5, 1), np.float32)
    for active in (None, np.ones((9, 5), np.bool_)):
        scanned, last = packed.scan(xs, first, active=active)
        np.testing.assert_array_equal(scanned, wanted)
        np.testing.assert_array_equal(last, state)
    assert packed.scan(xs[:0], first)[0].shape == (0, 5, 3)
    with pytest.raises(ModelRefusedError, match="fewer steps than there are items"):
        refuse_waiting("sums", explicit.waits)


@pytest.mark.parametrize("name", MODELS)
def test_after_the_warm_up_a_row_still_depends_on_nothing_else(name: str) -> None:
    model = StreamingModel(MODELS[name]())
    x, packed = rows(model, 1000)
    before = model.step_packed(x, packed)
    assert model.warm_up(1000)
    assert model._packed.multiple_rows in BATCH_MULTIPLES_ROWS
    for count in (1, 17, 48, 49, 72, 500, 1000):
        for given, whole in zip(model.step_packed(x[:count], packed[:count]), before, strict=True):
            np.testing.assert_array_equal(given, whole[:count])


def _blocks_of(size: int) -> Callable[[Any], tuple[Any, Any]]:
    """A graph whose rows beyond the last whole block come out otherwise, as with TensorFlow's kernels."""

    def graph(joined: Any) -> tuple[Any, Any]:
        rows = np.asarray(joined)
        left_over = np.arange(len(rows)) >= len(rows) - len(rows) % size
        return np.zeros((len(rows), 1), rows.dtype), rows[:, 1:] + 1e-7 * left_over[:, np.newaxis]

    return graph


@pytest.mark.parametrize(("size", "found"), [(8, 16), (16, 16), (24, 24), (48, 48)])
def test_batches_are_padded_to_as_few_rows_as_this_processor_needs(size: int, found: int) -> None:
    model = StreamingModel(MODELS["one unit"]())
    model._packed._step_graph = _blocks_of(size)
    assert model._packed.settle(*rows(model, 500))
    assert model._packed.multiple_rows == found


def test_it_says_so_when_no_padding_makes_rows_independent() -> None:
    model = StreamingModel(MODELS["one unit"]())
    model._packed._step_graph = _blocks_of(7)
    assert not model._packed.settle(*rows(model, 500))


@pytest.mark.parametrize("rows_are_independent", [True, False])
def test_the_log_says_at_start_that_rows_depend_on_each_other(
    rows_are_independent: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not rows_are_independent:
        monkeypatch.setattr("worker.model.step._same", lambda *_: False)
    door().save(tmp_path / "good.keras")
    prove_model(load_config(Path(written(tmp_path)), {}))
    said = [record for record in caplog.records if "on which other streams are in its batch" in record.getMessage()]
    assert len(said) == (not rows_are_independent)


@pytest.mark.parametrize("name", MODELS)
def test_a_scan_gives_the_bits_of_its_steps(name: str) -> None:
    model = StreamingModel(MODELS[name]())
    _, packed = rows(model, 5)
    xs = np.random.default_rng(1).normal(size=(6, 5, model.features)).astype(model.dtype)
    ys, after = model.scan_packed(xs, packed)
    for x, y in zip(xs, ys, strict=True):
        given, packed = model.step_packed(x, packed)
        np.testing.assert_array_equal(given, y)
    np.testing.assert_array_equal(packed, after)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("count", [1, 5, 17])
def test_a_scan_with_returns_to_zero_gives_the_bits_of_its_steps(name: str, count: int) -> None:
    """Rows start again anywhere, from any initial state, and end at different times."""
    model = StreamingModel(MODELS[name]())
    rng = np.random.default_rng(count)
    initial = rng.normal(size=model.state_width).astype(model.dtype)
    _, packed = rows(model, count)
    xs = rng.normal(size=(20, count, model.features)).astype(model.dtype)
    resets = rng.random((20, count)) < 0.2
    active = np.arange(20)[:, np.newaxis] < rng.integers(1, 21, count)
    ys, after = model.scan_packed(xs, packed, resets, active, initial)
    for time in range(20):
        packed = np.where(resets[time, :, np.newaxis], initial, packed)
        given, stepped = model.step_packed(xs[time], packed)
        packed = np.where(active[time, :, np.newaxis], stepped, packed)
        np.testing.assert_array_equal(given[active[time]], ys[time, active[time]])
    np.testing.assert_array_equal(packed, after)


def test_a_scan_tells_what_was_not_finite_on_the_way() -> None:
    model = StreamingModel(sequential(L.SimpleRNN(2, activation="linear"), features=1))
    xs = np.ones((5, 3, 1), model.dtype)
    packed = np.zeros((3, 2), model.dtype)
    packed[1] = np.inf
    resets = np.zeros((5, 3), np.bool_)
    resets[2] = True
    _, after = model.scan_packed(xs, packed, resets)
    assert np.isfinite(after).all(axis=1).tolist() == [True, False, True]


def test_slices_say_where_each_state_is() -> None:
    model = StreamingModel(door())
    assert [(part.start, part.stop, shape) for part, shape in model.slices.values()] == [
        (0, 32, (32,)),
        (32, 64, (32,)),
        (64, 80, (16,)),
        (80, 96, (16,)),
    ]
    x, packed = rows(model, 4)
    y, after = model.step_packed(x, packed)
    listed, states = model.step(x, model.unpack(packed))
    np.testing.assert_array_equal(y, listed)
    np.testing.assert_array_equal(model.pack(states, 4), after)
    assert (model.initial_row.shape, model.initial_row.dtype) == ((96,), np.dtype(np.float32))


def test_float64_models_keep_their_precision() -> None:
    model = StreamingModel(sequential(L.LSTM(5, dtype="float64"), L.Dense(2, dtype="float64")))
    assert model.dtype is np.float64
    x, packed = rows(model, 2)
    y, after = model.step_packed(x, packed)
    assert [y.dtype, after.dtype] == [np.dtype(np.float64)] * 2
    assert not np.array_equal(after, after.astype(np.float32))


def test_warm_up_builds_every_graph() -> None:
    model = StreamingModel(door())
    graphs = {"_step_graph", "_scan_graph", "_masked_scan_graph"}
    assert not graphs & vars(model._packed).keys()
    model.warm_up(64)
    assert graphs <= vars(model._packed).keys()
    for count in (1, 7, 64, 300):  # more rows than warmed up for are no other graph
        x, packed = rows(model, count)
        assert model.step_packed(x, packed)[0].shape == (count, 1)
        assert model.scan_packed(np.stack([x, x]), packed)[0].shape == (2, count, 1)


def test_results_share_no_memory_with_what_was_given() -> None:
    """The engine writes results back into the table that it has read from."""
    model = StreamingModel(sequential(L.GRU(4)))
    x, packed = rows(model, 16)
    before = packed.copy()
    y, after = model.step_packed(x, packed)
    kept = y.copy(), after.copy()
    assert not np.shares_memory(after, packed)
    np.testing.assert_array_equal(packed, before)
    packed[:] = 0
    x[:] = 0
    np.testing.assert_array_equal(y, kept[0])
    np.testing.assert_array_equal(after, kept[1])
