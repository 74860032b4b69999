"""Names of layers: Keras accepts any, but TensorFlow turns them into names of scopes, of which it accepts only some."""

from __future__ import annotations

import re
from typing import Any

SCOPE = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.-]*")  # characters that TensorFlow accepts anywhere in a name


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
