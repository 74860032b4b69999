"""The trained model as a function of windows: its inputs, its outputs, and how it is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.errors import ModelRefusedError, counted
from worker.model.backend import keras, tf
from worker.model.failing import reason_of
from worker.model.graph import call_model, graph_of, layers_of
from worker.model.inputs import InputPart, assignments
from worker.model.ports import OutputPart, output_parts
from worker.model.proof.flexible import flexible_copy
from worker.model.rules import Time
from worker.model.window.times import followed_over_time, over_time

Arrays = list[Any]  # one tensor for each input or output


@dataclass(frozen=True, slots=True)
class Opened:
    """``call``: the inputs of so many windows → its outputs, as the trained model gives them, in its order.

    ``model`` is what is called: the trained model, or a copy where that is bound to one batch or keeps states.
    """

    model: Any
    call: Callable[[Arrays], Arrays]
    inputs: list[InputPart]
    outputs: list[OutputPart]
    dtype: type[np.floating[Any]]


def open_model(model: Any, steps: int) -> Opened:
    """Raises ModelRefusedError for a model that can't be run on windows of so many steps."""
    graph = _graph(model)
    parts = [_part_of(model)] if graph is None else _parts(graph, steps)
    _check_length(model, graph, parts, steps)
    callee = model if graph is None or not _is_bound(model, graph) else flexible_copy(model, parts, steps=steps)
    call = _calling(callee, graph is not None)
    try:
        zeros = [np.zeros((1, *_shape(part, steps)), _numpy(part.dtype)) for part in parts]
        tried = call([tf.cast(value, part.dtype) for value, part in zip(zeros, parts, strict=True)])
    except Exception as error:  # whatever a model's own code may raise
        raise ModelRefusedError(
            model.name,
            f"it can't be run on a window of {counted(steps, 'step')} ({reason_of(error)})",
            "give model.window the length that it was trained on",
        ) from error
    if graph is None:
        outputs = _hidden_outputs(model, call, parts[0], tried, steps)
    else:
        has_steps = over_time(graph, [part.time is Time.EACH_STEP for part in parts])
        times = [Time.EACH_STEP if found and len(y.shape) > 2 else Time.SO_FAR
                 for found, y in zip(has_steps, tried, strict=True)]  # fmt: skip
        outputs = output_parts(graph, tried, times)
    wide = "float64" in {*(part.dtype for part in parts), *(y.dtype.name for y in tried)}
    return Opened(callee, call, parts, outputs, np.float64 if wide else np.float32)


def fixed_length(model: Any) -> int | None:
    """The only window that the model takes; None where it takes any, or nobody can tell."""
    try:
        graph = _graph(model)
        return _shape_of(model)[1] if graph is None else _fixed(_lengths(graph, next(assignments(graph))))
    except ModelRefusedError:
        return None


def _fixed(lengths: Sequence[int | None]) -> int | None:
    return next((length for length in lengths if length is not None), None)


def _check_length(model: Any, graph: Any, parts: Sequence[InputPart], steps: int) -> None:
    length = _shape_of(model)[1] if graph is None else _fixed(_lengths(graph, parts))
    if length not in (None, steps):
        raise ModelRefusedError(
            model.name,
            f"it takes windows of {counted(length, 'step')}, and model.window is {steps:,}",
            f"set model.window: {length}",
        )


def tensors_of(vectors: Any, parts: Sequence[InputPart]) -> Arrays:
    """Windows (m, steps, features) → the inputs of the trained model. What is constant is as in the last event."""
    tensors = []
    for part in parts:
        values = vectors[:, :, part.columns]
        values = values if part.time is Time.EACH_STEP else values[:, -1]
        lead = [-1, *vectors.shape[1:2]] if part.time is Time.EACH_STEP else [-1]
        tensors.append(tf.cast(tf.reshape(values, [*lead, *part.shape]), part.dtype))
    return tensors


def answer_of(outputs: Arrays, parts: Sequence[OutputPart], dtype: Any) -> Any:
    """The outputs side by side, (m, units): of those over time the last step."""
    last = [y[:, -1] if part.time is Time.EACH_STEP else y for y, part in zip(outputs, parts, strict=True)]
    flat = [tf.cast(tf.reshape(y, [-1, part.width]), dtype) for y, part in zip(last, parts, strict=True)]
    return flat[0] if len(flat) == 1 else tf.concat(flat, 1)


def _graph(model: Any) -> Any:
    """None of a model that hides layers in Python code."""
    try:
        graph = graph_of(model)
        list(layers_of(model))
    except ModelRefusedError:
        return None
    return graph


def _parts(graph: Any, steps: int) -> list[InputPart]:
    """The likeliest way to read the inputs in which all that run over time have as many steps."""
    ways = list(assignments(graph))
    fitting = [parts for parts in ways if set(_lengths(graph, parts)) <= {None, steps}]
    return (fitting or ways)[0]


def _lengths(graph: Any, parts: Sequence[InputPart]) -> list[int | None]:
    over_time = zip(graph.inputs, parts, strict=True)
    return [tensor.shape[1] for tensor, part in over_time if part.time is Time.EACH_STEP]


def _is_bound(model: Any, graph: Any) -> bool:
    """To one batch, or to states of its own."""
    if any(tensor.shape[0] is not None for tensor in graph.inputs):
        return True
    return any(getattr(part, "stateful", False) for part in model._flatten_layers())


def _calling(model: Any, has_graph: bool) -> Callable[[Arrays], Arrays]:
    if has_graph:
        return lambda inputs: call_model(model, inputs)
    return lambda inputs: list(keras.tree.flatten(model(inputs[0], training=False)))


def _shape_of(model: Any) -> tuple[int | None, ...]:
    """Of the only input of a model that hides its layers, as it was built."""
    built = [tensor.shape for tensor in getattr(model, "inputs", None) or []]
    shapes = built or [tuple(shape) for shape in (getattr(model, "_build_shapes_dict", None) or {}).values()]
    if len(shapes) != 1 or len(shapes[0]) < 2 or None in shapes[0][2:]:
        raise ModelRefusedError(
            model.name,
            "a subclassed model hides its inputs in Python code, and it was not built for one input (batch, time, …)",
            "call it on a batch before it is saved, or build the same layers as a Functional model",
        )
    shape: tuple[int | None, ...] = shapes[0]
    return shape


def _part_of(model: Any) -> InputPart:
    shape = tuple(int(size or 0) for size in _shape_of(model)[2:])  # none is open
    return InputPart("x", "float32", Time.EACH_STEP, shape, slice(0, _size(shape)))


def _shape(part: InputPart, steps: int) -> tuple[int, ...]:
    return (steps, *part.shape) if part.time is Time.EACH_STEP else part.shape


def _numpy(dtype: str) -> str:
    return "float32" if dtype == "bfloat16" else dtype  # numpy has no bfloat16


def _hidden_outputs(model: Any, call: Callable[[Arrays], Arrays], part: InputPart, tried: Arrays, steps: int) -> Any:
    """Of a model that hides its layers: as its code says where it can be followed, else as windows of another length
    say, else guessed from the one length."""
    found, guessed = followed_over_time(model), False
    if found is None or len(found) != len(tried):
        longer, guessed = _lengths_at(call, part, steps + 1), True
        found = [y.shape[1:2] == (steps,) for y in tried]
        if longer is not None and len(longer) == len(tried):
            found, guessed = [has and size == steps + 1 for has, size in zip(found, longer, strict=True)], False
    parts, start = [], 0
    for number, (y, has_steps) in enumerate(zip(tried, found, strict=True)):
        last = has_steps and len(y.shape) > 2
        shape, time = tuple(y.shape[2 if last else 1 :]), Time.EACH_STEP if last else Time.SO_FAR
        columns = slice(start, start + _size(shape))
        parts.append(OutputPart(f"output_{number}", time, shape, columns, guessed and last))
        start = columns.stop
    return parts


def _lengths_at(call: Callable[[Arrays], Arrays], part: InputPart, steps: int) -> list[int | None] | None:
    """The lengths of the outputs for a window of so many steps; None where the model does not take it."""
    try:
        tried = call([tf.zeros((1, *_shape(part, steps)), part.dtype)])
    except Exception:  # noqa: BLE001 (whatever a model's own code may raise)
        return None
    return [y.shape[1] if len(y.shape) > 1 else None for y in tried]


def _size(shape: Sequence[Any]) -> int:
    return int(np.prod(shape, dtype=np.int64))
