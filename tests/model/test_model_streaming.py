"""The streaming form equals the trained model, prefix by prefix, for every kind; the rest is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import F, door, nested, sequential, shared
from tests.zoo import REFUSED, ZOO
from worker import ModelRefusedError, StateShapeError, StreamingModel
from worker.errors import WorkerError
from worker.model.backend import keras
from worker.model.proof.parity import check, measure

TOLERANCE = 1e-5
# In memory not quite what their files say: states and statistics of their own, layers called twice, operations.
UNSAVED = [
    *("door", "door, batch 20, stateful, length 7", "characters", "adapted", "nested", "shared"),
    *("residual", "last step by slice", "final states"),
]


def vectors(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.zoo
@pytest.mark.parametrize("name", UNSAVED)
def test_each_streamed_output_is_the_models_output_for_the_prefix(name: str) -> None:
    """As ``test_zoo`` proves of each model's file."""
    model = StreamingModel(ZOO[name]())
    found = model.parity(sequences=3, steps=9)
    assert found.max_abs_difference <= TOLERANCE, found
    assert model.check_parity(TOLERANCE, sequences=1, steps=2).steps == 2


@pytest.mark.parametrize("name", ["door", "nested", "residual", "characters"])
def test_plain_keras_says_the_same_to_every_prefix(name: str) -> None:
    """Against predict itself, so that an error in ``parity`` can't hide one in the form."""
    trained = ZOO[name]()
    batch, length = trained.input_shape[0] or 2, trained.input_shape[1] or 5
    rng = np.random.default_rng(1)
    ids = len(trained.input_shape) == 2
    x = rng.integers(0, 11, (batch, length)) if ids else rng.normal(size=(batch, length, F))
    model = StreamingModel(trained)
    states = model.zero_states(batch)
    outputs = []
    for step in range(length):
        y, states = model.step(x[:, step], states)
        outputs.append(y)
    wanted = trained.predict(x, batch_size=batch, verbose=0)
    if wanted.ndim == 3:
        np.testing.assert_allclose(np.stack(outputs, 1), wanted, atol=TOLERANCE)
    else:
        np.testing.assert_allclose(outputs[-1], wanted, atol=TOLERANCE)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cant_be_streamed_is_refused_by_name(name: str) -> None:
    make, layer, word = REFUSED[name]
    trained = make()
    with pytest.raises(ModelRefusedError) as refusal:
        StreamingModel(trained)
    # Without a name of its own in the test, the layer has Keras' automatic one: the model's, or "get_item_3".
    assert refusal.value.layer.startswith(layer or trained.name)
    assert word in str(refusal.value)
    assert refusal.value.instead
    assert "\n" not in str(refusal.value)


def test_flatten_says_what_to_change() -> None:
    with pytest.raises(ModelRefusedError) as refusal:
        StreamingModel(REFUSED["flatten"][0]())
    assert "return_sequences=False" in refusal.value.instead
    assert "'first'" in refusal.value.instead


def test_states_are_listed_in_the_order_of_the_layers() -> None:
    model = StreamingModel(door())
    listed = [(spec.name, spec.shape, spec.dtype) for spec in model.states]
    shapes = [("h", (32,)), ("c", (32,)), ("h", (16,)), ("c", (16,))]
    assert listed == [(name, shape, "float32") for name, shape in shapes]
    assert (model.features, model.units, model.state_width) == (3, 1, 96)
    assert [array.shape for array in model.zero_states(batch=20)] == [(20, 32), (20, 32), (20, 16), (20, 16)]
    assert [report.kind for report in model.layers] == ["LSTM", "LeakyReLU", "Dropout", "LSTM", "Dense"]
    assert model.layers[0].states == tuple(model.states[:2])


def test_the_summary_says_what_became_of_each_layer() -> None:
    lines = StreamingModel(sequential(keras.layers.LSTM(4, name="a"), keras.layers.Dense(1, name="end"))).summary()
    assert lines.splitlines() == ["a    LSTM   states as arguments  h (4,), c (4,)", "end  Dense  as it is"]


@pytest.mark.parametrize("make", [nested, shared])
def test_names_stay_unique_in_nested_and_shared_layers(make: Any) -> None:
    model = StreamingModel(make())
    names = [(spec.layer, spec.name) for spec in model.states]
    assert len(set(names)) == len(names)
    assert all("/" not in layer for layer, _ in names)


def test_nested_layers_are_named_by_their_model() -> None:
    layers = [spec.layer for spec in StreamingModel(nested()).states]
    assert layers == ["lstm", "lstm", "gru", "second.lstm", "second.lstm", "second.gru"]


def two_layers() -> StreamingModel:
    first, second = keras.layers.LSTM(4, name="a", return_sequences=True), keras.layers.GRU(2, name="b")
    return StreamingModel(sequential(first, second))


def test_a_wrong_count_of_states_names_the_layer() -> None:
    model = two_layers()
    with pytest.raises(StateShapeError) as error:
        model.step(vectors(5, F), model.zero_states(5)[:2])
    assert error.value.layer == "b"
    assert "3 states (a.h, a.c, b.h)" in str(error.value)
    assert str(error.value.given) == "2"


@pytest.mark.parametrize("wrong", [(5, 3), (4, 2), (2,), (5, 2, 1)])
def test_a_wrong_shape_of_a_state_names_layer_wanted_and_given(wrong: tuple[int, ...]) -> None:
    model = two_layers()
    states = model.zero_states(5)
    states[2] = np.zeros(wrong)
    calls: list[Callable[[], object]] = [
        lambda: model.step(vectors(5, F), states),
        lambda: model.scan(vectors(2, 5, F), states),
    ]
    for call in calls:
        with pytest.raises(StateShapeError) as error:
            call()
        assert (error.value.layer, error.value.wanted, error.value.given) == ("b", "h (5, 2)", f"{wrong}")


def test_states_may_be_given_by_name() -> None:
    model = two_layers()
    x, states = vectors(5, F), [vectors(5, *spec.shape, seed=place) for place, spec in enumerate(two_layers().states)]
    named = model.by_name(states)
    assert {layer: list(parts) for layer, parts in named.items()} == {"a": ["h", "c"], "b": ["h"]}
    np.testing.assert_array_equal(model.step(x, named)[0], model.step(x, states)[0])
    changes: list[tuple[Callable[[Any], object], str, str]] = [
        (lambda n: n["a"].pop("c"), "a", "nothing"),
        (lambda n: n["b"].update(c=0), "b", "c"),
        (lambda n: n.pop("b"), "b", "nothing"),
        (lambda n: n.update(other={"h": 0}), "other", "h"),
        (lambda n: n["b"].update(h=np.zeros((5, 3))), "b", "(5, 3)"),
    ]
    for change, layer, given in changes:
        wrong = model.by_name(states)
        change(wrong)
        with pytest.raises(StateShapeError) as error:
            model.step(x, wrong)
        assert (error.value.layer, error.value.given) == (layer, given)


def test_wrong_vectors_are_an_error() -> None:
    model = StreamingModel(door())
    for x in (vectors(5, F + 1), vectors(F), vectors(2, 5, F)):
        with pytest.raises(ValueError, match="wanted \\(batch, 3\\)"):
            model.step(x, model.zero_states(5))


def test_ids_that_no_embedding_knows_are_an_error() -> None:
    """TensorFlow takes 3.7 for 3, and -1 for an id."""
    model = StreamingModel(ZOO["words and numbers"]())
    assert model.ids == ((slice(0, 1), 9),)
    x = np.array([[8.0, -0.5, 2.5, 100.0]])
    model.step(x, model.zero_states(1))
    for wrong in (9, -1, 3.7):
        x[0, 0] = wrong
        with pytest.raises(ValueError, match="whole numbers from 0 to 8"):
            model.step(x, model.zero_states(1))
    for name, ids in [("characters", 11), ("a category that stays", 6), ("door", None)]:
        assert [below for _, below in StreamingModel(ZOO[name]()).ids] == ([ids] if ids else [])


def test_states_set_from_outside_are_used() -> None:
    """The same as Keras' own initial_state."""
    layer = keras.layers.LSTM(4, return_sequences=True)
    trained = sequential(layer)
    x, h, c = vectors(2, 6, F), vectors(2, 4, seed=1), vectors(2, 4, seed=2)
    ys, states = StreamingModel(trained).scan(np.swapaxes(x, 0, 1), [h, c])
    np.testing.assert_allclose(np.swapaxes(ys, 0, 1), layer(x, initial_state=[h, c]), atol=1e-6)
    np.testing.assert_allclose(states[0], ys[-1], atol=1e-6)


def test_a_chunk_is_its_steps_and_chunks_go_on() -> None:
    model = StreamingModel(door())
    xs = vectors(10, 5, F)
    whole, end = model.scan(xs, model.zero_states(5))
    first, middle = model.scan(xs[:4], model.zero_states(5))
    second, last = model.scan(xs[4:], middle)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    states, stepped = model.zero_states(5), []
    for x in xs:
        y, states = model.step(x, states)
        stepped.append(y)
    np.testing.assert_array_equal(np.stack(stepped), whole)
    for one, two, three in zip(end, last, states, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
    assert model.scan(xs[:0], middle)[0].shape == (0, 5, 1)


@pytest.mark.parametrize("name", ["door, batch 20, stateful, length 7", "nested", "residual", "characters", "float64"])
def test_the_exported_model_is_an_ordinary_keras_file(name: str, tmp_path: Path) -> None:
    model = StreamingModel(ZOO[name]())
    model.to_keras().save(tmp_path / "step.keras")
    exported = keras.models.load_model(tmp_path / "step.keras")
    rng = np.random.default_rng(3)
    ids = len(exported.inputs[0].shape) == 2
    x = rng.integers(0, 11, (4, 1)) if ids else rng.normal(size=(4, F)).astype(model.dtype)
    states = [rng.normal(size=(4, *spec.shape)).astype(spec.dtype) for spec in model.states]
    y, after = model.step(x, states)
    given = exported.predict([x if ids else x[:, None], *states], verbose=0)
    np.testing.assert_allclose(np.reshape(given[0], y.shape), y, atol=1e-6)
    for one, two in zip(given[1:], after, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_the_trained_model_is_left_alone() -> None:
    trained = door(stateful=True)
    x = vectors(20, 7, F)
    trained(x)
    layer = trained.layers[0]
    before = [*trained.get_weights(), *(keras.ops.convert_to_numpy(state).copy() for state in layer.states)]
    assert np.abs(before[-1]).max() > 0.01
    nodes = len(layer._inbound_nodes)
    model = StreamingModel(trained)
    model.parity(sequences=2, steps=3)
    model.step(x[:, 0], model.zero_states(20))
    for one, two in zip(before, (*trained.get_weights(), *layer.states), strict=True):
        np.testing.assert_array_equal(one, keras.ops.convert_to_numpy(two))
    assert len(layer._inbound_nodes) == nodes


def broken(change: Any) -> tuple[Any, StreamingModel]:
    trained = door()
    model = StreamingModel(trained)
    change(model.to_keras())
    return trained, model


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.layers[-1].bias.assign([0.9]),
        lambda m: next(v for v in m.weights if "recurrent_kernel" in v.path).assign(np.zeros((32, 128))),
        lambda m: m.layers[-1].bias.assign([np.nan]),
    ],
    ids=["bias", "no memory", "not a number"],
)
def test_parity_finds_a_form_that_is_not_the_model(change: Any) -> None:
    _, model = broken(change)
    with pytest.raises(WorkerError, match=r"parity: .*after step"):
        model.check_parity(1e-4, sequences=2, steps=4)


def test_parity_counts_every_kind_of_difference() -> None:
    trained = door()
    model = StreamingModel(trained)
    found = measure(trained, model._explicit, model._packed, 2, 4, 0)
    assert found.max_abs_difference == max(found.prefixes, found.batching, found.original)
    assert check(found, 1e-5) is found


def test_half_precision_states_fit_the_packed_row() -> None:
    trained = sequential(keras.layers.LSTM(6, dtype="mixed_float16"), keras.layers.Dense(1, dtype="float32"))
    model = StreamingModel(trained)
    assert {spec.dtype for spec in model.states} == {"float16"}
    assert model.dtype is np.float32
    _, states = model.step(vectors(3, F), model.zero_states(3))
    assert [state.dtype for state in states] == [np.float16, np.float16]
    packed = model.pack(states, 3)
    np.testing.assert_array_equal(packed, np.concatenate([s.astype(np.float32) for s in states], 1))
    assert model.parity(sequences=2, steps=5).max_abs_difference < 2e-3
