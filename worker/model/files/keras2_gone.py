"""Layers of Keras 2 that Keras 3 lacks, and what does the same there."""

from __future__ import annotations

from typing import Any

from worker.errors import ModelRefusedError
from worker.model.files.configuration import Config
from worker.model.files.judging import is_registered

_GONE = {
    **dict.fromkeys(("LocallyConnected1D", "LocallyConnected2D"), "Conv1D(padding='causal') or Dense"),
    "RandomFourierFeatures": "Dense",
    **dict.fromkeys(("DenseFeatures", "SequenceFeatures"), "an input of the numbers themselves"),
    "PeepholeLSTMCell": "LSTMCell",
    "DropoutWrapper": "the cell inside, LSTMCell(units, dropout=0.2),",
}
# Of the same numbers as a cell in it, with its weights.
_WRAPPERS = {
    "ResidualWrapper": "Add()([x, RNN(cell, return_sequences=True)(x)])",
    "DeviceWrapper": "RNN(cell)",
}


def refuse_gone(kind: Any, body: Config, layer: str) -> None:
    """Raises ModelRefusedError, by the layer's name, for layers without a class in Keras 3."""
    if kind in _GONE and not is_registered(kind):
        raise _was_there(kind, layer, f"train it with {_GONE[kind]} in its place")
    if kind in _WRAPPERS and not is_registered(kind):
        instead = f"build the model with {_WRAPPERS[kind]} in its place, cell being what it wraps, copy the weights "
        raise _was_there(kind, layer, f"{instead}with set_weights(old.get_weights()), and save it again")
    package, _, name = str(kind).rpartition(">")
    if package == "Addons" and not is_registered(kind):
        raise ModelRefusedError(
            layer,
            f"its class '{name}' is of TensorFlow Addons, which does not run with Keras 3",
            "write it for Keras 3, under the same name, in a module that model.imports names (from Python: "
            f"custom_objects={{'{name}': {name}}}), or train it with a layer of Keras in its place",
        )
    if kind == "Discretization" and body.get("bin_boundaries") is None:
        raise ModelRefusedError(
            layer,
            "its boundaries, which Keras 2 has learned, are not in the file",
            "make the layer with bin_boundaries=old.bin_boundaries, and save the model again",
        )


def _was_there(kind: str, layer: str, instead: str) -> ModelRefusedError:
    return ModelRefusedError(layer, f"its class '{kind}' was in Keras 2 and is not in Keras 3", instead)
