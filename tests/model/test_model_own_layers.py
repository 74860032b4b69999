"""Classes of users' own: what is made of Keras streams, what can't be followed is refused, no class is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.models import F, L, sequential, shaken
from tests.zoo.own import TCN, CnnLstm, Louder, Tower
from worker import ModelRefusedError, StreamingModel
from worker.errors import WorkerError
from worker.model.backend import keras

pytestmark = pytest.mark.zoo

ops = keras.ops
T = 5


def test_a_tcn_says_what_it_was_trained_to_say_and_stays_as_it_is() -> None:
    trained = sequential(TCN(code=True, name="tcn"), L.Dense(2), length=9)
    layer = trained.get_layer("tcn")
    parts = [layer, *layer._flatten_layers()]
    before = [dict(vars(part)) for part in parts]
    model = StreamingModel(trained)
    assert [{**vars(part), "_called": True} for part in parts] == [{**held, "_called": True} for held in before]
    xs = np.random.default_rng(0).normal(size=(9, 2, F)).astype("float32")
    ys, _ = model.scan(xs, model.zero_states(2))
    np.testing.assert_allclose(ys[-1], trained(np.swapaxes(xs, 0, 1)), atol=1e-6)
    assert np.ptp(ys[:, 0]) > 1e-3
    assert {spec.name for spec in model.states} == {"inputs"}


def test_later_training_of_the_layer_changes_nothing() -> None:
    trained = sequential(L.LSTM(3, return_sequences=True), Weighted(), L.GRU(2), length=T)
    model = StreamingModel(trained)
    x = np.ones((1, F), "float32")
    before, _ = model.step(x, model.zero_states(1))
    trained.set_weights([weight * 2 for weight in trained.get_weights()])
    after, _ = model.step(x, model.zero_states(1))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("steps", [T, None])
def test_a_subclassed_model_that_was_called_streams(steps: int | None) -> None:
    tower = Tower(4)
    if steps is None:
        tower(keras.Input((None, F)))
    else:
        tower(np.zeros((2, steps, F), "float32"))
    model = StreamingModel(shaken(tower))
    assert model.trained.window == steps
    assert model.parity(sequences=2, steps=8).max_abs_difference < 1e-6


class Chain(L.Layer):
    def __init__(self, *parts: Any) -> None:
        super().__init__()
        self.parts = parts

    def call(self, x: Any) -> Any:
        for part in self.parts:
            x = part(x)
        return x


WAITING: dict[str, tuple[Callable[[], Any], int]] = {
    "pooling, then recurrent": (lambda: Chain(L.MaxPooling1D(2), L.GRU(4)), 2),
    "convolution, then greatest": (lambda: Chain(L.Conv1D(4, 3), L.GlobalMaxPooling1D()), 3),
    "layer within a layer": (lambda: Chain(Chain(L.Conv1D(4, 3), L.MaxPooling1D(2)), L.LSTM(3)), 4),
    "model within a layer": (lambda: Chain(sequential(L.Conv1D(4, 3), L.MaxPooling1D(2), length=None), L.LSTM(3)), 4),
    "repeated within": (lambda: Chain(L.MaxPooling1D(2), L.GRU(4), L.RepeatVector(2), L.Flatten()), 2),
}


@pytest.mark.parametrize("name", WAITING)
@pytest.mark.parametrize("length", [10, None])
def test_a_layer_within_that_waits_for_steps_has_its_first_answer_where_the_trained_one_has(
    name: str, length: int | None
) -> None:
    make, first = WAITING[name]
    model = StreamingModel(sequential(make(), L.Dense(2), length=length))
    assert model.first_answer == first
    assert model.check_parity(1e-5, sequences=2, steps=8).max_abs_difference < 1e-6


def test_a_cnn_lstm_as_a_class_streams() -> None:
    trained = CnnLstm()
    trained(np.zeros((1, 10, F), "float32"))
    model = StreamingModel(shaken(trained))
    assert model.first_answer == 4
    assert model.check_parity(1e-5, sequences=2).max_abs_difference < 1e-6


class Twice(L.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.louder = Louder()

    def call(self, x: Any) -> Any:
        return self.louder(self.louder(x, by=0.5), by=3.0)


class Chosen(L.Layer):
    """Another layer in each call."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.filtering = L.GRU(F, return_sequences=True), L.Conv1D(F, 3, padding="causal")

    def call(self, x: Any, recurrent: bool = True) -> Any:
        return self.recurrent(x) if recurrent else self.filtering(x)


def test_a_layer_called_with_other_arguments_does_another_thing() -> None:
    x, chosen = keras.Input((None, F)), Chosen()
    for trained in (sequential(Twice(), L.LSTM(2)), keras.Model(x, chosen(chosen(x), recurrent=False))):
        model = StreamingModel(shaken(trained))
        assert model.check_parity(1e-5, sequences=2, steps=8).max_abs_difference < 1e-6
    assert {spec.name for spec in model.states} == {"h", "inputs"}


def test_a_layer_that_another_model_has_called_before_is_as_long_as_here() -> None:
    table = Chain(L.GRU(3, return_sequences=True), L.Dense(2))
    sequential(table, length=30)
    assert StreamingModel(sequential(table, length=6)).check_parity(1e-5, sequences=2, steps=8).prefixes < 1e-6


class Weighted(L.Layer):
    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], 2), name="kernel")

    def call(self, x: Any) -> Any:
        return ops.tanh(x @ self.kernel)


class Centred(L.Layer):
    """The mean of the whole window: later steps change it."""

    def call(self, x: Any) -> Any:
        return x - ops.mean(x, axis=1, keepdims=True)


class Counting(L.Layer):
    """A state in Python."""

    calls = 0

    def call(self, x: Any) -> Any:
        self.calls += 1
        return x * self.calls


class Drawing(L.Layer):
    def call(self, x: Any) -> Any:
        return x * np.random.default_rng().normal()


class Assigning(L.Layer):
    def build(self, shape: Any) -> None:
        self.seen = self.add_weight(shape=(), name="seen", trainable=False)

    def call(self, x: Any) -> Any:
        self.seen.assign(self.seen + 1)
        return x * 2.0


class Deciding(L.Layer):
    def call(self, x: Any) -> Any:
        return x * 2 if ops.sum(x) > 0 else x

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class Turned(L.Layer):
    """The streams of a batch for the steps."""

    def call(self, x: Any) -> Any:
        return x + ops.mean(x, axis=0, keepdims=True)


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "centred": (Centred, "one that does not"),
    "counting": (Counting, "something else each time"),
    "drawing": (Drawing, "something else each time"),
    "assigning": (Assigning, "changes variables"),
    "deciding": (Deciding, "can't be followed"),
    "turned": (Turned, "across the sequences of a batch"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_followed_is_refused_by_name(name: str) -> None:
    make, words = REFUSED[name]
    model = sequential(make(name="culprit"), L.LSTM(2), length=T)
    with pytest.raises(ModelRefusedError, match=words) as refusal:
        StreamingModel(model)
    assert refusal.value.layer.startswith("culprit")


class ByLength(L.Layer):
    """The number of steps as a number: only with other lengths it shows that the sum is divided by another."""

    def call(self, x: Any) -> Any:
        return ops.sum(x, axis=1) / x.shape[1]


def test_a_number_that_follows_from_the_length_is_found_by_the_proof() -> None:
    model = StreamingModel(sequential(L.LSTM(3, return_sequences=True), ByLength(), L.Dense(1), length=T))
    with pytest.raises(WorkerError, match="differs from the trained one"):
        model.check_parity(1e-4, sequences=2, steps=T)
