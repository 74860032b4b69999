"""What a trained model says about its training: read from the model, nothing is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.model.backend import keras
from worker.model.graph import Layer, graph_of, is_model
from worker.model.inputs import InputPart
from worker.model.rules import Time

HALF_PRECISION = ("float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class SkippedSteps:
    """A layer that hides some steps from the recurrent layers behind it.

    ``value``: steps whose numbers are this one, or these, of a Masking layer; None: steps of id 0, of an Embedding.
    """

    layer: str
    value: float | list[float] | None


@dataclass(frozen=True, slots=True)
class TrainedFacts:
    """How a model was built for training; layers are named with the nested models around them.

    ``window``    steps of the time axis; None when any number of them fits ``batch``     sequences per batch; None when
    any number of them fits ``stateful``  recurrent layers with stateful=True ``skipped``   layers that hide steps
    ``half``      layers that compute in float16 or bfloat16 ``code`` Lambda layers: Python code, whose use of time is
    not known
    """

    window: int | None
    batch: int | None
    stateful: tuple[str, ...]
    skipped: tuple[SkippedSteps, ...]
    half: tuple[str, ...]
    code: tuple[str, ...]


def facts_of(model: Any, parts: Sequence[InputPart]) -> TrainedFacts:
    """``parts`` are the model's inputs as they were read. Raises ModelRefusedError for a model without a graph."""
    layers = dict(_layers(model, ()))
    inputs = graph_of(model).inputs
    over_time = [tensor for tensor, part in zip(inputs, parts, strict=True) if part.time is Time.EACH_STEP]
    return TrainedFacts(
        window=_one({tensor.shape[1] for tensor in over_time}),
        batch=_one({tensor.shape[0] for tensor in inputs}),
        stateful=tuple(name for name, layer in layers.items() if getattr(layer, "stateful", False)),
        skipped=tuple(_skipped(layers)),
        half=tuple(name for name, layer in layers.items() if getattr(layer, "compute_dtype", None) in HALF_PRECISION),
        code=tuple(name for name, layer in layers.items() if isinstance(layer, keras.layers.Lambda)),
    )


def _layers(model: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Layer]]:
    """Every layer with its full name; nested models and wrappers opened, inputs left out."""
    for layer in graph_of(model, path).operations:
        yield from _opened(layer, path)


def _opened(layer: Layer, path: tuple[str, ...]) -> Iterator[tuple[str, Layer]]:
    inside = (*path, layer.name)
    if is_model(layer):
        yield from _layers(layer, inside)
    elif not isinstance(layer, keras.layers.InputLayer):
        yield ".".join(inside), layer
        if isinstance(layer, keras.layers.Wrapper):
            yield from _opened(layer.layer, inside)


def _skipped(layers: dict[str, Layer]) -> Iterator[SkippedSteps]:
    for name, layer in layers.items():
        if isinstance(layer, keras.layers.Masking):
            yield SkippedSteps(name, np.asarray(layer.mask_value, np.float64).tolist())
        elif isinstance(layer, keras.layers.Embedding) and layer.mask_zero:
            yield SkippedSteps(name, None)


def _one(sizes: set[int | None]) -> int | None:
    """The size that all inputs have; None when they differ or are open."""
    return sizes.pop() if len(sizes) == 1 else None
