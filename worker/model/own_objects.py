"""Classes and functions within a layer that are not of Keras, which Keras must know to make the layer again."""

from __future__ import annotations

from types import FunctionType
from typing import Any

from worker.model.backend import keras

_NOT_OWN = ("keras", "tensorflow", "numpy", "builtins")


def in_scope() -> dict[str, Any]:
    """The objects that the scopes around this call make known."""
    return dict(keras.src.backend.common.global_state.get_global_attribute("custom_objects_scope_dict", {}))


def also_known(objects: dict[str, Any]) -> Any:
    """A scope in which Keras knows these objects too; one of Keras' own would hide the scopes around it."""
    return keras.saving.custom_object_scope({**in_scope(), **objects})


def within(layer: Any) -> dict[str, Any]:
    """{name in a configuration: class or function} of the layer, its cells, their initializers and functions."""
    parts = list(layer._flatten_layers()) if isinstance(layer, keras.Layer) else []
    found: dict[str, Any] = {}
    for value in (*parts, *(value for part in parts for value in vars(part).values())):
        one = value if isinstance(value, FunctionType) else type(value)
        if str(one.__module__).split(".")[0] not in _NOT_OWN and (one is value or hasattr(one, "get_config")):
            found[keras.saving.get_registered_name(one)] = one
    return found


def functions(layer: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The layer's own functions by their keys: Keras writes one down as its own if the names are the same."""
    given = {key: getattr(layer, key, None) for key in config}
    return {
        key: value
        for key, value in given.items()
        if isinstance(value, FunctionType) and value.__module__.split(".")[0] not in _NOT_OWN
    }
