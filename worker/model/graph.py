"""Walks a Keras model's graph and copies its layers; the model that is walked is never changed.

Nested models are walked through, so a visitor sees single layers only, in the order of the computation. This is the
only module that uses Keras' private calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from worker.errors import ModelRefusedError
from worker.model.backend import keras

Tensor: TypeAlias = Any  # a keras.KerasTensor
Layer: TypeAlias = Any  # a keras.Operation, nearly always a keras.Layer


@dataclass(frozen=True, slots=True)
class LayerCall:
    """One call of one layer in the graph, with the tensors it is to be called with now.

    ``path`` names the nested models around the layer, outermost first. ``tensors`` are all tensors among ``args`` and
    ``kwargs``; ``originals`` those of the trained model's own call, one for one.
    """

    layer: Layer
    path: tuple[str, ...]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tensors: list[Tensor] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return type(self.layer).__name__


Visit: TypeAlias = Callable[[LayerCall], Any]


def graph_of(model: Any, path: tuple[str, ...] = ()) -> Any:
    """The Functional graph of a model. Raises ModelRefusedError for a model without one."""
    name = ".".join([*path, model.name]) if path else model.name
    if isinstance(model, keras.Sequential):
        if type(model).call is not keras.Sequential.call or type(model).__call__ is not keras.Sequential.__call__:
            raise _subclassed(name)
        if model._functional is None:
            raise ModelRefusedError(
                name,
                "it has no graph: it was never built, or a layer of it can't tell the shape of its output",
                "begin it with keras.Input((None, features)) and train or load it before",
            )
        return model._functional
    functional = keras.src.models.Functional
    if not isinstance(model, functional) or type(model).call is not functional.call:
        raise _subclassed(name)
    return model


def _subclassed(name: str) -> ModelRefusedError:
    return ModelRefusedError(
        name,
        "a subclassed model hides its layers in Python code",
        "build the same layers as a Sequential or Functional model and copy the weights with set_weights",
    )


def is_model(layer: Layer) -> bool:
    return isinstance(layer, keras.Model)


def tensors_in(structure: Any) -> list[Tensor]:
    return [leaf for leaf in keras.tree.flatten(structure) if isinstance(leaf, keras.KerasTensor)]


def walk(model: Any, inputs: list[Tensor], visit: Visit, path: tuple[str, ...] = ()) -> list[Tensor]:
    """Call ``visit`` for each layer call of the model, starting from ``inputs``; the model's outputs, flat.

    ``visit`` returns what the layer's call returns: as many tensors as in the trained model.
    """
    graph = graph_of(model, path)

    def call(operation: Layer, *args: Any, **kwargs: Any) -> Any:
        if is_model(operation):
            return walk(operation, tensors_in((args, kwargs)), visit, (*path, operation.name))
        return visit(LayerCall(operation, path, args, kwargs, tensors_in((args, kwargs))))

    outputs = graph._run_through_graph(inputs, operation_fn=lambda operation: operation, call_fn=call)
    return list(keras.tree.flatten(outputs))


def copy_layer(layer: Layer, name: str, **changes: Any) -> Layer:
    """A new layer of the same configuration but for ``changes``, not built yet.

    Raises ModelRefusedError where the layer can't be made from its configuration.
    """
    config = {**layer.get_config(), "name": name, **changes}
    try:
        return type(layer).from_config(config)
    except Exception as error:  # whatever a layer's own from_config may raise
        raise ModelRefusedError(
            layer.name,
            f"it can't be made again from its configuration ({first_line(error)})",
            "register its custom classes and functions with keras.saving.register_keras_serializable",
        ) from error


def copy_weights(source: Layer, target: Layer) -> None:
    """Copy weights once both layers are built. Operations that are no layers have none."""
    if isinstance(source, keras.Layer):
        target.set_weights(source.get_weights())
        for part in target._flatten_layers():
            # Adapted layers (Normalization) compute with constants that they derive from their weights on loading.
            if hasattr(part, "finalize_state"):
                part.finalize_state()


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def layers_of(model: Any, path: tuple[str, ...] = ()) -> Iterator[Layer]:
    """Every layer once, nested models opened."""
    for layer in graph_of(model, path).operations:
        if is_model(layer):
            yield from layers_of(layer, (*path, layer.name))
        else:
            yield layer
