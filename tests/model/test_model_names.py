"""Keras takes any name for a layer; the streaming form runs, and states are called as the layer is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import F, L, sequential, shaken
from worker import StreamingModel
from worker.model.backend import keras

pytestmark = pytest.mark.zoo

NAMES = ["enc lstm (1)", "z\u00e4hler", "a:b", "_private", "\u6e29\u5ea6", "x" * 300]


def _of_everything(name: str) -> Any:
    """The name, and near ones, in every place that a layer can have."""
    inside = keras.Sequential([keras.Input((F,)), L.Dense(F, name=name)], name=f"{name} inside")
    part = keras.Sequential([keras.Input((None, F)), L.GRU(F, return_sequences=True, name=name)], name=f"{name}!")
    x = keras.Input((None, F), name=f"{name}?")
    y = part(L.TimeDistributed(inside, name=f"{name} each")(x))
    y = L.RNN(L.LSTMCell(3, name=f"{name}+"), return_sequences=True, name=f"{name}-")(y)
    y = L.Conv1D(3, 2, padding="causal", name=f"{name}*")(L.Masking(name=f"{name}=")(y))
    pooled = L.GlobalAveragePooling1D(name=f"{name}&")(y)
    return shaken(keras.Model(x, L.Dense(2, name=f"{name} ")(pooled), name=name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:Layer ")
def test_a_layer_may_have_any_name(name: str, tmp_path: Path) -> None:
    trained = _of_everything(name)
    trained.save(tmp_path / "named.keras")
    model = StreamingModel.load(tmp_path / "named.keras")
    assert {name, f"{name}-", f"{name}*", f"{name}&"} == {state.layer for state in model.states}
    found = model.parity(sequences=2, steps=4)
    assert found.max_abs_difference <= 1e-5, found
    names = [layer.name for layer in trained._flatten_layers()]
    StreamingModel(trained).parity(sequences=1, steps=2)
    assert [layer.name for layer in trained._flatten_layers()] == names


@pytest.mark.parametrize("name", NAMES)
def test_the_exported_model_runs_in_graphs(name: str, tmp_path: Path) -> None:
    model = StreamingModel(sequential(L.LSTM(3, name=name), L.Dense(2, name=f"{name}?"), L.ReLU(name=f"{name}!")))
    model.to_keras().save(tmp_path / "step.keras")
    plain = keras.models.load_model(tmp_path / "step.keras")
    x, states = np.ones((2, 1, F), "float32"), model.zero_states(2)
    wanted, _ = model.step(x[:, 0], states)
    np.testing.assert_allclose(plain.predict([x, *states], verbose=0)[0], wanted, atol=1e-6)
