"""What to do instead of what is refused, told in the words of the user's own model."""

from __future__ import annotations

from worker.model.backend import keras
from worker.model.graph import LayerCall

OPEN_LENGTH = "positions over an open length can't be followed"
FIXED_LENGTH = "build the model for a fixed length, keras.Input((N, …)), and copy the weights with set_weights"


def part_before(call: LayerCall) -> str:
    """What to do where a decoder begins with this call: the part of the model that gives it its last tensor streams."""
    layer, output = call.layer, "the output before it"
    given = layer._inbound_nodes[0].input_tensors
    source = given[-1]._keras_history.operation
    if not call.path and not isinstance(source, keras.layers.InputLayer):
        # An operation has a name, too, but get_layer finds layers only.
        found = isinstance(source, keras.Layer) and any(one is given[-1] for one in keras.tree.flatten(source.output))
        which = "" if len(given) == 1 else "[-1]"
        output = f"'{source.name}').output" if found else f"'{layer.name}').input{which}"
        output = f"model.get_layer({output}"
    return f"stream the part before it, an encoder, alone: keras.Model(its inputs, {output})"
