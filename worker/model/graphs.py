"""A function of tensors as one TensorFlow graph, called without what Python does around each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from worker.model.backend import tf

Graph: TypeAlias = Callable[..., Any]  # tensors → a list of tensors


def as_graph(run: Callable[..., Any], specs: list[Any]) -> Graph:
    """``run`` as one graph for every batch size, to be called with tensors.

    The operation that calls a function costs a fifth of what calling the ConcreteFunction does, which handles
    gradients, structures and arguments by name before it does the same.
    """
    graph = tf.function(run, input_signature=specs, autograph=False).get_concrete_function()
    captured, dtypes = graph.captured_inputs, [tensor.dtype for tensor in graph.outputs]
    return lambda *tensors: tf.raw_ops.StatefulPartitionedCall(args=[*tensors, *captured], Tout=dtypes, f=graph)
