"""Reads a model file: hash first, then what the file claims to be, then Keras; nothing in the file is ever run.

The bytes that were hashed are the bytes that are opened: the file is read once.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from worker.errors import ModelRefusedError, WorkerError
from worker.model.archives import HDF5_MAGIC, ZIP_MAGIC, check_hdf5, check_zip
from worker.model.backend import keras
from worker.model.graph import first_line

MODEL_FILE_LIMIT_BYTES = 2 * 1024**3

_FORMATS = "the worker reads .keras files and legacy .h5 files"


def load_model(path: Path, sha256: str | None = None, *, allow_lambda: bool = False) -> tuple[Any, str]:
    """The Keras model of a file, not compiled, and the file's SHA-256 in hexadecimal.

    ``allow_lambda`` lets Python code that the file holds in Lambda layers run: for files that you trust.
    Raises WorkerError (missing, damaged, another SHA-256, dangerous content), ModelRefusedError (a layer that would
    run code of the file or that Keras does not know).
    """
    data = _read(path)
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256.strip().lower():
        raise WorkerError(f"model {path}: its SHA-256 is {digest}, model.sha256 says {sha256}; it was not opened")
    if data.startswith(ZIP_MAGIC):
        return _load_keras(path, data, allow_lambda), digest
    if data.startswith(HDF5_MAGIC):
        return _load_hdf5(path, data, allow_lambda), digest
    raise WorkerError(f"model {path}: this is not a Keras model file; {_FORMATS}")


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise WorkerError(
            f"model {path}: this is a directory, perhaps a SavedModel; {_FORMATS}. Where the model was trained, "
            "load it with the Keras it was saved with (tf_keras.models.load_model) and save it as .keras or .h5"
        )
    try:
        size = path.stat().st_size
        if size > MODEL_FILE_LIMIT_BYTES:
            raise WorkerError(f"model {path}: {size} bytes, more than the limit of {MODEL_FILE_LIMIT_BYTES}")
        return path.read_bytes()
    except FileNotFoundError:
        raise WorkerError(f"model {path}: no such file; set model.path to a .keras or .h5 file") from None
    except OSError as error:
        raise WorkerError(f"model {path}: can't be read ({error.strerror or error})") from error


def _load_keras(path: Path, data: bytes, allow_lambda: bool) -> Any:
    check_zip(path, data, MODEL_FILE_LIMIT_BYTES)
    config = _json(path, zipfile.ZipFile(io.BytesIO(data)).read("config.json"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The public load_model takes a path only, and the file behind it may change after it was hashed.
            return keras.src.saving.saving_lib.load_model(io.BytesIO(data), compile=False, safe_mode=not allow_lambda)
    except Exception as error:  # whatever a broken configuration makes Keras raise
        raise _explained(path, config, error) from error


def _load_hdf5(path: Path, data: bytes, allow_lambda: bool) -> Any:
    check_hdf5(path, data, MODEL_FILE_LIMIT_BYTES)
    with h5py.File(io.BytesIO(data), "r+") as file:  # a copy in memory: the file itself is never written
        raw = file.attrs.get("model_config")
        if raw is None:
            raise WorkerError(
                f"model {path}: holds weights only, without the layers; save the whole model with model.save('x.keras')"
            )
        config = _json(path, raw)
        modernise(config)
        file.attrs["model_config"] = json.dumps(config)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return keras.src.legacy.saving.legacy_h5_format.load_model_from_hdf5(
                    file, compile=False, safe_mode=not allow_lambda
                )
        except Exception as error:  # whatever a broken configuration makes Keras raise
            raise _explained(path, config, error) from error


def _json(path: Path, raw: bytes | str) -> dict[str, Any]:
    try:
        config = json.loads(raw)
    except ValueError as error:
        raise WorkerError(f"model {path}: its configuration is not JSON ({error}); save the model again") from error
    if not isinstance(config, dict):
        raise WorkerError(f"model {path}: its configuration is not a model's; save the model again")
    return config


def modernise(config: dict[str, Any]) -> None:
    """Bring the configuration of a Keras 2 model to what Keras 3 takes, in place.

    Drops ``time_major=False`` of recurrent layers, and turns ``batch_input_shape`` of a Sequential's first layer into
    the InputLayer that newer files have. Raises ModelRefusedError for ``time_major=True``.
    """
    for layer in list(_layer_configs(config)):
        body = layer["config"]
        if body.pop("time_major", False):
            raise ModelRefusedError(
                str(body.get("name", "")), "time_major=True puts time before the batch", "train it with (batch, time)"
            )
        layers = body.get("layers")
        if layer.get("class_name") == "Sequential" and isinstance(layers, list) and layers:
            first = layers[0]
            shape = first.get("config", {}).get("batch_input_shape") if isinstance(first, dict) else None
            if shape and first.get("class_name") not in ("InputLayer", "Sequential", "Functional", "Model"):
                del first["config"]["batch_input_shape"]
                entry = {"batch_shape": shape, "name": f"{first['config'].get('name', 'layer')}_input"}
                if first.get("class_name") == "Embedding":
                    first["config"].pop("input_length", None)
                layers.insert(0, {"class_name": "InputLayer", "config": entry})


def _layer_configs(node: Any) -> Iterator[dict[str, Any]]:
    """Every serialised object in a configuration, outer ones first."""
    stack = [node]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if isinstance(node.get("config"), dict):
                yield node
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


def _is_foreign(layer: dict[str, Any]) -> bool:
    """Whether this serialised layer is of a class that neither Keras nor this process knows."""
    if "module" not in layer:  # files of Keras 2 and legacy .h5 files: the class alone
        kind = str(layer.get("class_name"))
        return not hasattr(keras.layers, kind) and kind not in ("Functional", "Model", "Sequential")
    registered = layer.get("registered_name")
    if registered is not None:
        return keras.saving.get_registered_object(registered) is None
    return str(layer["module"]).split(".")[0] != "keras"


def _explained(path: Path, config: dict[str, Any], error: Exception) -> WorkerError:
    """Keras' own error says little about where: name the layer when it can be known."""
    if isinstance(error, WorkerError):
        return error
    for layer in _layer_configs(config):
        kind, name = str(layer.get("class_name")), str(layer["config"].get("name", ""))
        if kind == "Lambda":
            return ModelRefusedError(name, "a Lambda holds Python code, which is never run", "use layers of Keras")
        if name and _is_foreign(layer):
            return ModelRefusedError(
                name,
                f"its class '{layer.get('registered_name') or kind}' is not part of Keras",
                "replace it by layers of Keras, or register the class with "
                "keras.saving.register_keras_serializable before loading",
            )
    return WorkerError(f"model {path}: Keras {keras.__version__} can't load it ({first_line(error)})")
