"""A function of tensors as one TensorFlow graph, called without what Python does around each call."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

from worker.model.backend import tf

Graph: TypeAlias = Callable[..., Any]  # tensors → a list of tensors


def as_graph(run: Callable[..., Any], specs: list[Any]) -> Graph:
    """``run`` as one graph for every batch size, to be called with tensors. It computes what ``run`` does by itself.

    The operation that calls a function costs a fifth of what calling the ConcreteFunction does, which handles
    gradients, structures and arguments by name before it does the same.
    """
    graph = tf.function(run, input_signature=specs, autograph=False).get_concrete_function()
    captured, dtypes, options = graph.captured_inputs, [tensor.dtype for tensor in graph.outputs], _as_written()
    return lambda *tensors: tf.raw_ops.StatefulPartitionedCall(
        args=[*tensors, *captured], Tout=dtypes, f=graph, config_proto=options
    )


@cache
def _as_written() -> bytes:
    """The options of a call whose graph is not rewritten into one of other numbers.

    TensorFlow (core/grappler/optimizers) takes x / c for x · (1 / c), so that 41 / 41 may be less than 1; the logarithm
    of a softmax for another function; a product with erf for GELU, whatever its constant; and max(x, a · x) for a leaky
    ReLU, also where a is greater than 1. Models gain no speed by these.
    """
    config = tf.compat.v1.ConfigProto()
    rewrites = config.graph_options.rewrite_options
    rewrites.constant_folding = rewrites.arithmetic_optimization = rewrites.remapping = type(rewrites).OFF
    return bytes(config.SerializeToString())
