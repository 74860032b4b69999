"""Judges what a model file claims to be, before Keras builds anything: only layers of Keras, no code, bounded sizes.

Keras' safe mode stays on besides; this is the list of what may be in a file, not of what may not.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, TypeAlias

from worker.errors import ModelRefusedError, WorkerError
from worker.model.backend import keras
from worker.model.graph import graph_of, is_model

Config: TypeAlias = dict[str, Any]

NESTING_LIMIT = 200  # lists and objects inside each other
TENSOR_LIMIT_NUMBERS = 2**24  # in one tensor between two layers, as far as its shape is fixed

LAMBDA_REFUSED = "its Python code comes from the file and is not run"
LAMBDA_INSTEAD = "use layers of Keras instead, or set model.allow_lambda: true if you trust this file as much as code"

# Values inside a configuration that are no objects of their own.
_VALUES = {"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"}
_CODE = {"Lambda", "__lambda__"}
# They load other files, other frameworks' code, or text: none of it can be part of a recurrent model's step.
_OUTSIDE = {
    "StringLookup", "TextVectorization", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer",
}  # fmt: skip
_PLACES = ("layers", "models", "initializers", "regularizers", "constraints", "dtype_policies", "quantizers", "random")
_KINDS = (
    keras.Operation,  # layers and models, and the operators of a graph
    keras.initializers.Initializer,
    keras.regularizers.Regularizer,
    keras.constraints.Constraint,
    keras.dtype_policies.DTypePolicy,
    keras.quantizers.Quantizer,
    keras.random.SeedGenerator,
)
_FUNCTIONS = ("builtins", "keras.activations", "keras.ops", "keras.initializers")


def parse(place: str, raw: bytes | str) -> Config:
    """The JSON of a file's configuration. Raises WorkerError when it is none, or nested too deeply to be a model's."""
    deep = WorkerError(f"{place}: its configuration is nested deeper than {NESTING_LIMIT} levels; it was not opened")
    try:
        config = json.loads(raw)
    except RecursionError:
        raise deep from None
    except ValueError as error:
        raise WorkerError(f"{place}: its configuration is not JSON ({error}); save the model again") from error
    if not isinstance(config, dict):
        raise WorkerError(f"{place}: its configuration is not a model's; save the model again")
    if _depth(config) > NESTING_LIMIT:
        raise deep
    return config


def _depth(node: Any) -> int:
    level, depth = [node], 0
    while level:
        depth += 1
        inner = (child.values() if isinstance(child, dict) else child for child in level)
        level = [child for children in inner for child in children if isinstance(child, dict | list)]
        if depth > NESTING_LIMIT:
            break
    return depth


def objects(node: Any, layer: str = "") -> Iterator[tuple[Config, str]]:
    """Every serialised object of a configuration with the name of the layer that it belongs to, outer ones first."""
    stack = [(node, layer)]
    while stack:
        node, layer = stack.pop()
        if isinstance(node, dict):
            if "class_name" in node:
                body = node.get("config")
                layer = str(body.get("name") or layer) if isinstance(body, dict) else layer
                yield node, layer
            stack.extend((child, layer) for child in reversed(list(node.values())))
        elif isinstance(node, list):
            stack.extend((child, layer) for child in reversed(node))


def check(config: Config, allow_lambda: bool, has_vocabularies: bool = False) -> None:
    """Raises ModelRefusedError, by the layer's name, for whatever is not of Keras or not registered by the caller."""
    for node, layer in objects(config):
        kind, body = str(node["class_name"]), node.get("config")
        if isinstance(body, dict) and any(_is_lost_function(key, value) for key, value in body.items()):
            raise ModelRefusedError(
                layer,
                "its activation was a function without a name, which Keras can't read from a file again",
                "use an activation of Keras, or register yours with keras.saving.register_keras_serializable",
            )
        if kind.rsplit(">", 1)[-1] in _CODE:
            if not allow_lambda:
                raise ModelRefusedError(layer, LAMBDA_REFUSED, LAMBDA_INSTEAD)
        elif kind == "function" and allow_lambda and not _is_function(node):
            raise ModelRefusedError(
                layer,
                f"of its function '{node.get('config')}' the file holds the name only",
                "register it with keras.saving.register_keras_serializable before loading",
            )
        elif kind in _OUTSIDE:
            raise ModelRefusedError(layer, f"{kind} reads what is outside the model", "do it to the data before")
        elif kind == "IntegerLookup" and not _has_vocabulary(body, has_vocabularies):
            raise ModelRefusedError(
                layer,
                "the file does not hold its vocabulary",
                "save the model as .keras, or give it a list of integers",
            )
        elif not _is_known(node):
            if "module" not in node and hasattr(keras.src.ops.numpy, str(kind)):
                why = f"Keras can't read operations such as {kind}, of masks and operators, from .h5 files"
                raise ModelRefusedError(layer, why, "save the model as .keras where it was built")
            raise ModelRefusedError(
                layer,
                f"its class '{node.get('registered_name') or kind}' is not part of Keras",
                "replace it by layers of Keras, or register the class with "
                "keras.saving.register_keras_serializable before loading",
            )


def _is_known(node: Config) -> bool:
    kind, module = node["class_name"], node.get("module")
    if not isinstance(kind, str) or not isinstance(module, str | None):
        return False
    if kind in _VALUES:
        return True
    if kind == "function":
        return _is_function(node)
    if is_registered(node.get("registered_name") or kind):
        return True
    if module is None or module == "builtins":  # legacy .h5: the class alone
        found = [getattr(getattr(keras, place), kind, None) for place in _PLACES]
        return kind in ("Functional", "Model", "Sequential") or any(_is_allowed(one) for one in found)
    if module.split(".")[0] != "keras":
        return False
    symbol = keras.src.api_export.get_symbol_from_name(f"{module}.{kind}")
    # What is not public, Keras looks up in the module by its name; it is not imported here for that.
    return _is_allowed(symbol or vars(sys.modules.get(module, keras)).get(kind))


def _has_vocabulary(body: Any, has_vocabularies: bool) -> bool:
    """A list in the configuration, or one in the archive; a path would be read by Keras, whatever it leads to."""
    given = [body.get("vocabulary"), body.get("idf_weights")] if isinstance(body, dict) else [""]
    return (has_vocabularies or given[0] is not None) and all(isinstance(value, list | None) for value in given)


def _is_function(node: Config) -> bool:
    name, module = node.get("config"), node.get("module")
    if is_registered(name) or is_registered(node.get("registered_name")):
        return True
    if module not in _FUNCTIONS or not isinstance(name, str):
        return False
    places = ("activations", "ops", "losses", "metrics") if module == "builtins" else (module.split(".")[-1],)
    return any(callable(getattr(getattr(keras, place), name, None)) for place in places)


def _is_lost_function(key: str, value: Any) -> bool:
    return key.endswith("activation") and isinstance(value, dict) and "class_name" not in value


def is_registered(name: Any) -> bool:
    return isinstance(name, str) and keras.saving.get_registered_object(name) is not None


def _is_allowed(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, _KINDS)


def without_training(config: Config) -> None:
    """Drop how the model was compiled, in place: its loss, metrics and optimizer may be anybody's code."""
    for node, _ in list(objects(config)):
        node.pop("compile_config", None)


def without_unrolling(config: Config) -> None:
    """Loops stay loops, in place: the result is the same, and the graph does not grow with a declared length."""
    for node, _ in objects(config):
        if isinstance(node.get("config"), dict) and node["config"].get("unroll") is True:
            node["config"]["unroll"] = False


def reserve_names(config: Config) -> None:
    """Keras counts to name the operations that join masks, and may hit upon a name in the file: count on from there."""
    counters = keras.src.backend.common.global_state.get_global_attribute(
        "object_name_uids", defaultdict(int), set_to_default=True
    )
    for node, _ in objects(config):
        name = str(node["config"].get("name")) if isinstance(node.get("config"), dict) else ""
        prefix, _, number = name.rpartition("_")
        if number.isdecimal() and len(number) < 10:
            counters[prefix] = max(counters[prefix], int(number) + 1)
        elif name:
            counters[name] = max(counters[name], 1)


def declared_numbers(config: Config, build: Any) -> int:
    """How many numbers the weights of this configuration would hold; none of them is allocated.

    ``build`` makes a model of a configuration. Raises ModelRefusedError for tensors above TENSOR_LIMIT_NUMBERS.
    """
    plain = json.loads(json.dumps(config))
    for node, _ in objects(plain):
        if isinstance(node.get("config"), dict) and "stateful" in node["config"]:
            node["config"]["stateful"] = False  # its states would be allocated here
    state = keras.src.backend.common.global_state
    waiting = state.get_global_attribute("uninitialized_variables", [])
    state.set_global_attribute("uninitialized_variables", [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            model = build(plain)
        _check_tensors(model)
        return sum(math.prod(variable.shape) for variable in model.variables)
    finally:
        state.set_global_attribute("uninitialized_variables", waiting)


def _check_tensors(model: Any) -> None:
    for layer in graph_of(model).operations:
        if is_model(layer):
            _check_tensors(layer)
        tensors = [tensor for node in layer._inbound_nodes for tensor in node.output_tensors]
        for shape in (tensor.shape for tensor in tensors):
            if math.prod(size for size in shape if size is not None) > TENSOR_LIMIT_NUMBERS:
                raise ModelRefusedError(
                    layer.name,
                    f"its output {shape} holds more than {TENSOR_LIMIT_NUMBERS} numbers",
                    "train with an open length, Input((None, features)), and smaller layers",
                )


def stored_numbers(weights: Any) -> int:
    """How many numbers the datasets of this HDF5 group hold."""
    total = 0
    waiting = [weights]
    while waiting:
        for item in waiting.pop().values():
            if hasattr(item, "shape"):
                total += math.prod(item.shape)
            else:
                waiting.append(item)
    return total
