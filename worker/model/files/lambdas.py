"""Names for the Python code in a file's Lambda layers, of which Keras keeps the byte code alone.

The code says ``tf.reduce_sum`` and means what ``tf`` was where it was written. Keras gives it the names of one of its
own modules, which has none of these. Here the code gets the names that nearly all such code uses, and the caller's own.
"""

from __future__ import annotations

import builtins
import codecs
import dis
import marshal
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import CodeType
from typing import Any

import numpy as np

from worker.errors import ModelRefusedError
from worker.model.backend import keras, tf
from worker.model.files.configuration import Config, objects
from worker.model.files.own import Objects

_FUNCTIONS = ("function", "output_shape", "mask")


@contextmanager
def named(config: Config, given: Objects) -> Iterator[None]:
    """While this is active, Keras gives these names to the Lambda layers that it makes from a configuration.

    ``given`` are the caller's objects or modules. Raises ModelRefusedError for code that uses any other name.
    """
    names = _names(given)
    for layer, code in _codes(config):
        _check(layer, code, names)
    utils = keras.src.utils.python_utils
    load = utils.func_load
    utils.func_load = lambda *args, **kwargs: load(*args, **{**kwargs, "globs": names})
    try:
        yield
    finally:
        utils.func_load = load


def _names(given: Objects) -> dict[str, Any]:
    # With TensorFlow's own Keras, which also has the old functions such as keras.backend.sum.
    full = import_module("keras._tf_keras.keras")
    names: dict[str, Any] = {
        "__builtins__": builtins, "math": math, "np": np, "numpy": np, "tf": tf, "tensorflow": tf,
        "keras": full, "K": full.backend, "backend": full.backend, "ops": keras.ops, "layers": keras.layers,
        **{name.rsplit(">", 1)[-1]: value for name, value in keras.saving.get_custom_objects().items()},
    }  # fmt: skip
    if isinstance(given, Mapping):
        return {**names, **given}
    for module in given:
        names |= {name: value for name, value in vars(module).items() if not name.startswith("__")}
    return names


def _codes(config: Config) -> Iterator[tuple[str, str]]:
    """(name of the layer, its code as the file has it) of all Python code in a configuration."""
    for node, layer in objects(config):
        body = node.get("config")
        if not isinstance(body, dict):
            continue
        found = [body.get("code")] if node["class_name"] == "__lambda__" else []
        if node["class_name"] == "Lambda":  # as Keras 2 wrote it: [code, defaults, closure]
            found += [body[key][0] for key in _FUNCTIONS if isinstance(body.get(key), list) and body[key]]
        yield from ((layer, code) for code in found if isinstance(code, str))


def _check(layer: str, text: str, names: Mapping[str, Any]) -> None:
    try:
        # The caller has allowed this code to run.
        code = marshal.loads(codecs.decode(text.encode("ascii"), "base64"))  # noqa: S302
    except (ValueError, EOFError, TypeError) as error:
        version = ".".join(map(str, sys.version_info[:2]))
        raise ModelRefusedError(
            layer,
            f"its Python code was not written by Python {version} ({error})",
            f"save the model again with Python {version}, or replace it by layers of Keras",
        ) from error
    for name in _globals(code):
        if name not in names and not hasattr(builtins, name):
            raise ModelRefusedError(
                layer,
                f"its Python code uses '{name}', which the file does not hold",
                f"define {name} in a module that model.imports names (from Python: custom_objects={{'{name}': {name}}})"
                ", or replace it by layers of Keras",
            )


def _globals(code: CodeType) -> Iterator[str]:
    """Names that the code takes from around it, functions inside it too."""
    yield from (str(one.argval) for one in dis.get_instructions(code) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _globals(inner)
