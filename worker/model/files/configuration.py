"""The configuration of a model file as data: read, bounded in depth and size, without what only training needs."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, TypeAlias

from worker.errors import ModelRefusedError, WorkerError
from worker.model.backend import keras
from worker.model.graph import graph_of, is_model

Config: TypeAlias = dict[str, Any]

NESTING_LIMIT = 200  # lists and objects inside each other
TENSOR_LIMIT_NUMBERS = 2**24  # in one tensor between two layers, as far as its shape is fixed


def parse(where: str, raw: bytes | str) -> Config:
    """The JSON of a file's configuration. Raises WorkerError when it is not JSON, or nested too deeply for a model."""
    deep = WorkerError(f"{where}: its configuration is nested deeper than {NESTING_LIMIT} levels", "it was not opened")
    try:
        config = json.loads(raw)
    except RecursionError:
        raise deep from None
    except ValueError as error:
        raise WorkerError(f"{where}: its configuration is not JSON ({error})", "save the model again") from error
    if not isinstance(config, dict):
        raise WorkerError(f"{where}: its configuration is not a model's", "save the model again")
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
    """Keras numbers the operations that join masks, and may hit a name in the file: start counting above these."""
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
