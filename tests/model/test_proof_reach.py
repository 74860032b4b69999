"""What the proof has to reach: masks behind a scale, masks that only the running model hands on, long sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from worker import ModelRefusedError, StreamingModel
from worker.errors import WorkerError
from worker.model.backend import keras, tf
from worker.model.proof.undoing import undone

pytestmark = pytest.mark.zoo

L = keras.layers
EVENTS, FEATURES = 12, 3
MASKED = [0, 3, 4, 9]  # events


def model(*layers: Any) -> Any:
    keras.utils.set_random_seed(7)
    return keras.Sequential([keras.Input((None, FEATURES)), *layers, L.LSTM(8), L.Dense(1)])


def functional(steps: Callable[[Any], Any]) -> Any:
    keras.utils.set_random_seed(7)
    x = keras.Input((None, FEATURES))
    return keras.Model(x, L.Dense(1)(L.LSTM(8)(steps(x))))


def adapted() -> Any:
    layer = L.Normalization()
    layer.adapt(np.random.default_rng(1).normal(3.0, 2.0, (100, 5, FEATURES)))
    return layer


def identity() -> Any:
    return L.Lambda(lambda x: x)


def cast(x: Any, *types: str) -> Any:
    for each in types:
        x = keras.ops.cast(x, each)
    return x


SCALED = [L.Rescaling(0.5, -1.0)]
HANDED_ON: dict[str, Callable[[], tuple[list[Any], Any]]] = {
    "identity": lambda: ([], model(L.Masking(0.0), identity())),
    "identity behind a scale": lambda: (SCALED, model(*SCALED, L.Masking(0.0), identity())),
    "cast": lambda: ([], functional(lambda x: cast(L.Masking(0.0)(x), "float32"))),
    "two casts": lambda: ([], functional(lambda x: cast(L.Masking(0.0)(x), "float32", "float32"))),
    "another number": lambda: ([], model(L.Masking(0.0), L.Lambda(lambda x: x * 1.0))),
    "another type": lambda: ([], functional(lambda x: cast(L.Masking(0.0)(x), "float64", "float32"))),
}


@pytest.mark.parametrize("name", HANDED_ON)
def test_code_that_returns_what_it_was_given_hands_on_its_mask_and_other_code_does_not(name: str) -> None:
    scale, trained = HANDED_ON[name]()
    xs = np.random.default_rng(0).normal(size=(1, EVENTS, FEATURES)).astype(np.float32)
    xs[:, MASKED] = undone(scale, 0.0, (FEATURES,))
    streaming = StreamingModel(trained)
    outputs, _ = streaming.scan(xs.swapaxes(0, 1), streaming.zero_states(1))
    prefixes = [np.asarray(trained(xs[:, : length + 1]))[0] for length in range(EVENTS)]
    np.testing.assert_allclose(np.reshape(outputs, (EVENTS, 1)), prefixes, atol=1e-6)
    assert streaming.check_parity(1e-6)


@pytest.mark.parametrize(
    "before",
    [
        lambda: [L.Rescaling(0.5, -1.0)],
        lambda: [L.Rescaling(1 / 255)],
        lambda: [adapted()],
        lambda: [L.Rescaling(3.0, 0.25), adapted()],
        lambda: [L.Rescaling([1.0, 2.0, -4.0], [0.0, 0.5, 1.0])],
    ],
    ids=["scale and offset", "pixels", "normalization", "both", "of each feature"],
)
def test_the_proof_masks_steps_behind_layers_that_only_scale(before: Callable[[], list[Any]]) -> None:
    layers = before()
    value = undone(layers, 0.0, (FEATURES,))
    x = value.astype(np.float32)[np.newaxis, np.newaxis]
    for layer in layers:
        x = layer(x)
    assert np.asarray(x).ravel().tolist() == [0.0] * FEATURES
    samples = StreamingModel(model(*layers, L.Masking(0.0))).samples(8, 40)
    masked = (samples == value).all(axis=2)
    assert 0.05 < masked.mean() < 0.5


def test_it_does_so_in_models_of_two_inputs() -> None:
    keras.utils.set_random_seed(7)
    x, y = keras.Input((None, FEATURES), name="x"), keras.Input((None, 2), name="y")
    masked = L.Masking(0.0)(L.Rescaling(0.5, -1.0)(x))
    trained = keras.Model([x, y], L.Dense(1)(L.Concatenate()([L.LSTM(4)(masked), L.LSTM(4)(y)])))
    samples = StreamingModel(trained).samples(8, 40)
    assert 0.05 < (samples[..., :FEATURES] == 2.0).all(axis=2).mean() < 0.5


def test_what_no_number_makes_is_left_as_near_as_it_can_be() -> None:
    nowhere = L.Rescaling(0.0, 1.0)
    assert undone([nowhere], 0.0, (2,)).tolist() == [0.0, 0.0]
    assert undone([L.Dense(2)], 7.0, (2,)).tolist() == [7.0, 7.0], "not a scale"


LATE = {
    "asks the shape for the length": lambda x: x * tf.cast(tf.shape(x)[1] < 100, x.dtype),
    "asks Python for the length": lambda x: x * (1.0 if x.shape[1] is None or x.shape[1] < 300 else 2.0),
}


@pytest.mark.parametrize("name", LATE)
def test_code_that_changes_its_mind_late_is_refused(name: str) -> None:
    trained = model(L.LSTM(4, return_sequences=True), L.Lambda(LATE[name], name="culprit"))
    with pytest.raises(WorkerError, match=r"after step (100|300|600), .*'culprit' \(Lambda\) may look at how long"):
        StreamingModel(trained).check_parity(1e-4)


@pytest.mark.parametrize("join", [L.Add, L.Subtract, L.Average])
def test_a_masked_branch_beside_one_that_looks_ahead_is_joined_as_trained(join: Any) -> None:
    def both(x: Any) -> Any:
        return join()([L.Masking(0.0)(x), L.Conv1D(FEATURES, 3, padding="same")(x)])

    assert StreamingModel(functional(both)).check_parity(1e-5, sequences=4, steps=12)


@pytest.mark.parametrize("join", [L.Multiply, L.Maximum, L.Minimum, L.Concatenate])
def test_where_the_join_looks_at_masks_it_is_refused_and_streams_without(join: Any) -> None:
    def branches(x: Any, masked: bool) -> Any:
        return join()([L.Masking(0.0)(x) if masked else x, L.Conv1D(FEATURES, 3, padding="same")(x)])

    with pytest.raises(ModelRefusedError, match="joins a branch whose steps are masked with one that looks ahead"):
        StreamingModel(functional(lambda x: branches(x, masked=True)))
    assert StreamingModel(functional(lambda x: branches(x, masked=False))).check_parity(1e-5, sequences=4, steps=12)


@pytest.mark.parametrize("code", [False, True])
def test_roundings_that_add_up_in_long_sequences_are_allowed_for_where_these_are_compared(code: bool) -> None:
    def growing(shape: Any, dtype: Any = None) -> Any:
        return tf.constant([[1.01]], dtype)

    x = keras.Input((None, 1))
    kept = {"activation": None, "use_bias": False, "return_sequences": True}
    y = L.SimpleRNN(1, kernel_initializer=keras.initializers.Constant(1e-3), recurrent_initializer=growing, **kept)(x)
    trained = keras.Model(x, identity()(y) if code else y)
    parity = StreamingModel(trained).check_parity(1e-4)
    assert parity.exact is not code, "a rounding grows by 1.01 at each event: 1.5 times in 40, 391 times in 600"


@pytest.mark.parametrize(("pool", "strides"), [(2, 1), (3, 2), (4, 2)])
def test_a_pooling_behind_a_mask_is_not_tried_on_fewer_steps_than_it_takes(pool: int, strides: int) -> None:
    """TensorFlow divides by zero there, which ends the process."""
    trained = model(L.Masking(0.0), L.MaxPooling1D(pool, strides))
    assert StreamingModel(trained).check_parity(1e-5, sequences=4, steps=12)
