"""The trained model's inputs as parts of one vector per step: which run over time, which are constant per stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from worker.errors import ModelRefusedError, counted
from worker.model.backend import keras
from worker.model.graph import Tensor, consumers
from worker.model.rules import Time

IDS_EXACT_TO = 2**24  # they travel as float32
AMBIGUOUS_INPUTS_LIMIT = 6  # each doubles the number of ways to read the model

_DTYPES = ("float16", "bfloat16", "float32", "float64", "bool", "uint8", "int8", "int16", "uint16", "int32", "int64")


@dataclass(frozen=True, slots=True)
class InputPart:
    """One input: ``columns`` of a step's vector, reshaped to ``shape`` (without batch and time).

    ``ids``: its numbers are whole, from 0 to below this; None for any numbers. ``keyed``: the trained model takes its
    inputs by name, so that their order is Keras' and not its author's.
    """

    name: str
    dtype: str
    time: Time
    shape: tuple[int, ...]
    columns: slice
    ids: int | None = None
    keyed: bool = False

    @property
    def width(self) -> int:
        width: int = self.columns.stop - self.columns.start
        return width


def whole_columns(parts: Sequence[InputPart], dtype: Any) -> tuple[tuple[slice, int, int], ...]:
    """Where a vector must hold whole numbers, and from which to which: those that ``dtype``, by which they travel, and
    the input hold exactly."""
    exact = 2 ** (np.finfo(dtype).nmant + 1)
    found = [(part.columns, np.iinfo(part.dtype)) for part in parts if part.ids is None and "int" in part.dtype]
    return tuple((columns, max(int(limits.min), -exact), min(int(limits.max), exact)) for columns, limits in found)


def assignments(graph: Any) -> Iterator[list[InputPart]]:
    """The ways to read the inputs, the likeliest first.

    An input of one axis, (batch, n), is ids over time or one vector for the whole stream; the shape alone does not
    tell when n is known. A single input always runs over time. Raises ModelRefusedError for inputs that are neither.
    """
    choices = [_choices(graph, tensor) for tensor in graph.inputs]
    if sum(len(choice) > 1 for choice in choices) > AMBIGUOUS_INPUTS_LIMIT:
        raise ModelRefusedError(
            graph.name,
            f"more than {AMBIGUOUS_INPUTS_LIMIT} of its inputs have one axis of a fixed size, which may be time or not",
            "give inputs over time the shape (None,) or (None, features), and join those that are constant per stream",
        )
    refusals, fitting = [], []
    for times in product(*choices):
        try:
            _check_lengths([tensor for tensor, time in zip(graph.inputs, times, strict=True) if time is Time.EACH_STEP])
        except ModelRefusedError as refusal:
            refusals.append(refusal)
        else:
            fitting.append(_parts(graph, times))
    if not fitting:
        raise refusals[0]
    yield from fitting


def part_over_time(graph: Any, tensor: Tensor) -> InputPart:
    """This input as if it were the only one: a vector of its own for each step. Raises ModelRefusedError."""
    shape = tuple(tensor.shape)
    if tensor.dtype not in _DTYPES or len(shape) < 2 or any(size is None for size in shape[2:]):
        raise ModelRefusedError(
            tensor.name,
            f"its shape {shape} of {tensor.dtype} is neither (batch, time, features) nor ids (batch, time)",
            "give it a time axis, and each step a known shape",
        )
    columns = slice(0, int(np.prod(shape[2:], dtype=np.int64)))
    return InputPart(tensor.name, tensor.dtype, Time.EACH_STEP, shape[2:], columns, ids_of_input(graph, tensor))


def _choices(graph: Any, tensor: Tensor) -> list[Time]:
    shape = tensor.shape
    if tensor.dtype not in _DTYPES:
        raise ModelRefusedError(
            tensor.name, f"its values are of type {tensor.dtype}, not numbers", "feed ids: look up the words beforehand"
        )
    if len(shape) == 1 and len(graph.inputs) > 1:
        return [Time.CONSTANT]
    if len(shape) < 2 or any(size is None for size in shape[2:]):
        raise ModelRefusedError(
            tensor.name,
            f"its shape {tuple(shape)} is neither (batch, time, features) nor ids (batch, time)",
            "give it a time axis, and each step a known shape",
        )
    if len(graph.inputs) == 1 or len(shape) > 2 or shape[1] is None:
        return [Time.EACH_STEP]
    lengths = {other.shape[1] for other in graph.inputs if len(other.shape) > 2}
    embedded = any(isinstance(layer, keras.layers.Embedding) for layer in consumers(graph, tensor))
    over_time = shape[1] in lengths or (embedded and shape[1] > 1)
    return [Time.EACH_STEP, Time.CONSTANT] if over_time else [Time.CONSTANT, Time.EACH_STEP]


def _check_lengths(over_time: list[Tensor]) -> None:
    known = [tensor for tensor in over_time if tensor.shape[1] is not None]
    for tensor in known[1:]:
        if tensor.shape[1] != known[0].shape[1]:
            raise ModelRefusedError(
                tensor.name,
                f"it has {counted(tensor.shape[1], 'step')} and '{known[0].name}' has {known[0].shape[1]}: their "
                "sequences do not advance together, event by event",
                "stream an encoder alone, as a model of its own, or train on inputs of one length",
            )


def ids_of_input(graph: Any, tensor: Tensor) -> int | None:
    """TensorFlow ends with an error at an id that an Embedding does not know, and takes 3.7 for 3."""
    layers = consumers(graph, tensor)
    casts = [layer for layer in layers if isinstance(layer, keras.src.ops.core.Cast)]
    layers += [after for cast in casts for after in consumers(graph, cast.output)]
    layers = [layer.layer if isinstance(layer, keras.layers.TimeDistributed) else layer for layer in layers]
    sizes = [layer.input_dim for layer in layers if isinstance(layer, keras.layers.Embedding)]
    return min([*sizes, IDS_EXACT_TO]) if sizes else None


def _parts(graph: Any, times: tuple[Time, ...]) -> list[InputPart]:
    parts, start = [], 0
    paths = [path for path, _ in keras.src.tree.flatten_with_path(graph._inputs_struct)]
    for tensor, time, path in zip(graph.inputs, times, paths, strict=True):
        shape = tuple(tensor.shape[2 if time is Time.EACH_STEP else 1 :])
        columns = slice(start, start + int(np.prod(shape, dtype=np.int64)))
        name, keyed = name_in_structure(path, tensor.name), any(isinstance(key, str) for key in path)
        parts.append(InputPart(name, tensor.dtype, time, shape, columns, ids_of_input(graph, tensor), keyed))
        start = columns.stop
    return parts


def name_in_structure(path: Sequence[Any], otherwise: str) -> str:
    """What an input or output is called in the model's own mapping; ``otherwise`` where it is one of a list."""
    keyed = any(isinstance(key, str) for key in path)
    return ".".join(str(key) for key in path) if keyed else otherwise
