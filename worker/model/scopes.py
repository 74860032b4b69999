"""Names of layers: Keras takes any, and TensorFlow makes them the names of scopes, which it does not take all."""

from __future__ import annotations

import re
from typing import Any

SCOPE = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.-]*")  # what TensorFlow takes for one anywhere


def with_names_of_scopes(model: Any) -> Any:
    """The model, a copy of the worker's own, with other names where TensorFlow could not run it in a graph."""
    taken = {operation.name for operation in model.operations}
    for layer in model._flatten_layers():
        if SCOPE.fullmatch(layer.name):
            continue
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", layer.name)
        name = name if SCOPE.fullmatch(name) else f"layer{name}"
        while name in taken:
            name += "_"
        taken.add(name)
        layer.name = name
    return model
