"""Looks into layers and models of users' own classes: their Python code runs once on symbols, which makes a graph.

What the code does with layers of Keras and keras.ops is in that graph; what can't be, such as loops over numbers or
states in Python, raises UntraceableError. Nothing is taken on trust: rules judge each operation, and the proof runs the
layer itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import numpy as np

from worker.model.backend import keras

Layer: TypeAlias = Any
Function: TypeAlias = Any  # a keras.src.ops.function.Function

_OWN = ("name", "_inbound_nodes", "_outbound_nodes", "_remat_mode", "_lock")


class UntraceableError(Exception):
    """The code can't be followed; the text says why."""


def is_own(layer: Layer) -> bool:
    """Whether its class is neither of Keras nor a model that has a graph."""
    if not isinstance(layer, keras.Layer) or type(layer).__module__.split(".")[0] == "keras":
        return False
    return not isinstance(layer, keras.Model) or is_subclassed(layer)


def is_subclassed(model: Layer) -> bool:
    """Whether a model runs Python code of its own instead of a graph."""
    kind = type(model)
    if isinstance(model, keras.Sequential):
        return kind.call is not keras.Sequential.call or kind.__call__ is not keras.Sequential.__call__
    return not isinstance(model, keras.src.models.Functional) or kind.call is not keras.src.models.Functional.call


def with_graph(model: Any) -> Any:
    """The model itself, or around a subclassed one, whose code may be followed, a model that calls it as a layer."""
    shapes = list((getattr(model, "_build_shapes_dict", None) or {}).values())
    if not isinstance(model, keras.Model) or not is_subclassed(model) or len(shapes) != 1:
        return model
    given = keras.tree.map_shape_structure(lambda shape: keras.Input(shape[1:], dtype=model.input_dtype), shapes[0])
    return keras.Model(given, model(given), name=f"{model.name}_called")


def followed(node: Any) -> Function:
    """The graph within the layer in this call of it, if it is the same each time. Raises UntraceableError."""
    layer = node.operation
    if any(getattr(part, "stateful", False) for part in layer._flatten_layers()):
        raise UntraceableError("a layer within it is stateful")
    with _undone(layer):
        function, again = (_traced(layer, *_given(node)) for _ in range(2))
    own = {id(part) for part in layer._flatten_layers()}
    if _form(function, own) != _form(again, own):
        raise UntraceableError("it does something else each time it is called")
    return function


def graph_if_any(node: Any) -> Function | None:
    """The graph within a layer of a user's own that is called there; None where there is none, and in other layers."""
    try:
        return graph_within(node) if is_own(node.operation) else None
    except UntraceableError:
        return None


def graph_within(node: Any, given: tuple[Any, Any] | None = None) -> Function:
    """What the layer does in this call, or ``given`` other arguments: inputs are all its tensors, masks too, in order.

    Raises UntraceableError.
    """
    with _undone(node.operation):
        return _traced(node.operation, *(given or _given(node)))


def _given(node: Any) -> tuple[Any, Any]:
    return node.arguments.args, node.arguments.kwargs


def _traced(layer: Layer, args: Any, kwargs: Any) -> Function:
    inputs: list[Any] = []

    def fresh(leaf: Any) -> Any:
        if not isinstance(leaf, keras.KerasTensor):
            return leaf
        inputs.append(keras.Input(batch_shape=leaf.shape, dtype=leaf.dtype))
        cast = layer.dtype_policy.convert_input(inputs[-1], layer.autocast, layer.input_dtype)
        return cast if layer._convert_input_args else inputs[-1]

    args, kwargs = keras.tree.map_structure(fresh, (args, kwargs))
    if layer._call_has_training_arg:
        kwargs = {**kwargs, "training": kwargs.get("training") or False}
    return _function(inputs, _called(layer, args, kwargs))


def _called(layer: Layer, args: Any, kwargs: Any) -> Any:
    scopes = ExitStack()
    scope = scopes.enter_context(keras.StatelessScope())
    if layer.autocast and layer.compute_dtype != layer.variable_dtype:
        scopes.enter_context(keras.src.backend.AutocastScope(layer.compute_dtype))
    with scopes:
        try:
            outputs = layer.call(*args, **kwargs)
        except Exception as error:  # whatever its Python code may raise
            raise UntraceableError(str(error).strip() or type(error).__name__) from error
    if scope.state_mapping:
        raise UntraceableError("it changes variables when it is called")
    if not all(isinstance(leaf, keras.KerasTensor) for leaf in keras.tree.flatten(outputs)):
        raise UntraceableError("it does not only give tensors that follow from its inputs")
    return outputs


def _function(inputs: list[Any], outputs: Any) -> Function:
    """Keras wants another name for each operation, which layers of one's own need not have."""
    found = list(_operations(outputs))
    names = [operation.name for operation in found]
    try:
        for number, operation in enumerate(found):
            operation.name = str(number)
        return keras.src.ops.function.Function(inputs, outputs)
    except ValueError as error:
        raise UntraceableError("it does not only give tensors that follow from its inputs") from error
    finally:
        for operation, name in zip(found, names, strict=True):
            operation.name = name


def _operations(outputs: Any) -> Iterator[Layer]:
    seen: set[int] = set()
    waiting = list(keras.tree.flatten(outputs))
    while waiting:
        operation = waiting.pop()._keras_history.operation
        if operation is not None and id(operation) not in seen:
            seen.add(id(operation))
            waiting += [tensor for node in operation._inbound_nodes for tensor in node.input_tensors]
            yield operation


@contextmanager
def _undone(layer: Layer) -> Iterator[None]:
    """What the call changes in the layer and those within it is changed back: it is the caller's.

    Of a layer that had been called on symbols before, the calls are forgotten; a first one stays, for rules to look at.
    """
    parts = [layer, *layer._flatten_layers()]
    before = [dict(vars(part)) for part in parts]
    lists = [(value, list(value)) for held in before for value in held.values() if isinstance(value, list)]
    calls = {id(nodes) for part in parts for nodes in (part._inbound_nodes, part._outbound_nodes)}
    try:
        yield
    finally:
        for part, held in zip(parts, before, strict=True):
            for name in set(vars(part)) - set(held):
                del vars(part)[name]
            vars(part).update(held)
        for value, items in lists:
            if (items or id(value) not in calls) and list(map(id, value)) != list(map(id, items)):
                list.__setitem__(value, slice(None), items)  # the lists of Keras want to know of what is added


def _form(function: Function, own: set[int]) -> list[Any]:
    """The graph in comparable words. Layers of the layer itself count by identity, others by their configuration."""
    numbers = {id(tensor): number for number, tensor in enumerate(function.inputs)}

    def plain(leaf: Any) -> Any:
        if isinstance(leaf, keras.KerasTensor):
            return "tensor", numbers.get(id(leaf))
        if isinstance(leaf, keras.Variable):
            return "variable", id(leaf)
        if isinstance(leaf, np.ndarray) or keras.ops.is_tensor(leaf):
            array = np.asarray(leaf)
            return array.shape, str(array.dtype), array.tobytes()
        return leaf if isinstance(leaf, (bool, int, float, str, type(None))) else repr(leaf)

    def kind(operation: Layer) -> Any:
        if not isinstance(operation, keras.Layer):
            held = {name: value for name, value in vars(operation).items() if name not in _OWN}
            return {
                name: [plain(leaf) for leaf in keras.tree.flatten(value)]
                for name, value in held.items()
                if not name.startswith("_auto")
            }
        if id(operation) in own:
            return id(operation)
        return {key: repr(value) for key, value in operation.get_config().items() if key != "name"}

    words = []
    for depth in sorted(function._nodes_by_depth, reverse=True):
        for node in function._nodes_by_depth[depth]:
            if node.is_input:
                continue
            given = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
            words.append((type(node.operation), kind(node.operation), [plain(leaf) for leaf in given]))
            numbers |= {id(tensor): len(numbers) + place for place, tensor in enumerate(node.outputs)}
    return words
