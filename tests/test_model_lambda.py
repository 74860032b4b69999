"""Lambda layers: their Python code runs where the caller allows it, and the proof decides whether it streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import F, sequential
from worker import ModelRefusedError, StreamingModel
from worker.errors import WorkerError
from worker.model.backend import keras

pytestmark = pytest.mark.zoo

L = keras.layers


def model_with(function: Any, **recurrent: Any) -> Any:
    return sequential(
        L.LSTM(4, return_sequences=True, **recurrent), L.Lambda(function, name="culprit"), L.Dense(2), length=None
    )


HARMLESS = {
    "each value": lambda x: x * 2.0 - 1.0,
    "along features": lambda x: x[..., ::-1],
    "the last step": lambda x: x[:, -1],
}


@pytest.mark.parametrize("name", HARMLESS)
def test_code_on_each_step_is_streamed(name: str) -> None:
    model = StreamingModel(model_with(HARMLESS[name]))
    assert model.check_parity(1e-5, sequences=2, steps=5)
    (report,) = [layer for layer in model.layers if layer.layer == "culprit"]
    assert "trusted until the proof" in report.form


def scale(x: Any) -> Any:
    """Named, not registered anywhere, and with names of this module in it."""
    return keras.ops.tanh(x) * np.float32(F)


def test_a_function_of_the_callers_own_module_keeps_its_names() -> None:
    assert StreamingModel(model_with(scale)).check_parity(1e-5, sequences=2, steps=5)


ACROSS_TIME = {
    "mean": lambda x: keras.ops.mean(x, axis=1),
    "mean, axis kept": lambda x: keras.ops.mean(x, axis=1, keepdims=True),
    "less the mean": lambda x: x - keras.ops.mean(x, axis=1, keepdims=True),
    "running sum": lambda x: keras.ops.cumsum(x, axis=1),
    "backwards": lambda x: x[:, ::-1],
    "step before": lambda x: x - keras.ops.roll(x, 1, axis=1),
    "first step": lambda x: x[:, 0],
}


@pytest.mark.parametrize("name", ACROSS_TIME)
def test_code_that_looks_at_other_steps_is_caught_by_the_proof(name: str) -> None:
    with pytest.raises(WorkerError, match="culprit"):
        StreamingModel(model_with(ACROSS_TIME[name])).check_parity(1e-4, sequences=3, steps=6)


def around(layer: Any, activation: Any = None) -> Any:
    """The other places where a model may hold Python code."""
    return sequential(
        L.TimeDistributed(layer, name="around"),
        L.Dense(4, activation=activation, name="dense"),
        keras.Sequential([keras.Input((None, 4)), L.Lambda(lambda x: x + 1.0, name="inside")], name="part"),
        L.GRU(3),
        length=None,
    )


@pytest.mark.parametrize("kind", ["keras", "h5"])
@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (lambda: model_with(lambda x: x * 2.0), "culprit"),
        (lambda: model_with(lambda x: x[:, -1]), "culprit"),
        (lambda: around(L.Lambda(lambda x: x - 1.0, name="lambda")), "lambda"),
    ],
    ids=["each step", "last step", "in other layers"],
)
def test_a_file_with_code_is_read_only_where_that_is_allowed(tmp_path: Path, kind: str, build: Any, layer: str) -> None:
    trained = build()
    trained.save(tmp_path / f"m.{kind}")
    with pytest.raises(ModelRefusedError, match=r"model\.allow_lambda: true") as error:
        StreamingModel.load(tmp_path / f"m.{kind}")
    assert error.value.layer == layer
    model = StreamingModel.load(tmp_path / f"m.{kind}", allow_lambda=True)
    model.check_parity(1e-5, sequences=2, steps=5)
    xs = np.random.default_rng(0).normal(size=(5, 3, F)).astype("float32")
    streamed, _ = model.scan(xs, model.zero_states(3))
    wanted = np.asarray(trained(np.swapaxes(xs, 0, 1)))
    given = np.swapaxes(streamed, 0, 1) if wanted.ndim == 3 else streamed[-1]
    np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["keras", "h5"])
@pytest.mark.parametrize("allowed", [False, True])
def test_an_activation_of_python_code_is_named(tmp_path: Path, kind: str, allowed: bool) -> None:
    """Keras writes it down in a way that it can't read itself."""
    around(L.Dense(4), lambda x: x * 0.5).save(tmp_path / f"m.{kind}")
    with pytest.raises(ModelRefusedError, match="activation") as error:
        StreamingModel.load(tmp_path / f"m.{kind}", allow_lambda=allowed)
    assert error.value.layer == "dense"


def test_a_function_that_the_file_can_only_name_is_refused_in_one_line(tmp_path: Path) -> None:
    model_with(scale).save(tmp_path / "m.keras")
    with pytest.raises(WorkerError) as error:
        StreamingModel.load(tmp_path / "m.keras", allow_lambda=True)
    assert "\n" not in str(error.value)
    assert "scale" in str(error.value)
