"""Attention over the steps so far, with their keys and values as state, and positions counted by the stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.model.test_zoo import assert_exported
from tests.models import F, L, shaken
from worker import ModelRefusedError, StreamingModel
from worker.assembly.lengths import check_length
from worker.config.sections import Config
from worker.errors import ConfigError
from worker.model.backend import keras

pytestmark = pytest.mark.zoo

ops = keras.ops
T, D = 8, 4


def encoding(steps: int, width: int) -> Any:
    """The sines and cosines of "Attention is all you need"."""
    angles = np.arange(steps)[:, None] / 10_000 ** (np.arange(width) // 2 * 2 / width)[None]
    return np.where(np.arange(width) % 2, np.cos(angles), np.sin(angles)).astype("float32")


def of(body: Any, length: int | None = T) -> Any:
    x = keras.Input((length, F))
    return shaken(keras.Model(x, body(L.Dense(D)(x))))


def attended(h: Any, **more: Any) -> Any:
    return L.MultiHeadAttention(2, 3, **more)(h, h, use_causal_mask=True)


def every_way(h: Any) -> list[Any]:
    other = L.Dense(D)(h)
    asked = L.RepeatVector(3)(L.LSTM(D)(h))
    return [
        attended(h),
        attended(h, dropout=0.1, value_dim=5, output_shape=3),
        attended(h, use_bias=False),
        L.MultiHeadAttention(2, 3)(h, h, attention_mask=np.tri(T, dtype="bool")[None]),
        L.MultiHeadAttention(2, 3)(h, other, h, use_causal_mask=True),
        L.GroupQueryAttention(3, 4, 2)(h, h, use_causal_mask=True),
        L.Attention()([h, other], use_causal_mask=True),
        L.Attention(use_scale=True, score_mode="concat")([h, other, h], use_causal_mask=True),
        L.AdditiveAttention()([h, h], use_causal_mask=True),
        # a result so far that asks all steps: the attention of decoders
        L.Flatten()(L.Attention()([asked, h])),
        L.Flatten()(L.AdditiveAttention()([asked, other, h])),
        L.Flatten()(L.MultiHeadAttention(2, 2)(asked, h)),
    ]


def test_every_kind_of_attention_streams_up_to_its_memory(tmp_path: Path) -> None:
    model = StreamingModel(of(every_way), memory=T + 1)
    assert model.exact_steps == T + 1
    found = model.parity(sequences=2, steps=40)
    assert found.max_abs_difference < 1e-6, found
    assert found.steps == T + 1
    assert_exported(model, tmp_path / "step.keras", 1e-6)


@pytest.mark.parametrize("memory", [1, 3])
def test_beyond_its_memory_it_looks_at_the_last_steps(memory: int) -> None:
    """Then it is the attention of one that was given only those."""
    trained = of(lambda h: attended(h), None)
    model = StreamingModel(trained, memory=memory)
    xs = np.random.default_rng(1).normal(size=(9, 2, F)).astype("float32")
    ys, _ = model.scan(xs, model.zero_states(2))
    for step in range(9):
        seen = np.swapaxes(xs[max(0, step + 1 - memory) : step + 1], 0, 1)
        np.testing.assert_allclose(ys[step], np.asarray(trained(seen))[:, -1], atol=1e-6)


@pytest.mark.skipif(not hasattr(L.MultiHeadAttention(1, 1), "_sliding_window"), reason="this Keras has no such window")
def test_a_sliding_window_is_its_own_memory() -> None:
    model = StreamingModel(of(lambda h: attended(h, sliding_window=3), None))
    assert model.exact_steps is None
    assert model.parity(sequences=2, steps=12).max_abs_difference < 1e-6


def test_without_memory_the_refusal_names_the_trained_length() -> None:
    with pytest.raises(ModelRefusedError, match=f"set model.memory: {T}, the steps to look back over"):
        StreamingModel(of(lambda h: attended(h)))


@keras.saving.register_keras_serializable("tests.attention")
class Bahdanau(L.Layer):
    """Additive attention as in TensorFlow's pages: the last step asks all."""

    def build(self, shape: Any) -> None:
        self.of_steps, self.of_last, self.scored = L.Dense(5), L.Dense(5), L.Dense(1)
        self.of_steps.build(shape)
        self.of_last.build(shape)
        self.scored.build((None, 5))
        super().build(shape)

    def call(self, steps: Any) -> Any:
        asked = ops.expand_dims(steps[:, -1], 1)
        scores = self.scored(ops.tanh(self.of_steps(steps) + self.of_last(asked)))
        return ops.sum(ops.softmax(scores, axis=1) * steps, axis=1)


def luong(h: Any) -> Any:
    """As published for LSTM with many-to-one attention: the last hidden state asks all."""
    last = L.Lambda(lambda x: x[:, -1, :], output_shape=(D,))(h)
    scores = L.Dot(axes=[1, 2])([last, L.Dense(D, use_bias=False)(h)])
    context = L.Dot(axes=[1, 1])([h, L.Activation("softmax")(scores)])
    return L.Dense(3, use_bias=False, activation="tanh")(L.Concatenate()([context, last]))


def old_luong(h: Any) -> Any:
    last = L.LSTM(D)(h)
    shares = L.Softmax(axis=1)(L.Dense(1)(L.Multiply()([h, last])))
    return L.Lambda(lambda x: ops.sum(x, axis=1), output_shape=(D,))(L.Multiply()([shares, h]))


@pytest.mark.parametrize("body", [luong, old_luong, lambda h: Bahdanau()(h)])
@pytest.mark.parametrize("length", [T, None])
def test_what_the_last_step_asks_of_all_is_asked_anew(body: Any, length: int | None) -> None:
    trained = of(lambda h: body(L.LSTM(D, return_sequences=True)(h)), length)
    model = StreamingModel(trained, memory=T)
    assert model.parity(sequences=2, steps=40).max_abs_difference < 1e-6
    xs = np.random.default_rng(1).normal(size=(T, 2, F)).astype("float32")
    ys, _ = model.scan(xs, model.zero_states(2))
    np.testing.assert_allclose(ys[-1], trained(np.swapaxes(xs, 0, 1)), atol=1e-6)
    assert np.ptp(ys, axis=0).min() > 1e-4
    with pytest.raises(ModelRefusedError):
        StreamingModel(trained)


@keras.saving.register_keras_serializable("tests.attention")
class Block(L.Layer):
    """The transformer block of many tutorials, causal."""

    def build(self, shape: Any) -> None:
        self.heads = L.MultiHeadAttention(2, 3)
        self.wide, self.narrow = L.Dense(7, activation="relu"), L.Dense(shape[-1])
        self.norms = [L.LayerNormalization(epsilon=1e-6), L.LayerNormalization(epsilon=1e-6)]
        self.drops = [L.Dropout(0.1), L.Dropout(0.1)]
        self.heads.build(shape, shape)
        self.wide.build(shape)
        self.narrow.build((*shape[:-1], 7))
        for norm in self.norms:
            norm.build(shape)
        super().build(shape)

    def call(self, x: Any, training: bool = False) -> Any:
        heard = self.drops[0](self.heads(x, x, use_causal_mask=True), training=training)
        x = self.norms[0](x + heard)
        return self.norms[1](x + self.drops[1](self.narrow(self.wide(x)), training=training))


@keras.saving.register_keras_serializable("tests.attention")
class Placed(L.Layer):
    """Ids and their places, both embedded, as in the text models of Keras' pages."""

    def build(self, shape: Any) -> None:
        self.items, self.places = L.Embedding(9, D), L.Embedding(T, D)
        self.items.build(shape)
        self.places.build(shape)
        super().build(shape)

    def call(self, ids: Any) -> Any:
        return self.items(ids) + self.places(ops.arange(ops.shape(ids)[-1]))


def test_a_transformer_of_ids_with_learned_places_streams() -> None:
    ids = keras.Input((T,), dtype="int32")
    y = Block()(Block()(Placed()(ids)))
    trained = shaken(keras.Model(ids, L.Dense(2, activation="softmax")(y[:, -1])))
    model = StreamingModel(trained, memory=T)
    assert model.ids == ((slice(0, 1), 9),)
    found = model.parity(sequences=3, steps=40)
    assert found.max_abs_difference < 1e-6, found
    assert (found.steps, model.exact_steps, model.last_step) == (T, T, T)


def placed(h: Any) -> list[Any]:
    table = encoding(T, D)
    return [
        L.LSTM(3)(h * 2.0 + table[None]),
        L.GRU(2)(L.Add()([h, ops.convert_to_tensor(table[None])])),
        L.LayerNormalization()(h + L.Embedding(T, D)(ops.arange(T))),
        ops.mean(h * np.linspace(0, 1, T, dtype="float32")[:, None], axis=1),
    ]


def test_positions_are_counted_by_the_stream(tmp_path: Path) -> None:
    model = StreamingModel(of(placed))
    found = model.parity(sequences=2, steps=40)
    assert found.max_abs_difference < 1e-6, found
    assert (found.steps, model.last_step, model.exact_steps) == (T, T, None)
    assert_exported(model, tmp_path / "step.keras", 1e-6)


def test_behind_layers_that_make_fewer_steps_it_counts_the_steps() -> None:
    x = keras.Input((14, F))
    h = L.MaxPooling1D(2)(L.Conv1D(D, 3)(x))
    y = attended(h + encoding(6, D))
    model = StreamingModel(shaken(keras.Model(x, L.Dense(2)(L.GRU(3)(y)))), memory=5)
    assert (model.exact_steps, model.last_step) == (3 + 5 * 2, 3 + 6 * 2)
    found = model.parity(sequences=2, steps=40)
    assert found.max_abs_difference < 1e-6, found
    assert found.steps == 13


def test_after_the_last_position_there_is_no_answer_until_a_boundary() -> None:
    model = StreamingModel(of(lambda h: L.Dense(1)(h + encoding(T, D))))
    xs = np.ones((2 * T, 1, F), "float32")
    ys, _ = model.scan(xs, model.zero_states(1))
    assert np.isfinite(ys[:T]).all()
    assert np.isnan(ys[T:]).all()
    resets = np.zeros((2 * T, 1), np.bool_)
    resets[T] = True
    again, _ = model.scan_packed(xs, model.initial_row[None], resets=resets)
    np.testing.assert_array_equal(again[T:], ys[:T])


@pytest.mark.parametrize("length", [None, T + 1, T])
def test_sequences_may_not_become_longer_than_the_table(length: int | None) -> None:
    config = Config.model_validate(
        {
            "input": {"topic": "a", "features": "x"},
            "output": {"topic": "b"},
            "model": {"path": "m.keras"},
            "sequence": {"length": length},
        }
    )
    check_length(config, None)
    if length == T:
        check_length(config, T)
    else:
        with pytest.raises(ConfigError, match=f"positions for {T} steps of a sequence only; set sequence.length: {T}"):
            check_length(config, T)


def test_a_step_of_one_stream_changes_no_other() -> None:
    model = StreamingModel(of(lambda h: attended(h)), memory=4)
    rng = np.random.default_rng(2)
    xs = rng.normal(size=(6, 30, F)).astype("float32")
    ys, _ = model.scan(xs, model.zero_states(30))
    xs[:, 7] = np.nan
    poisoned, _ = model.scan(xs, model.zero_states(30))
    others = np.arange(30) != 7
    np.testing.assert_array_equal(poisoned[:, others], ys[:, others])
