"""Files and folders that are no model: each is told for what it is, and the way that is named leads to a model."""

from __future__ import annotations

import gzip
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.models import F, door
from worker import StreamingModel
from worker.errors import WorkerError
from worker.model.backend import keras, tf

FIRST = np.random.default_rng(3).normal(size=(4, F))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    door().save(path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(WorkerError) as error:
        StreamingModel.load(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def assert_opens(path: Path) -> None:
    found, wanted = StreamingModel.load(path), StreamingModel(door())
    y, _ = found.step(FIRST, found.zero_states(4))
    np.testing.assert_array_equal(y, wanted.step(FIRST, wanted.zero_states(4))[0])


STARTS = {
    "empty": (b"", "but empty; it may have been copied or downloaded in part"),
    "model.h5": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run git lfs pull"),
    "model.keras": (b"<!DOCTYPE html><html><body>Not Found", "a web page; download the file itself"),
    "model.tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(40), "a TensorFlow Lite model"),
    "model.onnx": (b"\x08\x09\x12\x07pytorch\x1a\x032.1:\x00", "an ONNX model"),
    "tar": (bytes(257) + b"ustar" + bytes(500), "a tar archive"),
    "w.index": (b"\x00\x00\x01\x02" * 20, "a part of a TensorFlow checkpoint"),
}


@pytest.mark.parametrize("name", STARTS)
def test_what_begins_as_another_kind_is_told_as_that(tmp_path: Path, name: str) -> None:
    content, told = STARTS[name]
    (tmp_path / name).write_bytes(content)
    assert "this is not a Keras model file but" in refusal(tmp_path / name)
    assert told in refusal(tmp_path / name)


def test_a_pickle_is_not_opened_and_leads_to_a_model(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(door()))
    told = refusal(tmp_path / "model.pkl")
    assert "a Python pickle, which runs code when it is opened" in told
    assert "model.save('model.keras')" in told
    pickle.loads((tmp_path / "model.pkl").read_bytes()).save(tmp_path / "model.keras")
    assert_opens(tmp_path / "model.keras")


def test_what_is_packed_once_more_is_to_be_unpacked(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "model.keras.gz").write_bytes(gzip.compress(saved.read_bytes()))
    assert "but compressed; unpack it" in refusal(tmp_path / "model.keras.gz")
    with zipfile.ZipFile(tmp_path / "around.zip", "w") as archive:
        archive.write(saved, "models/model.keras")
    assert "unpack it, and name 'models/model.keras' in it" in refusal(tmp_path / "around.zip")
    zipfile.ZipFile(tmp_path / "around.zip").extractall(tmp_path)
    assert_opens(tmp_path / "models" / "model.keras")


def test_an_unpacked_archive_is_packed_as_told(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    zipfile.ZipFile(saved).extractall(folder)
    told = refusal(folder)
    assert "this is an unpacked .keras file; pack it again: " in told
    command = told.rpartition("pack it again: ")[2].replace("python ", f"{sys.executable} ")
    subprocess.run(command, shell=True, check=True, timeout=300, env=dict(os.environ))
    assert_opens(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "around.keras", "w") as archive:
        for name in ("config.json", "metadata.json", "model.weights.h5"):
            archive.write(folder / name, f"model/{name}")
    assert "packed again with its folder 'model' around it; pack what is inside" in refusal(tmp_path / "around.keras")


def test_weights_and_layers_alone_lead_to_a_model(tmp_path: Path) -> None:
    model = door()
    model.save_weights(tmp_path / "x.weights.h5")
    (tmp_path / "layers.json").write_text(model.to_json())
    assert "holds weights only, without the layers" in refusal(tmp_path / "x.weights.h5")
    assert "but the layers without their weights" in refusal(tmp_path / "layers.json")
    again = keras.models.model_from_json((tmp_path / "layers.json").read_text())
    again.load_weights(tmp_path / "x.weights.h5")  # as both say
    again.save(tmp_path / "model.keras")
    assert_opens(tmp_path / "model.keras")


def test_other_archives_and_hdf5_files_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", a=FIRST)
    assert "this holds arrays of numpy, without the layers" in refusal(tmp_path / "arrays.npz")
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    assert "this is a PyTorch file" in refusal(tmp_path / "model.pt")
    with h5py.File(tmp_path / "readings.h5", "w") as file:
        file["readings"] = FIRST
    assert "this is an HDF5 file, but not one of Keras" in refusal(tmp_path / "readings.h5")


def test_a_part_of_a_file_is_told_as_one(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(saved.read_bytes()[:3000])
    assert "it may have been copied or downloaded in part: fetch it again" in refusal(tmp_path / "cut")


def test_folders_are_told_with_the_file_in_them(saved: Path, tmp_path: Path) -> None:
    assert f"name the model file in it: {saved}" in refusal(saved.parent)
    tf.train.Checkpoint(x=tf.Variable(1.0)).write(str(tmp_path / "weights"))
    assert "this folder holds weights of a TensorFlow checkpoint" in refusal(tmp_path)


def test_a_graph_alone_is_told_by_its_folder(tmp_path: Path) -> None:
    door().export(tmp_path / "folder", verbose=False)
    assert "holds no layers any more" in refusal(tmp_path / "folder" / "saved_model.pb")
