"""Lambda layers: their Python code runs where the caller allows it, and the proof decides whether it streams."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
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


limit = 1.5  # a name of this module, which no file holds

# As nearly all of them are written: with the modules' usual names, which a file does not hold either.
NAMED = {
    "keras": lambda x: keras.ops.abs(x),
    "K": lambda x: K.clip(x, -1.0, 1.0),  # type: ignore[name-defined]  # noqa: F821
    "tf": lambda x: tf.nn.relu(x) + tf.reduce_mean(x, axis=-1, keepdims=True),  # type: ignore[name-defined]  # noqa: F821
    "np, math": lambda x: x * np.float32(math.pi),  # type: ignore[name-defined]  # noqa: F821
    "inside of it": lambda x: keras.ops.concatenate([keras.ops.tanh(x[..., i : i + 1]) for i in range(4)], axis=-1),
}


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_code_in_a_file_has_the_usual_names(tmp_path: Path, kind: str) -> None:
    x = keras.Input((6, F))
    y = L.LSTM(4, return_sequences=True)(x)
    for name, function in NAMED.items():
        y = L.Lambda(function, output_shape=(6, 4), name=name.replace(", ", "_").replace(" ", "_"))(y)
    keras.Model(x, L.Dense(1)(L.GRU(3)(y))).save(tmp_path / f"m.{kind}")
    model = StreamingModel.load(tmp_path / f"m.{kind}", allow_lambda=True)
    assert model.check_parity(1e-5, sequences=2, steps=8)
    keras.Sequential([keras.Input((None, F)), L.LSTM(4), L.Lambda(NAMED["keras"]), L.Dense(1)]).save(
        tmp_path / f"s.{kind}"
    )
    assert StreamingModel.load(tmp_path / f"s.{kind}", allow_lambda=True).check_parity(1e-5, sequences=2, steps=4)


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_another_name_is_told_with_its_layer_and_may_be_given(tmp_path: Path, kind: str) -> None:
    model_with(lambda x: x * limit).save(tmp_path / f"m.{kind}")
    with pytest.raises(ModelRefusedError, match="uses 'limit', which the file does not hold") as error:
        StreamingModel.load(tmp_path / f"m.{kind}", allow_lambda=True)
    assert error.value.layer == "culprit"
    assert "define limit in a module that model.imports names" in error.value.instead
    module = ModuleType("settings_of_ours")
    vars(module)["limit"] = 1.5
    for given in ({"limit": 1.5}, [module]):
        model = StreamingModel.load(tmp_path / f"m.{kind}", allow_lambda=True, custom_objects=given)
        assert model.check_parity(1e-5, sequences=2, steps=4)


def test_the_shape_that_a_lambda_was_told_is_that_of_the_window() -> None:
    for length, shape in ((8, (8, 4)), (None, (None, 4)), (8, None)):
        layers = [L.LSTM(4, return_sequences=True), L.Lambda(lambda x: x * 2.0, output_shape=shape), L.LSTM(3)]
        assert StreamingModel(sequential(*layers, L.Dense(1), length=length)).check_parity(1e-5, sequences=2, steps=9)
    ids = keras.Sequential(
        [
            keras.Input((8,), dtype="int32"),
            L.Lambda(lambda x: x + 1, output_shape=(8,)),
            L.Embedding(9, 3),
            L.Lambda(lambda x: x[:, -1], output_shape=(3,)),
        ]
    )
    with pytest.raises(ModelRefusedError, match="keeps a state"):
        StreamingModel(ids)


BROKEN = {
    "on any step": lambda x: x.no_such_thing,
    "on one step": lambda x: keras.ops.reshape(x, (-1, 2, 8)) + 1.0,
}


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("name", BROKEN)
def test_code_that_fails_is_blamed_itself(name: str, told: bool) -> None:
    if name == "on any step" and not told:
        model = keras.Sequential([keras.Input((4, F)), L.LSTM(4, return_sequences=True)], name="whole")
        model.add(L.Lambda(BROKEN[name], name="culprit"))
        model.add(L.GRU(3))
    else:
        shape = (4, 4) if name == "on any step" else (2, 8)
        model = sequential(
            L.LSTM(4, return_sequences=True),
            L.Lambda(BROKEN[name], output_shape=shape if told else None, name="culprit"),
            L.GRU(3),
            length=4,
        )
    with pytest.raises(ModelRefusedError) as error:
        StreamingModel(model)
    assert (error.value.layer, "keras.ops" in error.value.instead) == ("culprit", True)


def test_a_function_that_the_file_can_only_name_is_refused_in_one_line(tmp_path: Path) -> None:
    model_with(scale).save(tmp_path / "m.keras")
    with pytest.raises(WorkerError) as error:
        StreamingModel.load(tmp_path / "m.keras", allow_lambda=True)
    assert "\n" not in str(error.value)
    assert "scale" in str(error.value)
