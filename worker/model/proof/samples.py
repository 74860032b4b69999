"""Random sequences that a model takes: in the units it was trained on, ids that it knows, some steps masked."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.model.backend import keras
from worker.model.graph import Layer, consumers, graph_of, layers_of
from worker.model.inputs import InputPart
from worker.model.proof.undoing import scales, undone
from worker.model.rules import Time
from worker.records.arrays import BoolArray, FloatArray

L = keras.layers
MASKED_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Samples:
    """``vectors`` (sequences, steps, features); ``empty`` (sequences, steps): whether no step so far counts."""

    vectors: FloatArray
    empty: BoolArray


def draw(model: Any, parts: list[InputPart], sequences: int, steps: int, seed: int, masks: bool = True) -> Samples:
    """The same numbers for the same seed. Of more than one sequence the last begins with a masked step.

    With ``masks`` False no step is masked, as far as ids and Masking layers mask any.
    """
    rng = np.random.default_rng(seed)
    masked = rng.random((sequences, steps)) < MASKED_SHARE
    masked[:, 0] = np.arange(sequences) == sequences - 1 if sequences > 1 else False
    graph = graph_of(model)
    columns, mask_seen = [], False
    for part, tensor in zip(parts, graph.inputs, strict=True):
        layers = _near(graph, tensor)
        values = _values(rng, part, layers, (sequences, steps, *part.shape))
        mask_value = _mask_value(part, layers)
        if mask_value is not None and not masks:
            values[values == mask_value] = 1
        elif mask_value is not None:
            values[masked] = mask_value
            masked |= (values == mask_value).reshape(sequences, steps, -1).all(axis=2)  # ids are drawn, 0 among them
            mask_seen = True
        values = values.reshape(sequences, steps, part.width)
        if part.time is Time.CONSTANT:
            values[:] = values[:, :1]
        columns.append(values)
    empty = np.logical_and.accumulate(masked, axis=1) if mask_seen else np.zeros_like(masked)
    return Samples(np.concatenate(columns, axis=2), empty)


def split(parts: list[InputPart], vectors: FloatArray) -> list[NDArray[Any]]:
    """Vectors (sequences, steps, features) → one array per input of the trained model."""
    arrays = []
    for part in parts:
        values = vectors[..., part.columns]
        whole = values.reshape(*values.shape[:2], *part.shape)
        array = whole if part.time is Time.EACH_STEP else whole[:, 0]
        arrays.append(array.astype("float32" if part.dtype == "bfloat16" else part.dtype))  # numpy has no bfloat16
    return arrays


def _near(graph: Any, tensor: Any) -> list[Layer]:
    """The layers after an input and before anything recurrent."""
    if len(graph.inputs) > 1:
        found = _behind(graph, tensor)
    else:
        found = list(takewhile(lambda layer: not isinstance(layer, L.RNN), layers_of(graph)))
    inside = [part for layer in found if isinstance(layer, L.TimeDistributed) for part in layer._flatten_layers()]
    return found + inside


def _behind(graph: Any, tensor: Any) -> list[Layer]:
    """The layers that take this tensor, and behind those that only scale it what takes their output."""
    found = []
    for layer in consumers(graph, tensor):
        found.append(layer)
        calls = (
            [node for node in layer._inbound_nodes if any(given is tensor for given in node.input_tensors)]
            if scales(layer)
            else []
        )
        found += [each for node in calls for output in node.outputs for each in _behind(graph, output)]
    return found


def _values(rng: np.random.Generator, part: InputPart, layers: list[Layer], shape: tuple[int, ...]) -> FloatArray:
    sizes = [layer.input_dim for layer in layers if isinstance(layer, L.Embedding)]
    if part.dtype == "bool":
        over_time = part.time is Time.EACH_STEP
        return np.ones(shape) if over_time else rng.integers(0, 2, shape).astype(np.float64)
    if sizes or "int" in part.dtype:
        return rng.integers(0, min(sizes, default=2), shape).astype(np.float64)
    values: FloatArray = rng.normal(size=shape)
    for layer in layers:  # data in the units that the model was trained on
        if isinstance(layer, L.Normalization):
            mean, variance = (keras.ops.convert_to_numpy(v) for v in (layer.mean, layer.variance))
            return np.asarray(values * np.sqrt(variance).reshape(-1) + mean.reshape(-1), np.float64)
        if isinstance(layer, L.Rescaling) and np.isscalar(layer.scale) and layer.scale:
            return np.asarray((values - np.asarray(layer.offset)) / layer.scale, np.float64)
    return values


def _mask_value(part: InputPart, layers: list[Layer]) -> FloatArray | None:
    """An input's value in steps that do not count."""
    if part.time is not Time.EACH_STEP:
        return None
    for number, layer in enumerate(layers):
        if isinstance(layer, L.Masking):
            return undone(layers[:number], layer.mask_value, part.shape)
        if isinstance(layer, L.Embedding) and layer.mask_zero:
            return np.zeros(())
    return np.zeros(()) if part.dtype == "bool" else None  # nearly always a mask itself
