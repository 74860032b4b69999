"""Convolutions and pooling over time: what they keep, and what the zoo can't say: files, long streams, odd numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.models import F, L, sequential, shaken
from tests.zoo.convolution import ZOO, nested_convolutions, shared_convolution
from worker import StreamingModel
from worker.model.backend import keras

pytestmark = pytest.mark.zoo

LONG_STEPS = 100_000
FLOAT32_EXACT_TO = 2**24


def vectors(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def listed(model: StreamingModel) -> list[tuple[str, str, tuple[int, ...], str]]:
    return [(spec.layer, spec.name, spec.shape, spec.dtype) for spec in model.states]


def streamed(model: StreamingModel, x: Any) -> tuple[Any, list[Any]]:
    """x (batch, time, features) → outputs (batch, time, units), states after the last step."""
    ys, states = model.scan(np.swapaxes(np.asarray(x), 0, 1), model.zero_states(len(x)))
    return np.swapaxes(ys, 0, 1), states


@pytest.mark.parametrize("name", ["temporal network", "gated network", "separable, padded before"])
def test_plain_keras_says_the_same_to_the_whole_sequence(name: str) -> None:
    trained = ZOO[name]()
    x = vectors(2, 12, F)
    ys, _ = streamed(StreamingModel(trained), x)
    wanted = trained.predict(x, verbose=0)
    np.testing.assert_allclose(ys if wanted.ndim == 3 else ys[:, -1], wanted, atol=1e-5)


def test_a_causal_convolution_keeps_its_last_inputs() -> None:
    trained = sequential(L.Conv1D(4, 3, dilation_rate=2, padding="causal", name="conv"))
    model = StreamingModel(trained)
    assert listed(model) == [("conv", "inputs", (4, F), "float32")]
    assert model.layers[0].form == "the last 4 inputs as state"
    x = vectors(2, 9, F)
    ys, (inputs,) = streamed(model, x)
    kernel, bias = trained.get_weights()
    padded = np.pad(x, [(0, 0), (4, 0), (0, 0)])
    wanted = sum(padded[:, 2 * tap : 2 * tap + 9] @ kernel[tap] for tap in range(3)) + bias
    np.testing.assert_allclose(ys, wanted, atol=1e-6)
    np.testing.assert_array_equal(inputs, x[:, -4:])


def test_zeros_put_before_the_first_step_are_the_state_of_their_layer() -> None:
    model = StreamingModel(
        sequential(L.ZeroPadding1D((2, 0), name="pad"), L.Conv1D(4, 3, name="conv"), L.GRU(2, name="gru"))
    )
    assert listed(model)[0] == ("pad", "inputs", (2, F), "float32")
    assert [spec.layer for spec in model.states] == ["pad", "gru"]


def test_shared_and_nested_layers_have_a_state_for_each_call() -> None:
    assert [spec.layer for spec in StreamingModel(shared_convolution()).states][:2] == ["conv", "conv.2"]
    nested = StreamingModel(nested_convolutions())
    assert [spec.layer for spec in nested.states][:4] == ["conv", "second", "two.conv", "two.second"]


def test_layers_may_have_the_names_of_operations() -> None:
    names = ["concatenate", "where", "cast", "add", "x.inputs", "x.mean"]
    model = StreamingModel(
        sequential(*(L.Conv1D(F, 2, padding="causal", name=name) for name in names), L.GlobalAveragePooling1D(name="x"))
    )
    assert model.parity(sequences=2, steps=4).max_abs_difference < 1e-5


def test_groups_are_filled_up_so_that_nothing_is_compiled_for_each_batch() -> None:
    trained = sequential(L.Conv1D(6, 3, padding="causal", groups=3, use_bias=False), features=6)
    model = StreamingModel(trained)
    (product,) = (layer for layer in model.to_keras().layers if layer.weights)
    assert product.get_weights()[0].shape == (3 * 6, 6)
    assert np.count_nonzero(product.get_weights()[0]) == trained.get_weights()[0].size
    assert model.parity(sequences=2, steps=6).max_abs_difference < 1e-5


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_convolution_ends_the_mask_as_in_keras(kernel: int) -> None:
    """What follows it counts every step, also those masked before."""
    trained = sequential(L.Masking(), L.Conv1D(4, kernel, padding="causal"), L.GlobalAveragePooling1D())
    x = vectors(2, 6, F)
    x[:, [1, 4]] = 0.0
    ys, states = streamed(StreamingModel(trained), x)
    np.testing.assert_allclose(ys[:, -1], trained.predict(x, verbose=0), atol=1e-6)
    np.testing.assert_array_equal(states[-1], 6)


def test_low_rank_additions_are_in_the_kernel() -> None:
    layer = L.Conv1D(4, 3, padding="causal", lora_rank=2)
    model = StreamingModel(sequential(layer))
    assert np.abs(keras.ops.convert_to_numpy(layer.kernel) - keras.ops.convert_to_numpy(layer._kernel)).max() > 0.01
    assert model.parity(sequences=2, steps=6).max_abs_difference < 1e-5


@pytest.mark.parametrize("name", ["temporal network", "mean and maximum", "reductions"])
def test_a_stream_does_not_depend_on_the_batch_around_it(name: str) -> None:
    model = StreamingModel(ZOO[name]())
    xs = vectors(6, 70, F)
    ys, _ = model.scan(xs, model.zero_states(70))
    for rows in (slice(0, 1), slice(33, 34), slice(20, 69)):
        some, _ = model.scan(xs[:, rows], model.zero_states(xs[:, rows].shape[1]))
        np.testing.assert_array_equal(some, ys[:, rows])


def test_states_of_pooling_begin_at_zero() -> None:
    trained = sequential(L.GlobalAveragePooling1D(keepdims=True, name="mean"), L.Flatten())
    model = StreamingModel(trained)
    names = [("mean", (F,)), ("rest", (F,)), ("count", (1,))]
    assert listed(model) == [("mean", name, shape, "float32") for name, shape in names]
    assert not model.initial_row.any()
    model = StreamingModel(sequential(L.GlobalMaxPooling1D(name="max")))
    assert listed(model) == [("max", "max", (F,), "float32"), ("max", "begun", (1,), "float32")]
    assert not model.initial_row.any()


def test_a_maximum_below_zero_is_seen() -> None:
    x = vectors(2, 5, F) - 10
    ys, _ = streamed(StreamingModel(sequential(L.GlobalMaxPooling1D())), x)
    np.testing.assert_array_equal(ys, np.maximum.accumulate(x, axis=1))
    x = -x
    source = keras.Input((None, F))
    ys, _ = streamed(StreamingModel(keras.Model(source, keras.ops.min(source, axis=1))), x)
    np.testing.assert_array_equal(ys, np.minimum.accumulate(x, axis=1))


@pytest.mark.parametrize("offset", [0.5, 1000.0])
def test_a_mean_stays_exact_over_a_long_stream_that_drifts(offset: float) -> None:
    x = (vectors(1, LONG_STEPS, F) * 0.1 + offset).astype("float32")
    x[:, LONG_STEPS // 2 :] *= np.float32(1.002)  # a drift so slow that each step's part of it is lost to rounding
    ys, states = streamed(StreamingModel(sequential(L.GlobalAveragePooling1D())), x)
    wanted = np.cumsum(x, axis=1, dtype=np.float64) / np.arange(1, LONG_STEPS + 1)[:, np.newaxis]
    np.testing.assert_allclose(ys[:, 1000:], wanted[:, 1000:], rtol=3e-7)
    np.testing.assert_array_equal(states[2], LONG_STEPS)


def test_a_sum_stays_exact_over_a_long_stream() -> None:
    source = keras.Input((None, F))
    model = StreamingModel(keras.Model(source, keras.ops.cumsum(source, axis=1)))
    x = vectors(1, LONG_STEPS, F) + np.float32(1.0)
    ys, _ = streamed(model, x)
    np.testing.assert_allclose(ys, np.cumsum(x, axis=1, dtype=np.float64), rtol=1e-6, atol=1e-5)


def test_a_full_count_stops_and_the_mean_stays_sensible() -> None:
    model = StreamingModel(sequential(L.GlobalAveragePooling1D()))
    states = [np.full((1, F), 2.0), np.zeros((1, F)), np.full((1, 1), float(FLOAT32_EXACT_TO))]
    ys, (_, _, count) = model.scan(np.full((5000, 1, F), 1002.0), states)
    assert count == FLOAT32_EXACT_TO
    np.testing.assert_allclose(ys[-1], 2.0 + 5000 * 1000.0 / FLOAT32_EXACT_TO, rtol=1e-3)


def masked_mean() -> StreamingModel:
    return StreamingModel(sequential(L.Masking(mask_value=-1.0), L.GlobalAveragePooling1D()))


def test_a_masked_step_leaves_mean_and_count_as_they_were() -> None:
    model = masked_mean()
    x = vectors(2, 6, F)
    x[0, [0, 1, 4]] = -1.0
    ys, states = streamed(model, x)
    np.testing.assert_array_equal(ys[0, :2], 0.0)  # nothing has counted yet
    np.testing.assert_array_equal(ys[0, 4], ys[0, 3])
    np.testing.assert_allclose(ys[0, -1], x[0, [2, 3, 5]].mean(0), atol=1e-6)
    np.testing.assert_allclose(ys[1, -1], x[1].mean(0), atol=1e-6)
    np.testing.assert_array_equal(states[2], [[3], [6]])
    after = model.step(np.full((2, F), -1.0), states)[1]
    for one, two in zip(after, states, strict=True):
        np.testing.assert_array_equal(one, two)


def test_masked_steps_are_seen_by_a_maximum_as_keras_sees_them() -> None:
    ids = np.array([[3, 0, 0, 5, 0, 1]])
    trained = shaken(
        keras.Sequential([keras.Input((None,)), L.Embedding(7, 4, mask_zero=True), L.GlobalMaxPooling1D()])
    )
    ys, _ = streamed(StreamingModel(trained), ids[..., np.newaxis])
    np.testing.assert_array_equal(ys[:, -1], trained.predict(ids, verbose=0))


def test_half_precision_keeps_inputs_in_half_and_means_in_single() -> None:
    half = "mixed_float16"
    trained = sequential(
        L.Conv1D(4, 3, padding="causal", dtype=half, name="conv"), L.GlobalAveragePooling1D(dtype=half, name="mean")
    )
    model = StreamingModel(trained)
    assert [(spec.name, spec.dtype) for spec in model.states] == [
        ("inputs", "float16"),
        ("mean", "float32"),
        ("rest", "float32"),
        ("count", "float32"),
    ]
    assert model.to_keras().outputs[0].dtype == "float16"
    assert model.parity(sequences=2, steps=6).max_abs_difference < 4e-3
    ys, states = streamed(StreamingModel(sequential(L.GlobalAveragePooling1D(dtype=half))), np.full((1, 5000, F), 0.1))
    np.testing.assert_allclose(states[0], np.float16(0.1), rtol=1e-6)  # a count in half precision ends at 2048
    np.testing.assert_array_equal(ys[:, -1], np.float32(np.float16(0.1)))


def test_double_precision_stays_double() -> None:
    model = StreamingModel(ZOO["convolution of float64"]())
    assert {spec.dtype for spec in model.states} == {"float64"}
    assert model.parity(sequences=2, steps=6).max_abs_difference < 1e-12


def test_the_trained_model_is_left_alone() -> None:
    trained = ZOO["temporal network"]()
    before, nodes = trained.get_weights(), [len(layer._inbound_nodes) for layer in trained.layers]
    StreamingModel(trained).parity(sequences=1, steps=3)
    for one, two in zip(before, trained.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert [len(layer._inbound_nodes) for layer in trained.layers] == nodes
