"""What the window form takes as one answer per event, of which the last is given, and what as an answer in itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from worker import StreamingModel
from worker.model.backend import keras

L, ops = keras.layers, keras.ops
N, F, AHEAD = 8, 3, 4


def with_attention() -> Any:
    """A forecast of four steps that looks at each step of the window."""
    x = keras.Input((N, F))
    encoded = L.LSTM(5, return_sequences=True)(x)
    decoded = L.LSTM(5, return_sequences=True)(L.RepeatVector(AHEAD)(L.LSTM(5)(encoded)))
    joined = L.Concatenate()([decoded, L.Attention()([decoded, encoded])])
    return keras.Model(x, L.TimeDistributed(L.Dense(1))(joined))


def of(code: Callable[[Any], Any], length: int | None = N) -> Callable[[], Any]:
    def build() -> Any:
        x = keras.Input((length, F))
        return keras.Model(x, code(x))

    return build


def repeated(x: Any, times: int = AHEAD) -> Any:
    return L.RepeatVector(times)(L.LSTM(2)(x))


class Doubled(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return x * 2


class Turned(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return x[:, ::-1]


FORECASTS = {
    "with attention": (with_attention, AHEAD),
    "attention": (of(lambda x: L.Attention()([repeated(x), L.Dense(2)(x)])), AHEAD * 2),
    "additive": (of(lambda x: L.AdditiveAttention()([repeated(x, N), L.Dense(2)(x)]), None), N * 2),
    "heads": (of(lambda x: L.MultiHeadAttention(1, 2)(repeated(x), x)), AHEAD * 2),
    "heads by name": (of(lambda x: L.MultiHeadAttention(1, 2)(query=repeated(x, N), value=x), None), N * 2),
    "first steps": (of(lambda x: L.LSTM(2, return_sequences=True)(x)[:, :AHEAD]), AHEAD * 2),
    "one step left": (of(lambda x: x[:, 1:]), (N - 1) * F),
    "one step": (of(lambda x: x[..., 2:3, :]), F),
    "reshaped": (of(L.Reshape((F, N))), F * N),
    "as wide": (of(lambda x: L.Reshape((F, N))(L.Reshape((N, F))(x))), F * N),
    "turned": (of(lambda x: x[:, ::-1]), N * F),
    "backwards": (of(L.LSTM(2, return_sequences=True, go_backwards=True), None), N * 2),
    "pooled": (of(L.MaxPooling1D(2)), N // 2 * F),
    "across": (of(L.Permute((2, 1))), F * N),
    "length": (of(lambda x: L.Concatenate(axis=1)([x, x])), 2 * N * F),
    "as long as the window": (of(lambda x: L.LSTM(2, return_sequences=True)(repeated(x, N))), N * 2),
    "own code": (of(lambda x: Turned()(x)), N * F),
}  # fmt: skip

PER_EVENT = {
    "both ways": (of(L.Bidirectional(L.LSTM(2, return_sequences=True)), None), 4),
    "self-attention": (of(lambda x: L.LayerNormalization()(x + L.MultiHeadAttention(2, 2)(x, x)), None), F),
    "looks at another": (of(lambda x: L.Attention()([L.Dense(2)(x), repeated(x)])), 2),
    "joined": (of(lambda x: L.Concatenate()([repeated(x, N), x])), 2 + F),
    "code": (of(L.Lambda(lambda x: x * 2)), F),
    "own code": (of(lambda x: Doubled()(x)), F),
    "nested": (of(lambda x: keras.Sequential([keras.Input((N, F)), L.Dense(2), L.Conv1D(2, 3, padding="same")])(x)), 2),
    "by hand": (of(lambda x: ops.matmul(ops.softmax(ops.matmul(x, ops.transpose(x, (0, 2, 1)))), x)), F),
    "einsum": (of(lambda x: ops.einsum("bqd,bkd->bqk", x, x)), N),
    "two axes": (of(lambda x: L.Reshape((N, F))(L.Reshape((N, F, 1))(x)[..., 0])), F),
    "open": (of(lambda x: L.Reshape((-1, F, 1))(x), None), F),
    "convolved": (of(L.Conv1D(2, 3), None), 2),
    "positions": (of(lambda x: x + np.ones((1, N, F), np.float32)), F),
}


@pytest.mark.parametrize("name", FORECASTS)
def test_what_has_other_steps_is_given_as_a_whole(name: str) -> None:
    build, units = FORECASTS[name]
    answers_as_a_whole(build(), units)


def answers_as_a_whole(trained: Any, units: int) -> StreamingModel:
    return answers(trained, units, lambda whole: whole)


def answers(trained: Any, units: int, given: Callable[[Any], Any]) -> StreamingModel:
    """A form whose answer to a full window is what ``given`` makes of the trained model's to it."""
    model = StreamingModel(trained, window=N)
    assert model.units == units
    xs = np.random.default_rng(0).normal(size=(N, 2, F)).astype(np.float32)
    ys, _ = model.scan(xs, model.zero_states(2))
    wanted = given(np.asarray(trained(np.swapaxes(xs, 0, 1))))
    np.testing.assert_allclose(ys[-1], wanted.reshape(2, -1), atol=1e-5)
    return model


@pytest.mark.parametrize("name", PER_EVENT)
def test_of_one_answer_per_event_the_last_is_given(name: str) -> None:
    build, units = PER_EVENT[name]
    last_is_given(build(), units)


def last_is_given(trained: Any, units: int) -> StreamingModel:
    return answers(trained, units, lambda each: each[:, -1])


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_ids_beside_what_is_constant_run_over_time_whatever_their_type(dtype: str) -> None:
    item, place = keras.Input((N,), name="item", dtype=dtype), keras.Input((2,), name="place")
    joined = L.Concatenate()([L.Embedding(7, 3)(item), L.RepeatVector(N)(place)])
    h = L.Bidirectional(L.LSTM(2, return_sequences=True))(joined)
    model = StreamingModel(keras.Model([item, place], L.Dense(2)(h)), window=N)
    assert model.units == 2
    assert model.parity(2, N + 2).max_abs_difference <= 1e-6


class Autoencoder(keras.Model):
    """As many steps out as the window has, and none of them is an event's."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.outside, self.end = L.LSTM(2), L.LSTM(2, return_sequences=True), L.Dense(F)

    def call(self, x: Any) -> Any:
        return self.end(self.outside(L.RepeatVector(N)(self.inside(x))))


class Each(Autoencoder):
    """One answer per event."""

    def call(self, x: Any) -> Any:
        return self.end(self.outside(x))


class Unseen(Autoencoder):
    """Its code can't be followed, but run."""

    def call(self, x: Any) -> Any:
        assert not isinstance(x, keras.KerasTensor), "followed"
        return super().call(x)


class UnseenEach(Each):
    def call(self, x: Any) -> Any:
        assert not isinstance(x, keras.KerasTensor), "followed"
        return super().call(x)


class OfOneLength(Each):
    """Nobody can tell."""

    def call(self, x: Any) -> Any:
        assert not isinstance(x, keras.KerasTensor), "followed"
        assert x.shape[1] == N
        return super().call(x)


def called(kind: type) -> Any:
    model = kind()
    model(np.zeros((1, N, F), np.float32))
    return model


@pytest.mark.parametrize("kind", [Autoencoder, Unseen])
def test_a_subclassed_model_that_gives_as_many_steps_as_the_window_has(kind: type) -> None:
    model = answers_as_a_whole(called(kind), N * F)
    assert not model.outputs[0].guessed


@pytest.mark.parametrize(("kind", "guessed"), [(Each, False), (UnseenEach, False), (OfOneLength, True)])
def test_of_a_subclassed_model_it_is_said_what_is_guessed(kind: type, guessed: bool) -> None:
    model = last_is_given(called(kind), F)
    assert model.outputs[0].guessed == guessed
