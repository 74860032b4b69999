"""Where the numbers that a model answers end: a sigmoid's at 0 and 1, a tanh's at -1 and 1, others nowhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from worker.errors import ModelRefusedError
from worker.model.backend import keras
from worker.model.graph import graph_of
from worker.model.item_ports import layer_of
from worker.model.ports import OutputPart
from worker.records.arrays import FloatArray

NOWHERE = (-np.inf, np.inf)
_A = keras.activations
_BY_ACTIVATION = (keras.layers.Activation, keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Conv1D)
# A softmax ends at 1 alone: that some of many classes are out of the question says nothing.
ENDS: Mapping[Any, tuple[float, float]] = {
    _A.sigmoid: (0.0, 1.0),
    _A.hard_sigmoid: (0.0, 1.0),
    _A.softmax: (-np.inf, 1.0),
    _A.tanh: (-1.0, 1.0),
    _A.hard_tanh: (-1.0, 1.0),
    _A.softsign: (-1.0, 1.0),
}


def output_ends(model: Any, parts: Sequence[OutputPart]) -> FloatArray:
    """(units, 2) the lowest and the highest number of each unit; infinite where its last layer knows none."""
    try:
        tensors = graph_of(model).outputs
    except ModelRefusedError:  # it hides its layers, and runs on a window
        return np.tile(NOWHERE, (sum(part.width for part in parts), 1))
    ends = [np.tile(_ends(tensor), (part.width, 1)) for tensor, part in zip(tensors, parts, strict=True)]
    return np.concatenate(ends)


def _ends(tensor: Any) -> tuple[float, float]:
    layer = layer_of(tensor)
    if type(layer) is keras.layers.Softmax:
        return ENDS[_A.softmax]
    if type(layer) not in _BY_ACTIVATION:
        return NOWHERE
    return next((ends for function, ends in ENDS.items() if function is layer.activation), NOWHERE)
