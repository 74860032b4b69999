"""Classes and functions of the caller's own: found by their names in a file, told where a name means two things."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.models import F, shaken
from worker import ModelRefusedError, StreamingModel
from worker.model.backend import keras
from worker.model.files.loading import load_model

L = keras.layers

SOURCE = """
import keras

class Smooth(keras.layers.Layer):
    def __init__(self, units, by=0.1, **more):
        super().__init__(**more)
        self.units = self.state_size = units
        self.by = by

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

    def call(self, x, states, training=None):
        h = (1 - self.by) * states[0] + self.by * wave(x @ self.kernel)
        return h, [h]

    def get_config(self):
        return {**super().get_config(), "units": self.units, "by": self.by}

class Small(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return 0.1 * keras.ops.ones(shape, dtype)

def wave(x):
    return x + keras.ops.sin(x)

def doubled(x):
    return 2.0 * x
"""
REGISTERED = """
for one in (Smooth, Small, wave, doubled):
    keras.saving.register_keras_serializable("plant")(one)
"""


def module(name: str, source: str = SOURCE) -> ModuleType:
    """As ``import name`` makes one of a file; classes of two modules are never the same."""
    made = ModuleType(name)
    exec(compile(source, name, "exec"), vars(made))
    return made


def trained(own: ModuleType) -> Any:
    """The caller's objects alone and in every wrapper: cells, a stack of them, functions, an initializer."""
    return shaken(
        keras.Sequential(
            [
                keras.Input((None, F)),
                L.RNN(own.Smooth(4), return_sequences=True),
                L.RNN([own.Smooth(3, 0.3), L.LSTMCell(3, activation=own.wave)], return_sequences=True),
                L.LSTM(4, activation=own.wave, kernel_initializer=own.Small(), return_sequences=True),
                L.TimeDistributed(L.Dense(3, activation=own.doubled)),
                L.Lambda(own.doubled),
                L.Activation(own.wave),
                L.GRU(2),
            ]
        )
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The model, and the folder where it lies as the usual script saves it: nothing is registered."""
    folder = tmp_path_factory.mktemp("own")
    model = trained(module("training_script"))
    for kind in ("keras", "h5"):
        model.save(folder / f"m.{kind}")
    return model, folder


def assert_streams_as(model: Any, found: StreamingModel) -> None:
    x = np.random.default_rng(1).normal(size=(4, 9, F)).astype("float32")
    streamed, _ = found.scan(x.swapaxes(0, 1), found.zero_states(4))
    np.testing.assert_allclose(streamed[-1], np.asarray(model(x)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_what_modules_define_is_found_by_its_bare_name(saved: tuple[Any, Path], kind: str) -> None:
    model, folder = saved
    for given in ([module("plain")], [module("plant", SOURCE + REGISTERED)], vars(module("mapping"))):
        found = StreamingModel.load(folder / f"m.{kind}", custom_objects=given)
        assert_streams_as(model, found)
        assert found.check_parity(1e-5, sequences=2, steps=5)
    assert keras.saving.get_registered_object("Smooth") is None  # nothing of it stays behind


def test_a_registered_name_is_found_where_the_module_registers_none(tmp_path: Path) -> None:
    model = trained(module("training_script", SOURCE + REGISTERED.replace("plant", "elsewhere")))
    for name in ("Smooth", "Small", "wave", "doubled"):
        del keras.saving.get_custom_objects()[f"elsewhere>{name}"]
    for kind in ("keras", "h5"):
        model.save(tmp_path / f"m.{kind}")
        assert_streams_as(model, StreamingModel.load(tmp_path / f"m.{kind}", custom_objects=[module("plain")]))


def test_a_model_in_memory_needs_no_registration() -> None:
    model = trained(module("notebook"))
    found = StreamingModel(model)
    assert_streams_as(model, found)
    assert found.check_parity(1e-5, sequences=2, steps=5)


def test_a_function_named_as_one_of_keras_stays_the_callers_in_memory() -> None:
    """Keras writes it down as its own."""
    own = module("notebook", SOURCE + "def tanh(x):\n    return 0.3 * x\n")
    model = shaken(keras.Sequential([keras.Input((None, F)), L.LSTM(4, activation=own.tanh), L.Dense(1, own.tanh)]))
    found = StreamingModel(model)
    assert_streams_as(model, found)
    assert found.check_parity(1e-5, sequences=2, steps=5)


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_without_it_the_refusal_says_what_works(saved: tuple[Any, Path], kind: str) -> None:
    model, folder = saved
    with pytest.raises(ModelRefusedError) as error:
        StreamingModel.load(folder / f"m.{kind}")
    assert error.value.layer == model.layers[0].cell.name
    assert error.value.why == "its class 'Smooth' is not part of Keras"
    assert "name the module that defines it in model.imports" in error.value.instead
    assert "custom_objects={'Smooth': Smooth}" in error.value.instead
    with pytest.raises(ModelRefusedError, match="its function 'wave' is not part of Keras") as error:
        StreamingModel.load(folder / f"m.{kind}", custom_objects={"Smooth": module("one").Smooth})
    assert "custom_objects={'wave': wave}" in error.value.instead


def test_two_modules_that_define_one_name_are_told(saved: tuple[Any, Path]) -> None:
    model, folder = saved
    one, other = module("one"), module("other")
    with pytest.raises(ModelRefusedError, match="'Smooth' is defined both in one and in other") as error:
        StreamingModel.load(folder / "m.keras", custom_objects=[one, other])
    assert error.value.instead == (
        "import the one that is meant only, or write keras.saving.get_custom_objects()['Smooth'] = Smooth in it"
    )
    assert_streams_as(model, StreamingModel.load(folder / "m.keras", custom_objects=[one]))
    chosen = module("chosen", SOURCE + "NAMES = dict(Smooth=Smooth, wave=wave, doubled=doubled, Small=Small)\n")
    keras.saving.get_custom_objects().update(chosen.NAMES)
    try:
        found, _ = load_model(folder / "m.keras", custom_objects=[chosen, other])
        assert type(found.layers[0].cell) is chosen.Smooth
    finally:
        for name in chosen.NAMES:
            del keras.saving.get_custom_objects()[name]


CLASHES = """
class Dense(keras.layers.Dense):
    def call(self, x):
        return 3.0 * super().call(x)

def softsign(x):
    return 0.5 * x
"""


def test_a_name_that_keras_has_too_is_told_where_the_file_does_not_say_whose_it_is(tmp_path: Path) -> None:
    own = module("plant_layers", SOURCE + CLASHES)
    plain = keras.Sequential([keras.Input((None, F)), L.GRU(4, activation="softsign", name="culprit"), L.Dense(2)])
    for kind in ("keras", "h5"):
        plain.save(tmp_path / f"m.{kind}")
        with pytest.raises(ModelRefusedError, match="'softsign' is in Keras and in plant_layers") as error:
            StreamingModel.load(tmp_path / f"m.{kind}", custom_objects=[own])
        assert error.value.layer == "culprit"
    del own.softsign
    with pytest.raises(ModelRefusedError, match="'Dense' is in Keras and in plant_layers"):
        StreamingModel.load(tmp_path / "m.h5", custom_objects=[own])
    assert_streams_as(plain, StreamingModel.load(tmp_path / "m.keras", custom_objects=[own]))  # says "keras.layers"
    given, _ = load_model(tmp_path / "m.h5", custom_objects={"Dense": own.Dense})
    assert type(given.layers[-1]) is own.Dense


def test_an_initializer_of_ones_own_is_not_asked_for(tmp_path: Path) -> None:
    own = module("training_script")
    model = keras.Sequential([keras.Input((None, F)), L.LSTM(4, kernel_initializer=own.Small()), L.Dense(1)])
    for kind in ("keras", "h5"):
        model.save(tmp_path / f"m.{kind}")
        assert_streams_as(model, StreamingModel.load(tmp_path / f"m.{kind}"))


def test_a_subclassed_model_is_told_as_one(tmp_path: Path) -> None:
    class Hidden(keras.Model):
        def __init__(self, **more: Any) -> None:
            super().__init__(**more)
            self.inner = L.LSTM(3)

        def call(self, x: Any) -> Any:
            return self.inner(x)

    model = Hidden()
    model(np.zeros((1, 4, F), "float32"))
    model.save(tmp_path / "m.keras")
    with pytest.raises(ModelRefusedError, match="a subclassed model hides its layers in Python code"):
        StreamingModel.load(tmp_path / "m.keras")
    built = keras.Sequential([keras.Input((None, F)), L.LSTM(3)])
    built.set_weights(model.get_weights())  # as the refusal says
    assert_streams_as(model, StreamingModel(built))
