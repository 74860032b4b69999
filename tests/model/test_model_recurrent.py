"""Recurrent layers on single steps, against plain Keras written out: masks, states from outside, names and dtypes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import F, sequential, shaken
from tests.zoo import ZOO
from tests.zoo.cells import Accumulator, Dropping, Learned, Minimal
from worker import ModelRefusedError, StreamingModel
from worker.model.backend import keras
from worker.model.proof.parity import measure

pytestmark = pytest.mark.zoo

L = keras.layers
STEPS, BATCH = 7, 3
KINDS: dict[str, Callable[..., Any]] = {
    "lstm": lambda **more: L.LSTM(4, **more),
    "gru": lambda **more: L.GRU(4, **more),
    "simple": lambda **more: L.SimpleRNN(4, **more),
    "cell": lambda **more: L.RNN(L.LSTMCell(4), **more),
    "cells": lambda **more: L.RNN([L.LSTMCell(4), L.GRUCell(3)], **more),
    "custom cell": lambda **more: L.RNN(Dropping(4), **more),
    "three states": lambda **more: L.RNN([L.GRUCell(3), Accumulator(2)], **more),
}


def vectors(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


COUNTS = np.array([[0, 1, 1, 0, 0, 1, 1], [1, 1, 0, 1, 1, 0, 0], [1, 0, 1, 1, 0, 1, 1]], bool)  # (BATCH, STEPS)


def with_mask(layer: Any) -> Any:
    x, mask = keras.Input((None, F), name="x"), keras.Input((None,), dtype="bool", name="counts")
    return shaken(keras.Model([x, mask], layer(x, mask=mask)))


def stepped(model: StreamingModel, xs: Any, states: Any = None) -> tuple[Any, list[list[Any]]]:
    """xs (batch, time, features) → ys (batch, time, units), the states after each step."""
    states, ys, after = states or model.zero_states(len(xs)), [], []
    for step in range(xs.shape[1]):
        y, states = model.step(xs[:, step], states)
        ys.append(y)
        after.append(states)
    return np.stack(ys, 1), after


@pytest.mark.parametrize("zeros", [False, True], ids=["repeated", "zeros"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_step_is_keras_masked_step(kind: str, zeros: bool) -> None:
    layer = KINDS[kind](return_sequences=True, zero_output_for_mask=zeros)
    model = StreamingModel(with_mask(layer))
    x, mask = vectors(BATCH, STEPS, F), COUNTS
    given, after = stepped(model, np.concatenate([x, mask[..., None]], axis=2))
    np.testing.assert_allclose(given, layer(x, mask=mask), atol=1e-6)
    before = model.zero_states(BATCH)
    for step, states in enumerate(after):
        masked = ~mask[:, step]
        for one, two in zip(before, states, strict=True):
            np.testing.assert_array_equal(one[masked], two[masked])
        assert not np.array_equal(before[0][~masked], states[0][~masked])
        assert np.all(given[masked, step] == (0 if zeros or not step else given[masked, step - 1]))
        before = states


@pytest.mark.parametrize("zeros", [False, True], ids=["repeated", "zeros"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_last_output_of_a_masked_prefix_is_keras_last_output(kind: str, zeros: bool) -> None:
    layer = KINDS[kind](zero_output_for_mask=zeros)
    model = StreamingModel(with_mask(layer))
    x, mask = vectors(BATCH, STEPS, F), COUNTS
    given, _ = stepped(model, np.concatenate([x, mask[..., None]], axis=2))
    for step in range(STEPS):
        wanted = layer(x[:, : step + 1], mask=mask[:, : step + 1])
        np.testing.assert_allclose(given[:, step], wanted, atol=1e-6)


def test_a_first_step_that_is_masked_goes_on_from_states_set_from_outside() -> None:
    """The output before it is the one that those states belong to, not zeros."""
    model = StreamingModel(with_mask(L.LSTM(4)))
    h, c = vectors(1, 4, seed=2), vectors(1, 4, seed=3)
    skipped, counted = np.zeros((1, F + 1), "float32"), np.ones((1, F + 1), "float32")
    y, after = model.step(skipped, [h, c])
    np.testing.assert_array_equal(y, h)
    np.testing.assert_array_equal(after, [h, c])
    assert np.abs(model.step(counted, [h, c])[0] - h).max() > 0.01


def test_the_output_of_a_custom_cell_is_a_state_where_steps_are_masked() -> None:
    model = StreamingModel(with_mask(L.RNN(Dropping(4), name="rnn")))
    assert [spec.name for spec in model.states] == ["0", "1", "output"]
    output = vectors(1, 4, seed=2)
    states = [*model.zero_states(1)[:2], output]
    y, _ = model.step(np.zeros((1, F + 1), "float32"), states)
    np.testing.assert_array_equal(y, output)
    plain = StreamingModel(sequential(L.RNN(Dropping(4))))
    assert [spec.name for spec in plain.states] == ["0", "1"]


def test_what_is_not_a_number_in_a_masked_step_goes_nowhere() -> None:
    model = StreamingModel(with_mask(L.RNN([L.LSTMCell(4), L.GRUCell(3)], return_sequences=True)))
    x, mask = vectors(BATCH, STEPS, F), COUNTS
    clean, end = stepped(model, np.concatenate([x, mask[..., None]], axis=2))
    x[~mask] = np.nan
    spoilt, states = stepped(model, np.concatenate([x, mask[..., None]], axis=2))
    np.testing.assert_array_equal(spoilt, clean)
    for one, two in zip(end[-1], states[-1], strict=True):
        np.testing.assert_array_equal(one, two)


def test_masking_sees_a_step_whose_features_are_all_the_value() -> None:
    model = StreamingModel(sequential(L.Masking(-1.0), L.GRU(4)))
    states = [vectors(4, 4, seed=2)]
    x = np.array([[-1, -1, -1], [-1, -1, 0], [0, 0, 0], [np.nan, -1, -1]], "float32")
    _, (after,) = model.step(x, states)
    assert [bool(np.array_equal(one, two)) for one, two in zip(after, states[0], strict=True)] == [True, *[False] * 3]
    assert np.isnan(after[3]).any()


def begun(layer: Any, states: int, mask: bool = False) -> Any:
    x, known = keras.Input((None, F), name="x"), keras.Input((4,), name="known")
    given = [L.Dense(4, name=f"start_{place}")(known) for place in range(states)]
    more = {"mask": keras.ops.any(keras.ops.not_equal(x, 0.0), axis=-1)} if mask else {}
    return shaken(keras.Model([x, known], layer(x, initial_state=given, **more)))


@pytest.mark.parametrize("kind", ["lstm", "gru", "simple", "cell", "custom cell"])
@pytest.mark.parametrize("mask", [False, True], ids=["every step", "masked"])
def test_a_sequence_begins_at_the_state_that_the_model_gives_it(kind: str, mask: bool) -> None:
    layer = KINDS[kind](return_sequences=True)
    trained = begun(layer, len(layer.state_size), mask)
    model = StreamingModel(trained)
    x, known = vectors(BATCH, STEPS, F), vectors(BATCH, 4, seed=4)
    x[~COUNTS] = 0 if mask else 1
    first = [trained.get_layer(f"start_{place}")(known) for place in range(len(layer.state_size))]
    wanted = layer(x, initial_state=first, **({"mask": np.any(x != 0, axis=-1)} if mask else {}))
    rows = np.concatenate([x, np.repeat(known[:, None], STEPS, axis=1)], axis=2)
    given, after = stepped(model, rows)
    np.testing.assert_allclose(given, wanted, atol=1e-6)
    place = [spec.name for spec in model.states].index("begun")
    assert not model.zero_states(BATCH)[place].any()
    assert (after[0][place] == 1).all()
    assert (after[-1][place] == 1).all()


def test_states_set_from_outside_count_once_begun_is_set() -> None:
    layer = L.LSTM(4, return_sequences=True)
    model = StreamingModel(begun(layer, 2))
    x, known = vectors(BATCH, STEPS, F), vectors(BATCH, 4, seed=4)
    h, c = vectors(BATCH, 4, seed=5), vectors(BATCH, 4, seed=6)
    rows = np.concatenate([x, np.repeat(known[:, None], STEPS, axis=1)], axis=2)
    set_from_outside, _ = stepped(model, rows, [h, c, np.ones((BATCH, 1), "float32")])
    np.testing.assert_allclose(set_from_outside, layer(x, initial_state=[h, c]), atol=1e-6)
    ignored, _ = stepped(model, rows, [h, c, np.zeros((BATCH, 1), "float32")])
    np.testing.assert_array_equal(ignored, stepped(model, rows)[0])


def test_an_initial_state_from_the_sequence_itself_says_what_to_do() -> None:
    x = keras.Input((None, F))
    _, h, c = L.LSTM(4, return_state=True)(x)
    with pytest.raises(ModelRefusedError, match="known only once") as refusal:
        StreamingModel(keras.Model(x, L.LSTM(4, name="decoder")(x, initial_state=[h, c])))
    assert refusal.value.layer == "decoder"
    assert "stream the part before it, an encoder, alone" in refusal.value.instead


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: L.RNN(L.LSTMCell(2)), ["h", "c"]),
        (lambda: L.RNN(L.GRUCell(2)), ["h"]),
        (lambda: L.RNN(Minimal(2)), ["h"]),
        (lambda: L.RNN(Accumulator(2)), ["0", "1", "2"]),
        (lambda: L.RNN([L.LSTMCell(2)]), ["0.h", "0.c"]),
        (
            lambda: L.RNN([L.SimpleRNNCell(2), Accumulator(2), Minimal(3), L.LSTMCell(2)]),
            ["0.h", "1.0", "1.1", "1.2", "2.h", "3.h", "3.c"],
        ),
    ],
)
def test_states_have_names(make: Any, names: list[str]) -> None:
    layer = make()
    model = StreamingModel(sequential(layer))
    assert [(spec.layer, spec.name) for spec in model.states] == [(layer.name, name) for name in names]


def test_a_stream_begins_where_the_cell_says() -> None:
    trained = sequential(L.RNN(Learned(4), name="first", return_sequences=True), L.RNN(Accumulator(2), name="second"))
    model = StreamingModel(trained)
    learned, mean, count, rows = model.zero_states(2)
    first = trained.get_layer("first").cell.first.numpy()
    np.testing.assert_array_equal(learned, [first, first])
    assert np.abs(first).max() > 0.01
    assert not mean.any()
    assert not count.any()
    np.testing.assert_array_equal(rows, np.ones((2, 2, 2)))
    assert [spec.shape for spec in model.states] == [(4,), (2,), (1,), (2, 2)]
    np.testing.assert_array_equal(model.initial_row, np.concatenate([first, np.zeros(3), np.ones(4)]).astype("float32"))


HALF_TOLERANCES = {"mixed_float16": 2e-3, "mixed_bfloat16": 1.6e-2, "float64": 1e-12}


@pytest.mark.parametrize("policy", HALF_TOLERANCES)
def test_states_have_the_dtype_that_the_cell_computes_in(policy: str) -> None:
    stack = L.StackedRNNCells([L.GRUCell(3, dtype=policy), Accumulator(2, dtype=policy)], dtype=policy)
    trained = sequential(
        L.Masking(),
        L.LSTM(4, return_sequences=True, dtype=policy),
        L.RNN(Learned(4, dtype=policy), return_sequences=True, dtype=policy),
        L.RNN(stack, dtype=policy),
        L.Dense(2, dtype="float64" if policy == "float64" else "float32"),
    )
    model = StreamingModel(trained)
    assert {spec.dtype for spec in model.states} == {policy.removeprefix("mixed_")}
    assert model.parity(sequences=2, steps=5).max_abs_difference < HALF_TOLERANCES[policy]


def test_a_cell_more_exact_than_its_layer_keeps_exact_states() -> None:
    """Keras casts states to the layer's dtype only when it returns them, not from step to step."""
    trained = sequential(L.RNN(L.LSTMCell(4, dtype="float32"), dtype="mixed_float16"), L.Dense(1, dtype="float32"))
    model = StreamingModel(trained)
    assert {spec.dtype for spec in model.states} == {"float32"}
    assert model.parity(sequences=2, steps=9).max_abs_difference < 1e-6


@pytest.mark.parametrize("masking", [L.Masking, None], ids=["masked", "not masked"])
def test_the_proof_finds_a_form_that_does_not_mask(masking: Any) -> None:
    """Its samples have masked steps."""

    def make(*before: Any) -> Any:
        return sequential(*before, L.LSTM(4, return_sequences=True), L.GRU(3), L.Dense(2))

    trained, deaf = make(L.Masking()), StreamingModel(make(*([masking()] if masking else [])))
    difference = measure(trained, deaf._explicit, deaf._packed, 3, 9, 0).max_abs_difference
    assert difference < 1e-6 if masking else difference > 0.01


@pytest.mark.parametrize(
    "name",
    [
        "masked ids",
        "masked, multiplied",
        "masked custom cell",
        "masked cells",
        "begun and masked",
        "stack of known and custom cells",
        "cell that is no layer",
        "convolutional, one axis",
    ],
)
def test_the_exported_model_masks_and_begins_alike(name: str, tmp_path: Path) -> None:
    """On steps of which half are masked, from states of every kind."""
    model = StreamingModel(ZOO[name]())
    model.to_keras().save(tmp_path / "step.keras")
    exported = keras.models.load_model(tmp_path / "step.keras")
    x = np.abs(vectors(8, model.features)).astype(int) % 9 if "ids" in name else vectors(8, model.features)
    x[::2] = 0
    states = [np.abs(vectors(8, *spec.shape, seed=place)) for place, spec in enumerate(model.states)]
    y, after = model.step(x, states)
    given = exported.predict([x.reshape(8, *exported.inputs[0].shape[1:]), *states], verbose=0)
    np.testing.assert_allclose(np.reshape(given[0], y.shape), y, atol=1e-6)
    for one, two in zip(given[1:], after, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_a_report_says_that_masked_steps_change_nothing() -> None:
    model = StreamingModel(sequential(L.Masking(), L.LSTM(4, return_sequences=True), L.GRU(3)))
    forms = [report.form for report in model.layers if report.kind in ("LSTM", "GRU")]
    assert forms == [
        "states as arguments, left as they were by masked steps",
        "state as arguments, left as it was by masked steps",
    ]


@keras.saving.register_keras_serializable("tests.model.test_model_recurrent")
class Unregistered(Minimal):
    """As a class is that was registered when the model was made, and is not any more."""

    @classmethod
    def from_config(cls, config: Any) -> Any:
        raise TypeError("unknown class")


def test_a_cell_that_cant_be_made_again_is_named() -> None:
    with pytest.raises(ModelRefusedError, match="unknown class") as refusal:
        StreamingModel(sequential(L.RNN(Unregistered(3), name="rnn")))
    assert refusal.value.layer == "rnn"
    assert "get_config" in refusal.value.instead
