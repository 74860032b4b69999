"""Files: the right ones are read, all others are refused with one line, before Keras opens them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.models import F, Unknown, door, sequential
from worker import ModelRefusedError, StreamingModel
from worker.errors import WorkerError
from worker.model.backend import keras
from worker.model.files import archives
from worker.model.files.loading import load_model

L = keras.layers


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("saved")
    model = door()
    paths = {kind: folder / f"door.{kind}" for kind in ("keras", "h5")}
    for path in paths.values():
        model.save(path)
    return paths


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_both_formats_are_read(saved: dict[str, Path], kind: str) -> None:
    model = StreamingModel.load(saved[kind])
    assert model.sha256 == hashlib.sha256(saved[kind].read_bytes()).hexdigest()
    x = np.random.default_rng(0).normal(size=(4, F))
    wanted, _ = StreamingModel(door()).step(x, model.zero_states(4))
    np.testing.assert_array_equal(model.step(x, model.zero_states(4))[0], wanted)
    assert model.check_parity(1e-5, sequences=2, steps=3)


def test_the_name_of_the_file_does_not_matter(saved: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(saved["h5"].read_bytes())
    assert StreamingModel.load(tmp_path / "model").state_width == 96


def test_another_sha256_is_refused_before_the_file_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(b"not even a model")
    with pytest.raises(WorkerError, match="SHA-256"):
        StreamingModel.load(path, sha256="0" * 64)


def test_the_right_sha256_is_accepted_in_capitals_too(saved: dict[str, Path]) -> None:
    digest = hashlib.sha256(saved["keras"].read_bytes()).hexdigest()
    assert StreamingModel.load(saved["keras"], sha256=digest.upper()).sha256 == digest


def refusal(path: Path) -> str:
    with pytest.raises(WorkerError) as error:
        StreamingModel.load(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_no_model_is_said_in_one_line(saved: dict[str, Path], tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "missing.keras")
    assert "this is a folder" in refusal(tmp_path)
    for name, data in {"empty": b"", "text": b"hello", "pickle": b"\x80\x04"}.items():
        (tmp_path / name).write_bytes(data)
        assert "not a Keras model file" in refusal(tmp_path / name)
    for kind in ("keras", "h5"):
        (tmp_path / "cut").write_bytes(saved[kind].read_bytes()[:3000])
        assert "damaged" in refusal(tmp_path / "cut")
    door().save_weights(tmp_path / "x.weights.h5")
    assert "weights only" in refusal(tmp_path / "x.weights.h5")


def rezipped(saved: dict[str, Path], target: Path, change: Any) -> Path:
    """The saved archive with ``change`` applied to its {name: bytes}; values may be (ZipInfo, bytes)."""
    with zipfile.ZipFile(saved["keras"]) as archive:
        entries: dict[Any, bytes] = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return target


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("assets")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("entry", "word"),
    [("/etc/evil", "outside"), ("assets/../../evil", "outside"), ("..\\evil", "outside"), (link(), "a link")],
    ids=["absolute", "parent", "backslash", "link"],
)
def test_dangerous_archive_entries_are_refused(saved: dict[str, Path], tmp_path: Path, entry: Any, word: str) -> None:
    path = rezipped(saved, tmp_path / "m.keras", lambda entries: entries.update({entry: b"x"}))
    assert word in refusal(path)


def test_archives_that_unpack_to_too_much_are_refused(
    saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.model.files.loading.MODEL_FILE_LIMIT_BYTES", 200_000)
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(300_000))
    assert "more than the limit" in refusal(path)
    monkeypatch.setattr("worker.model.files.loading.MODEL_FILE_LIMIT_BYTES", 100)
    assert "more than the limit" in refusal(saved["keras"])


def test_an_archive_without_weights_is_no_model(saved: dict[str, Path], tmp_path: Path) -> None:
    path = rezipped(saved, tmp_path / "m.keras", lambda entries: entries.pop("model.weights.h5"))
    assert "without config.json and model.weights.h5" in refusal(path)


def soft(file: Any) -> None:
    file["model_weights/soft"] = h5py.SoftLink("/model_weights")


def external_link(file: Any) -> None:
    file["model_weights/other"] = h5py.ExternalLink("/etc/passwd", "/")


def external_data(file: Any) -> None:
    file.create_dataset("model_weights/e", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    file.create_virtual_dataset("model_weights/v", layout)


def bomb(file: Any) -> None:
    file.create_dataset("model_weights/b", (10**13,), "f4", chunks=(1024,))


HDF5_ATTACKS = [
    (soft, "link"),
    (external_link, "link"),
    (external_data, "outside"),
    (virtual, "outside"),
    (bomb, "more"),
]


@pytest.mark.parametrize(("attack", "word"), HDF5_ATTACKS)
def test_dangerous_hdf5_is_refused_in_legacy_files(
    saved: dict[str, Path], tmp_path: Path, attack: Any, word: str
) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(saved["h5"].read_bytes())
    with h5py.File(path, "r+") as file:
        attack(file)
    assert word in refusal(path)


@pytest.mark.parametrize(("attack", "word"), HDF5_ATTACKS)
def test_dangerous_hdf5_is_refused_inside_archives(
    saved: dict[str, Path], tmp_path: Path, attack: Any, word: str
) -> None:
    def change(entries: dict[Any, bytes]) -> None:
        memory = io.BytesIO(entries["model.weights.h5"])
        with h5py.File(memory, "r+") as file:
            attack(file)
        entries["model.weights.h5"] = memory.getvalue()

    assert word in refusal(rezipped(saved, tmp_path / "m.keras", change))


def test_too_many_objects_are_refused(saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "HDF5_OBJECTS_LIMIT", 5)
    assert "more than 5 objects" in refusal(saved["h5"])


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_python_code_in_a_file_is_never_run(tmp_path: Path, kind: str) -> None:
    sequential(L.LSTM(3), L.Lambda(lambda x: x * 2, name="culprit")).save(tmp_path / f"m.{kind}")
    with pytest.raises(ModelRefusedError) as error:
        StreamingModel.load(tmp_path / f"m.{kind}")
    assert error.value.layer == "culprit"


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_a_class_that_keras_does_not_know_is_named(tmp_path: Path, kind: str) -> None:
    sequential(L.LSTM(3), Unknown(name="culprit")).save(tmp_path / f"m.{kind}")
    with pytest.raises(ModelRefusedError, match="Unknown") as error:
        StreamingModel.load(tmp_path / f"m.{kind}")
    assert error.value.layer == "culprit"


def test_names_in_a_file_do_not_meet_the_names_that_keras_makes_up(tmp_path: Path) -> None:
    """Joining masks takes an operation of its own, and Keras alone calls it as the file may call a layer."""
    x = keras.Input((None, F))
    masked = L.Masking()(x)
    parts = [L.GRU(2, return_sequences=True)(masked), L.LSTM(2, return_sequences=True)(masked)]
    number = keras.backend.get_uid("concatenate") + 3
    trained = keras.Model(x, L.GRU(2)(L.Concatenate(name=f"concatenate_{number}")(parts)))
    trained.save(tmp_path / "m.keras")
    for _ in range(8):  # as many names made up as one process may come to
        assert StreamingModel.load(tmp_path / "m.keras").state_width == 8


@keras.saving.register_keras_serializable("loading")
class OwnVariable(keras.layers.Layer):
    """A variable made of an array, as callers' own layers may do."""

    def build(self, shape: Any) -> None:
        self.offset = keras.Variable(np.ones(shape[-1]), name="offset", trainable=False)

    def call(self, x: Any) -> Any:
        return x + self.offset


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_registered_layers_may_make_their_variables_as_they_like(tmp_path: Path, kind: str) -> None:
    sequential(L.LSTM(3), OwnVariable()).save(tmp_path / f"m.{kind}")
    model, _ = load_model(tmp_path / f"m.{kind}")
    assert type(model.layers[-1]) is OwnVariable


def test_what_a_lookup_has_learned_is_read(tmp_path: Path) -> None:
    lookup = L.IntegerLookup()
    lookup.adapt(np.array([3, 7, 7, 9, 1]))
    x = keras.Input((None,), dtype="int64")
    trained = keras.Model(x, L.LSTM(4)(L.Embedding(9, 3)(lookup(x))))
    for kind in ("keras", "h5"):
        trained.save(tmp_path / f"m.{kind}")
    ids = np.array([[1], [3], [7], [9], [1000]])
    model = StreamingModel.load(tmp_path / "m.keras")
    wanted = np.asarray(trained(ids))
    np.testing.assert_allclose(model.step(ids, model.zero_states(5))[0], wanted, rtol=0, atol=1e-6)
    assert "does not hold its vocabulary" in refusal(tmp_path / "m.h5")


def as_keras_2(saved: Path, target: Path, **extra: Any) -> Path:
    """The file as Keras 2 wrote it: no InputLayer, the shape in the first layer, time_major everywhere."""
    target.write_bytes(saved.read_bytes())
    with h5py.File(target, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        layers = config["config"]["layers"]
        del layers[0]
        layers[0]["config"]["batch_input_shape"] = [None, 7, F]
        for layer in layers:
            if layer["class_name"] == "LSTM":
                layer["config"].update({"time_major": False, "implementation": 2, **extra})
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.12.0"
    return target


@pytest.mark.parametrize("version", ["2.12.0", "3.3.3", None])
def test_files_of_keras_2_are_read(saved: dict[str, Path], tmp_path: Path, version: str | None) -> None:
    """Also those that a tool has written anew, with another version or none."""
    path = as_keras_2(saved["h5"], tmp_path / "old.h5")
    with h5py.File(path, "r+") as file:
        del file.attrs["keras_version"]
        if version:
            file.attrs["keras_version"] = version
    model = StreamingModel.load(path)
    x = np.random.default_rng(0).normal(size=(4, F))
    wanted, _ = StreamingModel(door()).step(x, model.zero_states(4))
    np.testing.assert_array_equal(model.step(x, model.zero_states(4))[0], wanted)


def test_time_major_is_refused_by_name(saved: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelRefusedError, match="time_major"):
        StreamingModel.load(as_keras_2(saved["h5"], tmp_path / "old.h5", time_major=True))


def test_users_see_nothing_of_tensorflow(saved: dict[str, Path]) -> None:
    for level in (None, "3"):  # "3" is also what a child process inherits from a worker
        environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
        assert_silent(saved["keras"], {**environment, **({"TF_CPP_MIN_LOG_LEVEL": level} if level else {})})


def assert_silent(path: Path, environment: dict[str, str]) -> None:
    code = (
        "import sys; from worker import StreamingModel; m = StreamingModel.load(sys.argv[1]); "
        "print(m.step([[1, 2, 3]], m.zero_states(1))[0].shape)"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(1, 1)\n", "")


def test_an_h5_file_that_keras_itself_cant_read_says_how_to_save_it(tmp_path: Path) -> None:
    x = keras.Input((None, F))
    keras.Model(x, L.LSTM(3)(L.Masking()(x))).save(tmp_path / "m.h5")
    with pytest.raises(ModelRefusedError, match="of masks and operators"):
        StreamingModel.load(tmp_path / "m.h5")
