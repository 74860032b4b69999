"""The rule of Lambda layers, Python code whose use of time can't be read from it: only the proof decides.

Loading refuses Lambda layers unless the caller allows them; in a model from memory they are the caller's own code.
"""

from __future__ import annotations

from typing import Any

from worker.errors import ModelRefusedError, counted
from worker.model.backend import keras
from worker.model.graph import CODE_INSTEAD, Layer, LayerCall, Tensor, first_line, tensors_in
from worker.model.rules import StepBuilder, Time, refuse, streams, without_time

L = keras.layers
TRIED_ROWS = 2


@streams(L.Lambda)
def python_code(call: LayerCall, builder: StepBuilder) -> Any:
    """Runs as it is on the one step."""
    time = without_time(call, builder)
    changes = of_length(call.layer, 1) if time is None else {}
    copy = builder.copy(call, **changes)
    _try(call, copy)
    outputs = copy(*call.args, **call.kwargs)
    for given, made in _shapes(call.layer) if time is None else []:
        if len(made) > 2 and made[1] is not None and made[1] != given[1]:
            refuse(call, f"its Python code turns all steps into {counted(made[1], 'step')}", CODE_INSTEAD)
    builder.report(call, builder.name(call), "as it is: Python code, trusted until the proof")
    for tensor in tensors_in(outputs):
        # (batch, 1, …) of steps: still over time; a vector has lost the axis. Ids (batch, 1) stay ids.
        ids = len(tensor.shape) == 2 and all(len(given.shape) == 2 for given in call.tensors)
        keeps_time = (len(tensor.shape) > 2 or ids) and tensor.shape[1] == 1
        builder.mark(tensor, time or (Time.EACH_STEP if keeps_time else Time.SO_FAR))
    return outputs


def of_length(layer: Layer, steps: int | None) -> dict[str, Any]:
    """Changes of a Lambda with a given output shape, so that it has this number of steps; any number if None."""
    shapes = set(_shapes(layer))
    if not isinstance(layer._output_shape, (tuple, list)) or len(shapes) != 1:
        return {}
    ((given, made),) = shapes
    over_time = len(made) > 1 and made[1] == given[1] and (len(made) > 2 or len(given) == 2)
    return {"output_shape": (steps, *made[2:])} if over_time else {}


def _shapes(layer: Layer) -> list[tuple[tuple[int | None, ...], tuple[int | None, ...]]]:
    """(first input's, output's) of all calls in the trained model."""
    return [(node.input_tensors[0].shape, out.shape) for node in layer._inbound_nodes for out in node.output_tensors]


def _try(call: LayerCall, copy: Layer) -> None:
    """Run it once on numbers: where its shape is given, Keras would not run the code before the first event."""

    def zeros(leaf: Tensor) -> Any:
        return keras.ops.zeros((TRIED_ROWS, *leaf.shape[1:]), leaf.dtype) if tensors_in(leaf) else leaf

    args, kwargs = keras.tree.map_structure(zeros, (call.args, call.kwargs))
    try:
        copy(*args, **kwargs)
    except Exception as error:  # whatever its Python code may raise
        raise ModelRefusedError(
            call.layer_path, f"its Python code can't run on one step ({first_line(error)})", CODE_INSTEAD
        ) from error
