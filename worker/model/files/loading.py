"""Reads a model file: hash first, then what the file claims to be, then Keras; nothing in the file is ever run.

The bytes that were hashed are the bytes that are opened: the file is read once.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from worker.errors import ModelRefusedError, WorkerError
from worker.model.backend import keras
from worker.model.files import keras2
from worker.model.files.archives import HDF5_MAGIC, ZIP_MAGIC, Entries, check_hdf5, check_zip
from worker.model.files.configuration import (
    Config,
    check,
    declared_numbers,
    is_registered,
    objects,
    parse,
    reserve_names,
    stored_numbers,
    without_training,
    without_unrolling,
)
from worker.model.graph import first_line

MODEL_FILE_LIMIT_BYTES = 2 * 1024**3
UNSTORED_LIMIT_NUMBERS = 1_000_000  # weights that a model may declare beyond those in its file: seeds, counters
REASON_CHARS = 400  # of Keras' own words

_FORMATS = "the worker reads .keras files and legacy .h5 files"
_SAVING = keras.src.saving
_LEGACY = keras.src.legacy.saving

Build = Callable[[Config], Any]


def load_model(path: Path, sha256: str | None = None, *, allow_lambda: bool = False) -> tuple[Any, str]:
    """The Keras model of a file, not compiled, and the file's SHA-256 in hexadecimal.

    ``allow_lambda`` lets Python code that the file holds in Lambda layers run: for files that you trust.

    Raises WorkerError (missing, damaged, another SHA-256, dangerous content), ModelRefusedError (a layer that would
    run code of the file, that Keras does not know, or that computes something else in Keras 3).
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
        raise WorkerError(f"model {path}: {_what_folder(path)}")
    try:
        size = path.stat().st_size
        if size > MODEL_FILE_LIMIT_BYTES:
            raise WorkerError(f"model {path}: {size} bytes, more than the limit of {MODEL_FILE_LIMIT_BYTES}")
        return path.read_bytes()
    except FileNotFoundError:
        raise WorkerError(f"model {path}: no such file; set model.path to a .keras or .h5 file") from None
    except OSError as error:
        raise WorkerError(f"model {path}: can't be read ({error.strerror or error})") from error


def _what_folder(path: Path) -> str:
    if (path / "keras_metadata.pb").exists():  # only what tf.keras saves itself has its layers in it
        return (
            f"this is a SavedModel of Keras 2, which holds Python functions and graphs; {_FORMATS}. Convert it where "
            "tf-keras is installed: tf_keras.models.load_model(FOLDER, compile=False).save('model.h5')"
        )
    if (path / "saved_model.pb").exists():
        return (
            f"this is a SavedModel that was exported for inference: it holds no layers any more; {_FORMATS}. "
            "Save the trained model itself with model.save('model.keras')"
        )
    return f"this is a folder; {_FORMATS}"


def _load_keras(path: Path, data: bytes, allow_lambda: bool) -> Any:
    entries = check_zip(path, data, MODEL_FILE_LIMIT_BYTES)
    config = parse(f"model {path}", entries.config)
    metadata = parse(f"model {path}", entries.metadata)
    with _explained(path):
        old = keras2.is_keras_2(metadata.get("keras_version", keras.__version__))
        build = _modern(not allow_lambda)
        with h5py.File(io.BytesIO(entries.weights), "r") as file:
            written_so = old or keras2.is_written_so(config)
            _judge(config, allow_lambda, written_so, build, file, bool(entries.vocabularies))
        model = build(config)
        if old:
            _check_order(model, config, named=False)
        _load_state(model, entries)
        if old:
            keras2.set_right(model)
        return model


def _load_state(model: Any, entries: Entries) -> None:
    """Weights and vocabularies: no other assets and no pickles, whatever else the archive has."""
    saving = _SAVING.saving_lib
    failed: set[int] = set()
    messages: dict[Any, Any] = {}
    with tempfile.TemporaryDirectory() as folder:  # Keras takes vocabularies from files only
        for name, content in entries.vocabularies.items():
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_bytes(content)
        assets = str(Path(folder) / "assets")
        saving._load_state(
            model,
            weights_store=saving.H5IOStore(io.BytesIO(entries.weights), mode="r"),
            assets_store=saving.DiskIOStore(assets, mode="r") if entries.vocabularies else None,
            inner_path="",
            visited_saveables=set(),
            failed_saveables=failed,
            error_msgs=messages,
        )
    if failed:
        saving._raise_loading_failure(messages)


def _load_hdf5(path: Path, data: bytes, allow_lambda: bool) -> Any:
    check_hdf5(path, data, MODEL_FILE_LIMIT_BYTES)
    with h5py.File(io.BytesIO(data), "r+") as file:  # a copy in memory: the file itself is never written
        raw = file.attrs.get("model_config")
        if raw is None or "model_weights" not in file:
            raise WorkerError(
                f"model {path}: holds weights only, without the layers; save the whole model with model.save('x.keras')"
            )
        config = parse(f"model {path}", raw)
        with _explained(path):
            old = keras2.is_keras_2(file.attrs.get("keras_version"))
            written_so = old or keras2.is_written_so(config)
            build = _modern(not allow_lambda) if written_so else _legacy(not allow_lambda)
            _judge(config, allow_lambda, written_so, build, file)
            model = build(config)
            weights = file["model_weights"]
            _order_by_name(weights, model)
            if old:
                _check_order(model, config, named=True)
            _LEGACY.legacy_h5_format.load_weights_from_hdf5_group(weights, model)
            if old:
                keras2.set_right(model)
            return model


def _modern(safe_mode: bool) -> Build:
    def build(config: Config) -> Any:
        return _SAVING.saving_lib._model_from_config(json.dumps(config), None, False, safe_mode)

    return build


def _legacy(safe_mode: bool) -> Build:
    """As Keras itself reads legacy .h5 files."""

    def build(config: Config) -> Any:
        plain = json.loads(json.dumps(config))  # Keras takes it apart
        with (
            _LEGACY.saving_options.keras_option_scope(use_legacy_config=True),
            _SAVING.serialization_lib.SafeModeScope(safe_mode),
        ):
            return _LEGACY.saving_utils.model_from_config(plain, custom_objects=keras.saving.get_custom_objects())

    return build


def _judge(
    config: Config, allow_lambda: bool, old: bool, build: Build, weights: Any, has_vocabularies: bool = False
) -> None:
    """Everything that is checked before the model is built for good; changes ``config`` to what is to be built."""
    without_training(config)
    if old:
        keras2.modernise(config)
    check(config, allow_lambda, has_vocabularies)
    without_unrolling(config)
    reserve_names(config)
    stored = stored_numbers(weights)
    try:
        declared = declared_numbers(config, build)
    except ModelRefusedError:
        raise
    except Exception:
        # A class that the caller has registered may make its variables in a way that can't be counted beforehand.
        if not any(is_registered(node.get("registered_name") or node["class_name"]) for node, _ in objects(config)):
            raise
        declared = 0
    if declared > stored + UNSTORED_LIMIT_NUMBERS:
        raise WorkerError(
            f"its layers declare {declared} numbers of weights, the file holds {stored}; it was not built"
        )


def _order_by_name(weights: Any, model: Any) -> None:
    """Keras assigns weights to layers in order; Keras 2 may have had another order than Keras 3: go by the names."""
    saved = list(_LEGACY.legacy_h5_format.load_attributes_from_hdf5_group(weights, "layer_names"))
    built = [layer.name for layer in model.layers]
    wanted = [name for name in built if name in saved]
    if wanted != [name for name in saved if name in built]:
        for key in [key for key in weights.attrs if key.startswith("layer_names")]:
            del weights.attrs[key]
        _LEGACY.legacy_h5_format.save_attributes_to_hdf5_group(weights, "layer_names", [n.encode() for n in wanted])


def _check_order(model: Any, config: Config, named: bool) -> None:
    """Weights of .keras files and of nested models have no names to go by, only the order of the layers."""
    entries = [entry for entry in config["config"]["layers"] if isinstance(entry.get("config"), dict)]
    built = {layer.name: layer for layer in model.layers}
    if not named and [e["config"].get("name") for e in entries if e["config"].get("name") in built] != list(built):
        raise ModelRefusedError(
            model.name,
            f"Keras {keras.__version__} has its layers in another order than Keras 2, and their weights have no names",
            "save the model without nested models, as .h5, with tf-keras",
        )
    for entry in entries:
        if isinstance(entry["config"].get("layers"), list):
            _check_order(built[entry["config"]["name"]], entry, False)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Keras' own errors may be of any kind and many lines."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ModelRefusedError:
        raise
    except WorkerError as error:
        raise WorkerError(f"model {path}: {error}") from error
    except Exception as error:  # whatever a broken configuration makes Keras raise
        raise WorkerError(
            f"model {path}: Keras {keras.__version__} can't load it ({first_line(error)[:REASON_CHARS]})"
        ) from error
