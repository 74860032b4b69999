"""Model files that were made to do harm: each is refused in one line, and nothing of it has been run."""

from __future__ import annotations

import base64
import io
import json
import marshal
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.models import F, sequential
from worker import ModelRefusedError, StreamingModel
from worker.errors import WorkerError
from worker.model.backend import keras, tf
from worker.model.files import configuration

pytestmark = pytest.mark.zoo

L = keras.layers
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("saved")
    model = sequential(L.LSTM(4), L.Dense(1))
    paths = {kind: folder / f"m.{kind}" for kind in ("keras", "h5")}
    for path in paths.values():
        model.save(path)
    return paths


def changed(saved: dict[str, Path], kind: str, target: Path, change: Change, **extra: bytes) -> Path:
    """The saved model with another configuration, and with more entries in the archive."""
    if kind == "h5":
        target.write_bytes(saved["h5"].read_bytes())
        with h5py.File(target, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            change(config)
            file.attrs["model_config"] = json.dumps(config)
        return target
    with zipfile.ZipFile(saved["keras"]) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()} | extra
    config = json.loads(entries["config.json"])
    change(config)
    entries["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return target


def last(config: dict[str, Any]) -> dict[str, Any]:
    layer: dict[str, Any] = config["config"]["layers"][-1]
    return layer


def refusal(path: Path, **options: Any) -> WorkerError:
    with pytest.raises(WorkerError) as error:
        StreamingModel.load(path, **options)
    assert "\n" not in str(error.value)
    return error.value


def code_that_makes(marker: Path) -> str:
    """A function as a Lambda holds it: marshalled code, base64."""
    function = eval(f"lambda x: __import__('os').mkdir({str(marker)!r}) or x")
    return base64.b64encode(marshal.dumps(function.__code__)).decode()


def python(marker: Path) -> dict[str, Any]:
    parts = {"code": code_that_makes(marker), "defaults": None, "closure": None}
    return {"class_name": "__lambda__", "config": parts}


def layer_lambda(function: Any, **arguments: Any) -> dict[str, Any]:
    config = {"name": "culprit", "function": function, "arguments": arguments}
    return {"module": "keras.layers", "class_name": "Lambda", "config": config, "registered_name": None}


def function(module: str, name: str) -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def wrapped(layer: dict[str, Any]) -> dict[str, Any]:
    config = {"name": "around", "layer": layer}
    return {"module": "keras.layers", "class_name": "TimeDistributed", "config": config, "registered_name": None}


def nested(layer: dict[str, Any]) -> dict[str, Any]:
    config = {"name": "around", "layers": [layer]}
    return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None}


LAMBDAS = {
    "marshalled code, CVE-2024-3660 and CVE-2025-9905": lambda marker: layer_lambda(python(marker)),
    "in a wrapper": lambda marker: wrapped(layer_lambda(python(marker))),
    "in a nested model": lambda marker: nested(layer_lambda(python(marker))),
    "of another module, CVE-2025-1550": lambda marker: layer_lambda(function("os", "mkdir")),
    "a gadget of Keras, CVE-2025-8747 and CVE-2025-12060": lambda marker: layer_lambda(
        function("keras.utils", "get_file"), fname=str(marker), origin="file:///etc/hostname"
    ),
    "switches safe mode off, CVE-2025-9906": lambda marker: layer_lambda(
        function("keras.config", "enable_unsafe_deserialization")
    ),
    "loads another file": lambda marker: layer_lambda(function("keras.models", "load_model"), safe_mode=False),
    "sets globals": lambda marker: layer_lambda(
        function("keras.src.backend.common.global_state", "set_global_attribute"), value=False
    ),
    "under the name of its module": lambda marker: {
        **layer_lambda(python(marker)),
        "module": "keras.src.layers.core.lambda_layer",
    },
}


@pytest.mark.parametrize("kind", ["keras", "h5"])
@pytest.mark.parametrize("attack", LAMBDAS)
def test_a_lambda_is_refused_and_not_run(saved: dict[str, Path], tmp_path: Path, attack: str, kind: str) -> None:
    marker = tmp_path / "marker"
    path = changed(
        saved, kind, tmp_path / "m", lambda config: config["config"]["layers"].append(LAMBDAS[attack](marker))
    )
    error = refusal(path)
    assert isinstance(error, ModelRefusedError)
    assert error.layer == "culprit"
    assert "model.allow_lambda: true" in error.instead or "in model.imports" in error.instead
    assert not marker.exists()
    assert keras.src.saving.serialization_lib.in_safe_mode() is not False


@pytest.mark.parametrize("place", ["activation", "kernel_initializer", "bias_regularizer"])
@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_python_in_an_argument_is_refused_and_not_run(
    saved: dict[str, Path], tmp_path: Path, kind: str, place: str
) -> None:
    marker = tmp_path / "marker"
    value = {"class_name": "__lambda__", "config": {"value": [code_that_makes(marker), None, None]}}
    path = changed(saved, kind, tmp_path / "m", lambda config: last(config)["config"].update({place: value}))
    error = refusal(path)
    assert isinstance(error, ModelRefusedError)
    assert error.layer.startswith("dense")
    assert not marker.exists()


def test_code_in_a_file_is_not_run_where_the_process_has_safe_mode_off(saved: dict[str, Path], tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = changed(saved, "keras", tmp_path / "m", lambda c: c["config"]["layers"].append(layer_lambda(python(marker))))
    keras.config.enable_unsafe_deserialization()
    try:
        assert isinstance(refusal(path), ModelRefusedError)
    finally:
        keras.src.backend.common.global_state.set_global_attribute("safe_mode_saving", None)
    assert not marker.exists()


FOREIGN: dict[str, dict[str, Any]] = {
    "a program": {"module": "subprocess", "class_name": "Popen", "registered_name": "Popen"},
    "a module of Python": {"module": "os", "class_name": "system", "registered_name": None},
    "what Keras has imported": {"module": "keras.src.saving.saving_lib", "class_name": "DiskIOStore"},
    "a test of Keras": {"module": "keras.src.layers.layer_test", "class_name": "LayerTest"},
    "another package of Keras": {"module": "keras_hub.layers", "class_name": "Anything"},
    "a function of Keras": {"module": "keras.utils", "class_name": "get_file"},
    "no class at all": {"module": "keras.layers", "class_name": ["LSTM"]},
    "a callback": {"module": "keras.callbacks", "class_name": "CSVLogger"},
    "a type of TensorFlow": {"module": "tensorflow", "class_name": "__typespec__", "spec_name": "TensorSpec"},
}


@pytest.mark.parametrize("kind", ["keras", "h5"])
@pytest.mark.parametrize("attack", FOREIGN)
def test_classes_of_other_modules_are_neither_imported_nor_made(
    saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str, kind: str
) -> None:
    marker = tmp_path / "marker"
    config = {"name": "culprit", "args": ["mkdir", str(marker)], "filename": str(marker), "fname": str(marker)}
    entry = {**FOREIGN[attack], "config": config}
    path = changed(saved, kind, tmp_path / "m", lambda c: c["config"]["layers"].append(entry))
    imported: list[str] = []
    monkeypatch.setattr(keras.src.saving.serialization_lib.importlib, "import_module", imported.append)
    error = refusal(path)
    assert isinstance(error, ModelRefusedError)
    assert error.layer == "culprit"
    assert imported == []
    assert not marker.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "mkdir"), ("keras.utils", "get_file"), ("keras.config", "enable_unsafe_deserialization"), (None, "eval")],
)
@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_functions_of_other_modules_are_no_activations(
    saved: dict[str, Path], tmp_path: Path, kind: str, module: str, name: str
) -> None:
    path = changed(saved, kind, tmp_path / "m", lambda c: last(c)["config"].update(activation=function(module, name)))
    error = refusal(path)
    assert isinstance(error, ModelRefusedError)
    assert error.layer.startswith("dense")
    assert keras.src.saving.serialization_lib.in_safe_mode() is not False


@pytest.mark.parametrize("kind", ["keras", "h5"])
@pytest.mark.parametrize("layer", ["StringLookup", "IntegerLookup", "TextVectorization", "TFSMLayer"])
def test_paths_in_a_configuration_are_never_read(
    saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: str, kind: str
) -> None:
    """CVE-2025-12058: a vocabulary may be a path, and Keras reads it."""
    opened: list[Any] = []
    for name in ("GFile", "exists"):
        monkeypatch.setattr(tf.io.gfile, name, lambda *args, **_: opened.append(args))
    monkeypatch.setattr(tf.saved_model, "load", opened.append)
    config = {"name": "culprit", "vocabulary": "/etc/hostname", "filepath": "/etc"}
    entry = {"module": "keras.layers", "class_name": layer, "config": config, "registered_name": None}
    path = changed(saved, kind, tmp_path / "m", lambda c: c["config"]["layers"].append(entry))
    error = refusal(path)
    assert isinstance(error, ModelRefusedError)
    assert error.layer == "culprit"
    assert opened == []


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_pickles_and_assets_in_an_archive_are_left_alone(saved: dict[str, Path], tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    poison = pickle.dumps(Payload(marker))
    arrays = io.BytesIO()
    np.savez(arrays, x=np.array([Payload(marker)], dtype=object))
    extra = {"model.weights.npz": arrays.getvalue(), "model.pkl": poison, "assets/dense/vocabulary.npz": poison}
    path = changed(saved, "keras", tmp_path / "m", lambda config: None, **extra)
    assert StreamingModel.load(path).state_width == 8
    assert not marker.exists()


def test_an_archive_with_pickled_weights_only_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(saved["keras"]) as archive:
        config = archive.read("config.json")
    arrays = io.BytesIO()
    np.savez(arrays, x=np.array([Payload(tmp_path / "marker")], dtype=object))
    with zipfile.ZipFile(tmp_path / "m", "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.npz", arrays.getvalue())
    assert "without config.json and model.weights.h5" in str(refusal(tmp_path / "m"))
    assert not (tmp_path / "marker").exists()


def resize(key: str, value: Any) -> Change:
    def change(config: dict[str, Any]) -> None:
        for layer in config["config"]["layers"]:
            layer.pop("build_config", None)  # the true shape, which would not fit any more
            if key in layer["config"]:
                layer["config"][key] = value

    return change


def stateful(config: dict[str, Any]) -> None:
    resize("stateful", True)(config)
    resize("units", 10**9)(config)
    resize("batch_shape", [20, 7, F])(config)


@pytest.mark.parametrize("kind", ["keras", "h5"])
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (resize("units", 10**9), "more than"),
        (resize("units", 10**30), ""),
        (resize("units", 5000), "declare"),
        (stateful, "more than"),
        (resize("batch_shape", [None, 7, 10**9]), "more than"),
        (resize("batch_shape", [10**9, 10**9, F]), "more than"),
        (resize("batch_shape", [None, 10**9, F]), "more than"),
    ],
    ids=["units", "beyond 64 bit", "a little", "states", "features", "batch", "steps"],
)
def test_absurd_sizes_are_refused_before_anything_is_allocated(
    saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, word: str, kind: str
) -> None:
    made: list[Any] = []
    real = keras.src.backend.Variable._initialize

    def initialize(self: Any, value: Any) -> None:
        made.append(np.shape(value))
        real(self, value)

    monkeypatch.setattr(keras.src.backend.Variable, "_initialize", initialize)
    assert word in str(refusal(changed(saved, kind, tmp_path / "m", change)))
    assert made == []


def test_a_layer_that_says_it_was_built_for_more_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        for layer in config["config"]["layers"]:
            layer["build_config"] = {"input_shape": [None, 10**9, 10**9]}

    refusal(changed(saved, "keras", tmp_path / "m", change))


def test_unrolling_a_declared_length_takes_no_time(saved: dict[str, Path], tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        resize("unroll", True)(config)
        resize("batch_shape", [None, 1_000_000, F])(config)

    assert StreamingModel.load(changed(saved, "keras", tmp_path / "m", change)).state_width == 8


def test_more_weights_than_the_file_holds_are_not_built_one_by_one_either(
    saved: dict[str, Path], tmp_path: Path
) -> None:
    def change(config: dict[str, Any]) -> None:
        dense = last(config)
        for number in range(30):
            entry = json.loads(json.dumps(dense))
            entry["config"].update(name=f"d{number}", units=400)
            entry.pop("build_config", None)
            config["config"]["layers"].append(entry)

    assert "declare" in str(refusal(changed(saved, "keras", tmp_path / "m", change)))


@pytest.mark.parametrize("kind", ["keras", "h5"])
@pytest.mark.parametrize("depth", [configuration.NESTING_LIMIT + 1, 100_000])
def test_deep_nesting_is_refused(saved: dict[str, Path], tmp_path: Path, depth: int, kind: str) -> None:
    deep = "[" * depth + "]" * depth
    path = tmp_path / "m"
    if kind == "h5":
        path.write_bytes(saved["h5"].read_bytes())
        with h5py.File(path, "r+") as file:
            raw = file.attrs["model_config"]
            file.attrs["model_config"] = raw[:-1] + ', "deep": ' + deep[: 30_000 if depth > 30_000 else None] + "}"
    else:
        with zipfile.ZipFile(saved["keras"]) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        entries["config.json"] = entries["config.json"][:-1] + b', "deep": ' + deep.encode() + b"}"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in entries.items():
                archive.writestr(name, data)
    message = str(refusal(path))
    assert "nested deeper" in message or "not JSON" in message


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_how_a_model_was_compiled_is_never_made_again(tmp_path: Path, kind: str) -> None:
    """Custom losses, metrics and optimizers are not needed, and anybody's code may be named there."""

    @keras.saving.register_keras_serializable("attack")
    class Own(keras.losses.Loss):
        def call(self, y_true: Any, y_pred: Any) -> Any:
            return (y_true - y_pred) ** 2

    def own_metric(y_true: Any, y_pred: Any) -> Any:
        return keras.ops.abs(y_true - y_pred)

    part = keras.Sequential([keras.Input((None, F)), L.GRU(3)], name="part")
    part.compile("adam", Own())
    model = keras.Sequential([keras.Input((None, F)), part, L.Dense(1)])
    model.compile(keras.optimizers.Adam(0.1), Own(), metrics=[own_metric])
    model.fit(np.zeros((2, 3, F)), np.zeros((2, 1)), verbose=0)
    model.save(tmp_path / f"m.{kind}")
    keras.saving.get_custom_objects().pop("attack>Own")
    loaded = StreamingModel.load(tmp_path / f"m.{kind}")
    x = np.ones((2, 1, F))
    wanted = np.asarray(model(x))
    np.testing.assert_allclose(loaded.step(x[:, 0], loaded.zero_states(2))[0], wanted, rtol=0, atol=1e-6)
