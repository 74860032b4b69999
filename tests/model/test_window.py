"""The window form: any Keras model as it is, on the last events of a sequence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.depth import examples
from worker import StreamingModel
from worker.errors import ModelRefusedError
from worker.model.backend import keras
from worker.model.window.window import Window
from worker.records.failing_rows import FailingRowsError

L, ops = keras.layers, keras.ops
N, F = 6, 3


def of(*layers: Any, shape: tuple[int | None, ...] = (N, F), batch: int | None = None) -> Any:
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input(batch_shape=(batch, *shape)), *layers])


def attended() -> Any:
    x = keras.Input((N, F))
    h = L.Dense(4)(x)
    h = L.LayerNormalization()(h + L.MultiHeadAttention(2, 4)(h, h))
    return keras.Model(x, L.Dense(2)(L.GlobalAveragePooling1D()(h)))


def two_inputs() -> Any:
    """Ids over time by name, readings, and what is constant per stream; two outputs, one of them over time."""
    item, reading, place = keras.Input((None,), name="item"), keras.Input((None, 2), name="reading"), keras.Input((2,))
    x = L.Concatenate()([L.Embedding(7, 3)(item), reading])
    h = L.Bidirectional(L.GRU(3, return_sequences=True))(x)
    kind = L.Dense(3, activation="softmax", name="kind")(L.Concatenate()([L.GlobalMaxPooling1D()(h), place]))
    return keras.Model({"item": item, "reading": reading, "place": place}, {"kind": kind, "each": L.Dense(2)(h)})


class Hidden(keras.Model):
    """Nobody sees its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.end = L.LSTM(4), L.Dense(2)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.end(self.rnn(x[:, ::-1]))


def hidden() -> Any:
    model = Hidden()
    model(np.zeros((1, N, F), np.float32))
    return model


MODELS: dict[str, tuple[Callable[[], Any], int]] = {
    "cnn-lstm": (
        lambda: of(L.Conv1D(4, 2, activation="relu"), L.MaxPooling1D(2), L.LSTM(4), L.Dense(2, activation="softmax")),
        2,
    ),
    "same": (lambda: of(L.Conv1D(4, 3, padding="same", strides=2), L.GlobalMaxPooling1D(), shape=(None, F)), 4),
    "both ways": (lambda: of(L.Bidirectional(L.LSTM(3, return_sequences=True)), L.Dense(2)), 2),
    "flattened": (lambda: of(L.Flatten(), L.Dense(5)), 5),
    "autoencoder": (
        lambda: of(L.LSTM(4), L.RepeatVector(N), L.LSTM(3, return_sequences=True), L.TimeDistributed(L.Dense(F))),
        N * F,
    ),
    "time moved": (lambda: of(L.Permute((2, 1)), L.Dense(2)), 2 * F),
    "masked": (lambda: of(L.Masking(), L.LSTM(3)), 3),
    "code": (lambda: of(L.Lambda(lambda x: x[:, ::-1]), L.GRU(3)), 3),
    "stateful": (lambda: of(L.LSTM(4, stateful=True), L.Dense(2), batch=3), 2),
    "attention": (attended, 2),
    "two inputs": (two_inputs, 5),
    "hidden": (hidden, 2),
    "ids": (lambda: of(L.Embedding(5, 3), L.Bidirectional(L.LSTM(3)), shape=(N,)), 6),
}


@pytest.mark.parametrize("name", MODELS)
def test_each_answer_is_the_trained_models_on_the_window(name: str) -> None:
    build, units = MODELS[name]
    trained = build()
    others: list[dict[str, Any]] = [{}, {"window_fill": "zeros", "every": 2}]
    for more in others:
        model = StreamingModel(trained, window=N, **more)
        assert model.units == units
        found = model.parity(3, model.proof_steps)
        assert found.max_abs_difference <= 1e-6, found
        assert model.warm_up(64)
    assert [state.shape for state in model.states] == [(N, model.features), (1,)]
    assert model.trained.window in (None, N)
    assert model.output_ends.shape == (units, 2)


def test_where_there_is_no_answer_yet_the_outputs_are_masked() -> None:
    model = StreamingModel(of(L.Flatten(), L.Dense(2)), window=N, every=4)
    xs = np.random.default_rng(1).normal(size=(13, 2, F)).astype(np.float32)
    ys, _ = model.scan(xs, model.zero_states(2))
    assert (model.waits, model.first_answer) == (True, 8)
    assert (~np.ma.getmaskarray(ys)[:, 0, 0]).nonzero()[0].tolist() == [7, 11]
    wanted = np.asarray(model._original(np.swapaxes(xs[2:8], 0, 1)))
    np.testing.assert_allclose(ys[7], wanted, atol=1e-6)
    zeros = StreamingModel(of(L.Flatten(), L.Dense(2)), window=N, window_fill="zeros")
    y, _ = zeros.step(xs[0], zeros.zero_states(2))
    assert not zeros.waits
    assert not isinstance(y, np.ma.MaskedArray)
    padded = np.concatenate([np.zeros((2, N - 1, F), np.float32), xs[:1].swapaxes(0, 1)], axis=1)
    np.testing.assert_allclose(y, np.asarray(zeros._original(padded)), atol=1e-6)


@pytest.mark.parametrize(("steps", "fill", "every"), [(5, "wait", 1), (5, "wait", 3), (1, "zeros", 4), (4, "zeros", 7)])
def test_the_count_keeps_its_phase(steps: int, fill: Any, every: int) -> None:
    window = Window(steps, fill, every)
    count: Any = np.zeros(1)
    for number in range(1, 60):
        before, count = count, window.after(count)
        assert window.due(count)[0] == (number % every == 0 and (fill == "zeros" or number >= steps)), number
        assert window.after(np.zeros(1), number) == count
        assert count[0] < steps + 2 * every, before


@pytest.fixture(scope="module")
def forms() -> dict[tuple[str, int], StreamingModel]:
    trained = of(L.Flatten(), L.Dense(2))
    return {(fill, every): StreamingModel(trained, window=N, window_fill=fill, every=every)
            for fill in ("wait", "zeros") for every in (1, 4)}  # fmt: skip


@settings(max_examples=examples(150), deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from(["wait", "zeros"]), st.sampled_from([1, 4]))
def test_a_scan_is_its_steps(forms: Any, seed: int, fill: str, every: int) -> None:
    model, rng = forms[fill, every], np.random.default_rng(seed)
    time, rows = rng.integers(1, 20), rng.integers(1, 5)
    xs = rng.normal(size=(time, rows, F)).astype(np.float32)
    packed = rng.normal(size=(rows, model.state_width)).astype(np.float32)
    packed[:, -1] = rng.choice([0, 1, N, N + 1, 7.4, -3, 1e9], rows)
    initial = rng.normal(size=model.state_width).astype(np.float32)
    resets, active = (rng.random((time, rows)) < share for share in rng.choice([0, 0.1, 0.5, 1], 2))
    if rng.random() < 0.2:
        xs[rng.integers(time), rng.integers(rows)] = np.nan
    ys, after = model.scan_packed(xs, packed, resets, active, initial)
    row, finite = packed, np.ones(rows, np.bool_)
    for at in range(time):
        row = np.where(resets[at][:, np.newaxis], initial, row)
        y, stepped = model.step_packed(np.where(active[at][:, np.newaxis], xs[at], 0), row)
        row = np.where(active[at][:, np.newaxis], stepped, row)
        finite &= np.isfinite(row).all(axis=1)
        np.testing.assert_array_equal(ys[at][active[at]], y[active[at]])
    np.testing.assert_array_equal(after[finite], row[finite])
    assert np.isnan(after[~finite]).all()


def test_rows_at_which_the_model_fails_are_named_in_all_chunks() -> None:
    model = StreamingModel(of(L.Embedding(5, 3), L.Flatten(), L.Dense(2), shape=(N,)), window=N)
    model._packed.multiple_rows, model._packed.one_size = 16, True
    xs = np.zeros((N, 50, 1), np.float32)
    xs[2, [3, 40]] = 9
    packed = np.zeros((50, model.state_width), np.float32)
    with pytest.raises(FailingRowsError) as failing:
        model.scan_packed(xs, packed)
    assert sorted(failing.value.reasons) == [3, 40]


@pytest.mark.parametrize("name", ["cnn-lstm", "two inputs", "stateful"])
def test_it_is_exported_with_the_window_in_front(name: str, tmp_path: Path) -> None:
    model = StreamingModel(MODELS[name][0](), window=N, every=2)
    model.to_keras().save(tmp_path / "window.keras")
    plain = keras.models.load_model(tmp_path / "window.keras", compile=False)
    states = model.zero_states(2)
    for x in np.swapaxes(model.samples(2, 3 * N), 0, 1):
        found = [np.asarray(value) for value in plain([x[:, np.newaxis], *states])]
        y, states = model.step(x, states)
        np.testing.assert_array_equal(found[1][:, 0] > 0, ~np.ma.getmaskarray(y)[:, 0])
        np.testing.assert_allclose(found[0], np.ma.filled(y, 0), atol=1e-6)
        for one, other in zip(found[2:], states, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("window", [N - 1, N + 4])
def test_a_fixed_length_is_the_only_window(window: int) -> None:
    said = f"takes windows of 6 steps, and model.window is {window}; set model.window: 6"
    with pytest.raises(ModelRefusedError, match=said):
        StreamingModel(of(L.LSTM(3)), window=window)


def test_what_can_not_be_run_is_refused() -> None:
    with pytest.raises(ModelRefusedError, match="can't be run on a window of 2 steps"):
        StreamingModel(of(L.Conv1D(2, 4), L.GlobalMaxPooling1D(), shape=(None, F)), window=2)
    with pytest.raises(ModelRefusedError, match="was not built for one input"):
        StreamingModel(Hidden(), window=4)
    others: list[dict[str, Any]] = [{"every": 0}, {"window": 0}, {"window": 70_000}, {"window_fill": "ones"}]
    for wrong in others:
        with pytest.raises(ValueError, match="wanted"):
            StreamingModel(of(L.LSTM(3)), **{"window": N} | wrong)
