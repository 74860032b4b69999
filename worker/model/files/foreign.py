"""What a file or folder is that is not a Keras model file, and how to get one from it: each way has been tried."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from worker.errors import WorkerError

FORMATS = "the worker reads .keras files and legacy .h5 files"
SAVE = "save the trained model itself with model.save('model.keras')"
BUILD = "build the model as for training, then model.load_weights(...) and model.save('model.keras')"
AGAIN = "it may have been copied or downloaded in part: fetch it again"
# Keras 2 can save a model in them, if it is a Sequential or a Functional one.
CONVERT = "Convert it where tf-keras is installed: tf_keras.models.load_model(FOLDER, compile=False).save('model.h5')"

LOOKED_AT_BYTES = 4096
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd
SAVED_MODEL_LIMIT_BYTES = 2 * 1024**3
GRAPH, NOTES, OLD_NOTES = "saved_model.pb", "keras_metadata.pb", "assets/saved_model.json"


class Foreign(NamedTuple):
    """What a path is that is not a model file, and what to do."""

    what: str
    instead: str

    def refused(self, path: str) -> WorkerError:
        """The error for this file or folder."""
        return WorkerError(f"model {path}: {self.what}", self.instead)


def what_folder(path: Path) -> Foreign:
    """What this folder is and what to do."""
    if (path / GRAPH).exists():
        return _what_saved_model(path)
    if (path / "config.json").exists() and (path / "model.weights.h5").exists():
        pack = f"pack it again: cd {path} && python -m zipfile -c ../model.keras *"
        return Foreign("this is an unpacked .keras file", pack)
    if list(path.glob("*.index")):
        return Foreign("this folder holds weights of a TensorFlow checkpoint, without the layers", BUILD)
    files = sorted(one.name for one in path.iterdir() if one.suffix in (".keras", ".h5", ".hdf5"))
    if files:
        return Foreign("this is a folder", f"name the model file in it: {path / files[0]}")
    return Foreign("this is a folder", FORMATS)


def _what_saved_model(path: Path) -> Foreign:
    """Until TensorFlow 2.4 the layers' configurations were in the graph, since then in a file of their own."""
    graph = path / GRAPH
    content = graph.read_bytes() if graph.stat().st_size <= SAVED_MODEL_LIMIT_BYTES else b""
    if (path / NOTES).exists() or (b"_tf_keras_" in content and b'"class_name"' in content):
        what = "this is a SavedModel of Keras 2, which holds Python functions and graphs"
        return Foreign(what, f"{FORMATS}. {CONVERT}")
    if (path / OLD_NOTES).exists():
        return Foreign(
            "this is a SavedModel of TensorFlow 1.14 or 2.0",
            f"{FORMATS}. Convert it where tf-keras is installed: model "
            f"= tf_keras.models.model_from_json(open('FOLDER/{OLD_NOTES}').read()), then "
            "model.load_weights('FOLDER/variables/variables') and model.save('model.h5')",
        )
    return Foreign(
        "this is a SavedModel that was exported for inference: it holds no layers any more",
        f"{FORMATS}. {SAVE[0].upper()}{SAVE[1:]}",
    )


def what_file(path: Path, data: bytes) -> Foreign:
    """What this file is, judged by its first bytes, and what to do."""
    start = data[:LOOKED_AT_BYTES]
    text = start.lstrip().lower()
    if path.name in (GRAPH, NOTES) and path.parent.joinpath(GRAPH).exists():
        folder = what_folder(path.parent)
        return Foreign("this is a file of a SavedModel", f"of its folder: {folder.what}; {folder.instead}")
    for told, what, instead in (
        (not data, "empty", AGAIN),
        (start.startswith(b"version https://git-lfs"), "the pointer to one that Git LFS keeps", "run git lfs pull"),
        (text.startswith((b"<!doctype", b"<html")), "a web page", "download the file itself"),
        (start[4:8] == b"TFL3", "a TensorFlow Lite model, without layers of Keras", SAVE),
        (_is_onnx(start), "an ONNX model, without layers of Keras", SAVE),
        (
            _is_pickle(start),
            "a Python pickle, which runs code when it is opened",
            f"open it where you trust it, and {SAVE}",
        ),
        (start.startswith(_COMPRESSED), "compressed", "unpack it"),
        (data[257:262] == b"ustar", "a tar archive", "unpack it, and name the model file in it"),
        (text.startswith(b"{") and _is_configuration(data), "the layers without their weights", BUILD),
        (path.suffix == ".index" or ".data-0000" in path.name, "a part of a TensorFlow checkpoint", BUILD),
    ):
        if told:
            return Foreign(f"this is not a Keras model file but {what}", instead)
    return Foreign("this is not a Keras model file", FORMATS)


def what_archive(names: list[str]) -> Foreign:
    """What a zip archive without a model at its top is."""
    inner = sorted({name.rpartition("/")[0] for name in names if name.endswith("/config.json")})
    models = sorted(name for name in names if name.endswith((".keras", ".h5", ".hdf5", GRAPH)))
    if inner and f"{inner[0]}/model.weights.h5" in names:
        return Foreign(
            f"this is a .keras file that was packed again with its folder '{inner[0]}' around it", "pack what is inside"
        )
    if any(name.endswith("data.pkl") for name in names):
        return Foreign("this is a PyTorch file, which holds no layers of Keras", FORMATS)
    if names and all(name.endswith(".npy") for name in names):
        return Foreign("this holds arrays of numpy, without the layers", BUILD)
    if models and "config.json" not in names:
        name = models[0].removesuffix("/" + GRAPH)
        return Foreign("this is an archive around the model", f"unpack it, and name '{name}' in it")
    return Foreign("an archive without config.json and model.weights.h5 is not a Keras model", FORMATS)


def what_hdf5(file: Any) -> Foreign:
    """What an HDF5 file without a model's configuration is."""
    if "model_config" in file.attrs:
        return Foreign("holds the layers without their weights", BUILD)
    if "layer_names" in file.attrs or any(name in file for name in ("layers", "_layer_checkpoint_dependencies")):
        return Foreign("holds weights only, without the layers", BUILD)
    return Foreign("this is an HDF5 file, but not one of Keras", FORMATS)


def _is_onnx(start: bytes) -> bool:
    """Its first field is the version of its format, the second the name of its producer or the graph."""
    return start[:1] == b"\x08" and start[2:3] in (b"\x12", b"\x1a", b"\x3a", b"\x42") and 3 <= start[1] <= 20


def _is_pickle(start: bytes) -> bool:
    return start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def _is_configuration(data: bytes) -> bool:
    try:
        return "class_name" in json.loads(data)
    except (ValueError, RecursionError, TypeError):
        return False
