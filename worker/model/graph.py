"""Walks a Keras model's graph and copies its layers; the model that is walked is never changed.

Nested models are walked through, so a visitor sees single layers only, in the order of the computation. This is the
only module that uses Keras' private calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from worker.errors import ModelRefusedError
from worker.model.backend import keras
from worker.model.own_objects import also_known, functions, within
from worker.model.tracing import graph_if_any, is_subclassed

Tensor: TypeAlias = Any  # a keras.KerasTensor
Layer: TypeAlias = Any  # a keras.Operation, nearly always a keras.Layer

CODE_INSTEAD = "replace it by layers of Keras, or by keras.ops in the graph of the model"

LINE_CHARACTERS = 200  # Keras may put whole configurations into one line


@dataclass(frozen=True, slots=True)
class LayerCall:
    """One call of one layer in the graph, with the tensors it is to be called with now.

    ``path`` names the nested models around the layer, outermost first. ``tensors`` are the tensors among ``args`` and
    ``kwargs``, except masks. ``node`` is the call in the graph itself: the symbols it was given, and what it gave.
    """

    layer: Layer
    path: tuple[str, ...]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tensors: list[Tensor] = field(default_factory=list)
    node: Any = None

    @property
    def kind(self) -> str:
        return type(self.layer).__name__

    @property
    def layer_path(self) -> str:
        """The layer's name with the nested models around it."""
        return ".".join([*self.path, self.layer.name])

    @property
    def mask(self) -> Tensor | None:
        """Which steps count, (batch, time) bool, as Keras gives it to this call; None when all do.

        Keras hands a tensor's mask on by itself only to layers that are called with a single tensor.
        """
        given = self.kwargs.get("mask")
        if given is None and len(self.tensors) == 1:
            given = keras.src.backend.get_keras_mask(self.tensors[0])
        return given


Visit: TypeAlias = Callable[[LayerCall], Any]


def graph_of(model: Any, path: tuple[str, ...] = ()) -> Any:
    """The Functional graph of a model. Raises ModelRefusedError for a model without one.

    ``path`` names a nested model with those around it, outermost first.
    """
    name = ".".join(path) or model.name
    if isinstance(model, keras.Sequential):
        if is_subclassed(model):
            raise subclassed(name)
        if model._functional is None:
            _refuse_shapeless(model, path)
            raise ModelRefusedError(
                name,
                "it has no graph, because it was never built",
                "begin it with keras.Input((None, features))",
            )
        return model._functional
    if is_subclassed(model):
        raise subclassed(name)
    return model


def _refuse_shapeless(model: Any, path: tuple[str, ...]) -> None:
    """Name the layer at which Keras has given up making a Sequential model's graph."""
    first, *others = model._layers or [None]
    if not isinstance(first, keras.layers.InputLayer):
        return
    x = keras.Input(batch_shape=first.batch_shape, dtype=first.dtype)
    for layer in others:
        try:
            x = layer(x) if is_model(layer) else copy_layer(layer, layer.name)(x)
        except ModelRefusedError:
            raise
        except Exception as error:  # whatever a layer's Python code may raise
            raise ModelRefusedError(
                ".".join([*path, layer.name]),
                f"the shape of its output can't be told ({first_line(error.__context__ or error)})",
                CODE_INSTEAD if isinstance(layer, keras.layers.Lambda) else "give its class compute_output_shape",
            ) from error


def subclassed(name: str, reason: str = "") -> ModelRefusedError:
    """The refusal of a model whose layers nobody can see; ``reason``: why its code can't be followed."""
    return ModelRefusedError(
        name,
        "a subclassed model hides its layers in Python code" + (reason and f" that can't be followed: {reason}"),
        "build the same layers as a Sequential or Functional model and copy the weights with set_weights",
    )


def is_model(layer: Layer) -> bool:
    """Whether it is a model that has a graph, or would have one if it were built."""
    return isinstance(layer, keras.Model) and not is_subclassed(layer)


def tensors_in(structure: Any) -> list[Tensor]:
    return [leaf for leaf in keras.tree.flatten(structure) if isinstance(leaf, keras.KerasTensor)]


def walk(model: Any, inputs: list[Tensor], visit: Visit, path: tuple[str, ...] = ()) -> list[Tensor]:
    """Call ``visit`` for each layer call of the model, starting from ``inputs``; the model's outputs, flat.

    ``visit`` returns what the layer's call returns: as many tensors as in the trained model.
    """
    return walk_graph(graph_of(model, path), inputs, visit, path)


def walk_graph(graph: Any, inputs: list[Tensor], visit: Visit, path: tuple[str, ...]) -> list[Tensor]:
    """As ``walk``, for a graph; ``path`` names what it is in."""
    known = {id(symbol): tensor for symbol, tensor in zip(graph.inputs, inputs, strict=True)}
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if not node.is_input and all(id(symbol) in known for symbol in node.input_tensors):
                outputs = keras.tree.flatten(_called(node, node.arguments.fill_in(known), visit, path))
                known |= {id(symbol): tensor for symbol, tensor in zip(node.outputs, outputs, strict=True)}
    return [known[id(symbol)] for symbol in graph.outputs]


def _called(node: Any, given: Any, visit: Visit, path: tuple[str, ...]) -> Any:
    args, kwargs = given
    data = {name: value for name, value in kwargs.items() if name != "mask" and not name.endswith("_mask")}
    tensors = tensors_in((args, data))
    if is_model(node.operation):
        _hand_on_masks(tensors, tensors_in(kwargs.get("mask")))
        return walk(node.operation, tensors, visit, (*path, node.operation.name))
    return visit(LayerCall(node.operation, path, args, kwargs, tensors, node))


def _hand_on_masks(tensors: list[Tensor], masks: list[Tensor]) -> None:
    """A mask given to a nested model goes with its inputs, as in Keras."""
    for tensor, mask in zip(tensors, masks, strict=False):
        if keras.src.backend.get_keras_mask(tensor) is None:
            keras.src.backend.set_keras_mask(tensor, mask)


def copy_layer(layer: Layer, name: str, kind: Any = None, /, **changes: Any) -> Layer:
    """A new layer (of class ``kind``) of the same configuration but for ``changes``, not built yet.

    Raises ModelRefusedError where the layer can't be made from its configuration.
    """
    if type(layer) is keras.layers.Lambda:  # its function as it is: serialised, it would lose its closure
        given = {"output_shape": layer._output_shape, "mask": layer.mask, "arguments": layer.arguments, **changes}
        return keras.layers.Lambda(layer.function, name=name, dtype=layer.dtype_policy, **given)
    try:
        config = layer.get_config()
        config = {**config, **functions(layer, config), **_vocabulary(layer), "name": name, **changes}
        # Python code inside the layer is in this process already: the caller who loaded or wrote the model has allowed
        # it.
        with keras.src.saving.serialization_lib.SafeModeScope(False), also_known(within(layer)):
            return (kind or type(layer)).from_config(config)
    except Exception as error:  # whatever a layer's own from_config may raise
        raise ModelRefusedError(
            layer.name,
            f"it can't be rebuilt from its configuration ({first_line(error)})",
            "let get_config of its class, and of those within it, name all that __init__ takes",
        ) from error


def _vocabulary(layer: Layer) -> dict[str, Any]:
    """The vocabulary that a lookup layer has learned from data: neither a weight nor, for Keras, configuration."""
    if not isinstance(layer, keras.layers.IntegerLookup):
        return {}
    return {"vocabulary": [int(word) for word in layer.get_vocabulary(include_special_tokens=False)]}


def copy_weights(source: Layer, target: Layer) -> None:
    """Copy weights once both layers are built. Operations that are no layers have none."""
    if isinstance(source, keras.Layer):
        target.set_weights(source.get_weights())
        for part in target._flatten_layers():
            # Adapted layers (Normalization) compute with constants that they derive from their weights on loading.
            if hasattr(part, "finalize_state"):
                part.finalize_state()


def first_line(error: BaseException) -> str:
    """An error's message in one line: within Keras' own wrapping, the first line that says what happened."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("Exception encountered when calling")] or lines
    line = told[0] if told else type(error).__name__
    return line if len(line) <= LINE_CHARACTERS else f"{line[:LINE_CHARACTERS]}…"


def layers_of(model: Any, path: tuple[str, ...] = ()) -> Iterator[Layer]:
    """Every layer once, nested models opened, and what is in layers of users' own after them."""
    seen: dict[int, Layer] = {}  # the layers themselves: ids of freed ones would come again
    for layer in _layers_in(graph_of(model, path), path):
        if id(layer) not in seen:
            seen[id(layer)] = layer
            yield layer


def _layers_in(graph: Any, path: tuple[str, ...]) -> Iterator[Layer]:
    for layer in graph.operations:
        inside = (*path, layer.name)
        if is_model(layer):
            yield from _layers_in(graph_of(layer, inside), inside)
            continue
        yield layer
        calls = [node for nodes in graph._nodes_by_depth.values() for node in nodes if node.operation is layer]
        for inner in filter(None, map(graph_if_any, calls)):  # each call may do something else
            yield from _layers_in(inner, inside)


def consumers(graph: Any, tensor: Tensor) -> list[Layer]:
    """The layers of this graph that take this tensor; of a nested model or layer those that take it there."""
    found = []
    for nodes in graph._nodes_by_depth.values():
        for node in nodes:
            for index, given in enumerate(node.input_tensors):
                if given is not tensor:
                    continue
                whole = is_model(node.operation)
                inner = graph_of(node.operation) if whole else graph_if_any(node)
                found += [] if whole else [node.operation]
                if inner is not None and index < len(inner.inputs):
                    found += consumers(inner, inner.inputs[index])
    return found


def call_model(model: Any, inputs: list[Any]) -> list[Any]:
    """Run a model on its inputs in order, as at inference; its outputs in order, whatever structure they have."""
    structure = graph_of(model)._inputs_struct
    return list(keras.tree.flatten(model(keras.tree.pack_sequence_as(structure, inputs), training=False)))
