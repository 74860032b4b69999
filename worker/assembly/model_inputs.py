"""A model's inputs and outputs beside the configuration's fields and labels: which number of an event goes where."""

from __future__ import annotations

from dataclasses import dataclass

from worker.assembly.feature_order import FeatureFields
from worker.model.ports import columns_words
from worker.model.rules import Time
from worker.model.streaming import StreamingModel


@dataclass(frozen=True, slots=True)
class InputReport:
    """One input: columns ``first`` to ``last`` of an event's vector are its ``width`` numbers.

    ``shape`` and ``dtype`` are those of one step in the model. ``constant``: the same in all events of a sequence.
    ``fields``: where the numbers come from, in order; ``x[0-3]`` are numbers of the field x.
    """

    name: str
    first: int
    last: int
    width: int
    shape: tuple[int, ...]
    dtype: str
    constant: bool
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OutputReport:
    """One output: numbers ``first`` to ``last`` of an answer, of ``shape`` in the model."""

    name: str
    first: int
    last: int
    width: int
    shape: tuple[int, ...]


def inputs_of(model: StreamingModel, features: FeatureFields) -> list[InputReport]:
    """In the order of the vector."""
    return [
        InputReport(
            name=port.name,
            first=port.columns.start,
            last=port.columns.stop - 1,
            width=port.width,
            shape=port.shape,
            dtype=port.dtype,
            constant=port.time is Time.CONSTANT,
            fields=_fields(features, port.columns),
        )
        for port in model.inputs
    ]


def outputs_of(model: StreamingModel) -> list[OutputReport]:
    """In the order of the answer."""
    return [
        OutputReport(port.name, port.columns.start, port.columns.stop - 1, port.width, port.shape)
        for port in model.outputs
    ]


def _fields(features: FeatureFields, columns: slice) -> tuple[str, ...]:
    """The fields of the record that go into these columns."""
    if isinstance(features.names, str):
        return (f"{features.names}[{columns_words(columns)}]",)
    found, start = [], 0
    for name, length in zip(features.names, features.lengths or (1,) * len(features.names), strict=True):
        if columns.start <= start < columns.stop:
            found.append(name if length == 1 else f"{name}[{columns_words(slice(0, length))}]")
        start += length
    return tuple(found)
