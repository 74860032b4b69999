"""A model's inputs and outputs by name: which numbers of a step's vector, and of its answer, belong to which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.model.backend import keras
from worker.model.graph import Tensor
from worker.model.inputs import InputPart, name_in_structure
from worker.model.rules import Time

PER = {Time.EACH_STEP: "per event", Time.CONSTANT: "constant per stream", Time.SO_FAR: "so far"}


@dataclass(frozen=True, slots=True)
class OutputPart:
    """One output: ``columns`` of a step's answer, of ``shape`` (without batch and time) in the trained model.

    ``guessed``: that it runs over time is not certain.
    """

    name: str
    time: Time
    shape: tuple[int, ...]
    columns: slice
    guessed: bool = False

    @property
    def width(self) -> int:
        width: int = self.columns.stop - self.columns.start
        return width


def output_parts(graph: Any, outputs: Sequence[Tensor], times: Sequence[Time]) -> list[OutputPart]:
    """``outputs`` are those of the streaming form, in the trained model's order.

    An output has the name it has in the model's own mapping of outputs, else that of the layer it comes from.
    """
    paths = [path for path, _ in keras.src.tree.flatten_with_path(graph._outputs_struct)]
    parts: list[OutputPart] = []
    start = 0
    for tensor, time, path, layer in zip(outputs, times, paths, graph.output_names, strict=True):
        shape = tuple(tensor.shape[2 if time is Time.EACH_STEP else 1 :])
        columns = slice(start, start + int(np.prod(shape, dtype=np.int64)))
        parts.append(OutputPart(_unique(name_in_structure(path, layer), parts), time, shape, columns))
        start = columns.stop
    return parts


def _unique(name: str, parts: list[OutputPart]) -> str:
    taken = {part.name for part in parts}
    numbers = (f"{name}.{number}" for number in range(2, len(parts) + 2))
    return name if name not in taken else next(other for other in numbers if other not in taken)


def input_words(parts: Sequence[InputPart]) -> str:
    """``readings 0-3 per event, device 4-9 constant per stream``."""
    return ", ".join(f"{part.name} {columns_words(part.columns)} {PER[part.time]}" for part in parts)


def output_words(parts: Sequence[OutputPart]) -> str:
    """``state 0-2, rul 3``."""
    return ", ".join(f"{part.name} {columns_words(part.columns)}" for part in parts)


def columns_words(columns: slice) -> str:
    """The first and the last column, or the only one."""
    first, last = columns.start, columns.stop - 1
    return f"{first}" if first == last else f"{first}-{last}"
