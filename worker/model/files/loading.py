"""Reads a model file: hash first, then what the file claims to be, then Keras; nothing in the file is ever run.

The bytes that were hashed are the bytes that are opened: the file is read once.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import h5py

from worker.errors import ModelRefusedError, WorkerError
from worker.model.backend import keras
from worker.model.files import keras2, keras2_masks, keras2_weights, lambdas, weights
from worker.model.files.archives import HDF5_MAGIC, ZIP_MAGIC, check_hdf5, check_zip
from worker.model.files.configuration import (
    Config,
    declared_numbers,
    objects,
    parse,
    reserve_names,
    stored_numbers,
    without_training,
    without_unrolling,
)
from worker.model.files.fetching import located
from worker.model.files.foreign import what_file, what_folder, what_hdf5
from worker.model.files.judging import check, is_registered
from worker.model.files.own import Objects, find
from worker.model.graph import first_line, layers_of
from worker.model.keras2_masks import PACKAGE
from worker.model.own_objects import also_known, in_scope

MODEL_FILE_LIMIT_BYTES = 2 * 1024**3
UNSTORED_LIMIT_NUMBERS = 1_000_000  # weights that a model may declare beyond those in its file: seeds, counters
REASON_CHARS = 400  # of Keras' own words

_SAVING = keras.src.saving
_LEGACY = keras.src.legacy.saving

Build = Callable[[Config], Any]


def load_model(
    path: Path | str, sha256: str | None = None, *, allow_lambda: bool = False, custom_objects: Objects = ()
) -> tuple[Any, str]:
    """The Keras model of a file, not compiled, and the file's SHA-256 in hexadecimal. A URL is fetched first.

    ``allow_lambda`` lets Python code that the file holds in Lambda layers run: for files that you trust.
    ``custom_objects``: classes and functions of your own by their names in the file, as Keras takes them, or the
    modules that define them.

    Raises WorkerError (missing, damaged, another SHA-256, dangerous content), ModelRefusedError (a layer that would
    run code of the file, that Keras does not know, or that computes something else in Keras 3).
    """
    file, sha256, shown = located(path, sha256)
    data = _read(file)
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256.strip().lower():
        raise WorkerError(f"model {shown}: its SHA-256 is {digest}, model.sha256 says {sha256}", "it was not opened")
    if data.startswith(ZIP_MAGIC):
        return _load_keras(shown, data, allow_lambda, custom_objects), digest
    if data.startswith(HDF5_MAGIC):
        return _load_hdf5(shown, data, allow_lambda, custom_objects), digest
    raise what_file(file, data).refused(shown)


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise what_folder(path).refused(str(path))
    try:
        size = path.stat().st_size
        if size > MODEL_FILE_LIMIT_BYTES:
            raise WorkerError(f"model {path}: {size} bytes, more than the limit of {MODEL_FILE_LIMIT_BYTES}")
        return path.read_bytes()
    except FileNotFoundError:
        raise WorkerError(f"model {path}: no such file", "set model.path to a .keras or .h5 file") from None
    except OSError as error:
        raise WorkerError(f"model {path}: can't be read ({error.strerror or error})") from error


def _load_keras(path: str, data: bytes, allow_lambda: bool, given: Objects) -> Any:
    entries = check_zip(path, data, MODEL_FILE_LIMIT_BYTES)
    config = parse(f"model {path}", entries.config)
    metadata = parse(f"model {path}", entries.metadata)
    with _explained(path), _known(config, given), _code(config, allow_lambda, given):
        old = keras2.is_keras_2(metadata.get("keras_version", keras.__version__))
        build = _modern(not allow_lambda)
        written_so = old or keras2.is_written_so(config)
        if written_so:
            keras2.refuse_cudnn(config)
        with h5py.File(io.BytesIO(entries.weights), "r") as file:
            _judge(config, allow_lambda, written_so, build, file, bool(entries.vocabularies))
        model = build(config)
        if old:
            weights.check_order(model, config, named=False)
        weights.load_state(model, entries.weights, entries.vocabularies)
        if old:
            keras2_weights.set_right(model)
            keras2_masks.note(layers_of(model))
        return model


def _load_hdf5(path: str, data: bytes, allow_lambda: bool, given: Objects) -> Any:
    check_hdf5(path, data, MODEL_FILE_LIMIT_BYTES)
    with h5py.File(io.BytesIO(data), "r+") as file:  # a copy in memory: the file itself is never written
        raw = file.attrs.get("model_config")
        if raw is None or "model_weights" not in file:
            raise what_hdf5(file).refused(path)
        config = parse(f"model {path}", raw)
        with _explained(path), _known(config, given), _code(config, allow_lambda, given):
            old = keras2.is_keras_2(file.attrs.get("keras_version"))
            written_so = old or keras2.is_written_so(config)
            build = _modern(not allow_lambda) if written_so else _legacy(not allow_lambda)
            if written_so:
                keras2_weights.from_cudnn(file["model_weights"])
            _judge(config, allow_lambda, written_so, build, file)
            model = build(config)
            group = file["model_weights"]
            weights.order_by_name(group, model)
            if old:
                weights.check_order(model, config, named=True)
            _LEGACY.legacy_h5_format.load_weights_from_hdf5_group(group, model)
            if old:
                keras2_weights.set_right(model)
                keras2_masks.note(layers_of(model))
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
            return _LEGACY.saving_utils.model_from_config(plain, {**keras.saving.get_custom_objects(), **in_scope()})

    return build


@contextmanager
def _known(config: Config, given: Objects) -> Iterator[None]:
    """While this is active, Keras knows the caller's own objects that this configuration names."""
    without_training(config)
    with also_known(find(config, given)):
        yield


def _code(config: Config, allow_lambda: bool, given: Objects) -> AbstractContextManager[None]:
    return lambdas.named(config, given) if allow_lambda else nullcontext()


def _judge(
    config: Config, allow_lambda: bool, old: bool, build: Build, group: Any, has_vocabularies: bool = False
) -> None:
    """All checks before the model is finally built; changes ``config`` to what is to be built."""
    if old:
        keras2.modernise(config)
    check(config, allow_lambda, has_vocabularies)
    without_unrolling(config)
    reserve_names(config)
    stored = stored_numbers(group)
    try:
        declared = declared_numbers(config, build)
    except ModelRefusedError:
        raise
    except Exception:
        # A class that the caller has registered may create variables in a way that can't be counted beforehand.
        names = [str(node.get("registered_name") or node["class_name"]) for node, _ in objects(config)]
        if not any(is_registered(name) for name in names if not name.startswith(f"{PACKAGE}>")):
            raise
        declared = 0
    if declared > stored + UNSTORED_LIMIT_NUMBERS:
        raise WorkerError(
            f"its layers declare {declared} numbers of weights, the file holds {stored}", "it was not built"
        )


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Keras' own errors may be of any kind and many lines."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ModelRefusedError:
        raise
    except WorkerError as error:
        raise WorkerError(f"model {path}: {error.why}", error.instead) from error
    except Exception as error:  # any error that a broken configuration makes Keras raise
        raise WorkerError(
            f"model {path}: Keras {keras.__version__} can't load it ({_reason(error)[:REASON_CHARS]})"
        ) from error


def _reason(error: Exception) -> str:
    """Keras wraps its errors and names the first one last."""
    *_, cause = str(error).split("Exception encountered: ")
    return first_line(ValueError(cause))
