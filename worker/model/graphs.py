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
    called = {"Tout": dtypes, "f": graph, "config_proto": _as_written() if _is_mistaken(graph) else b""}
    return lambda *tensors: tf.raw_ops.StatefulPartitionedCall(args=[*tensors, *captured], **called)


def _is_mistaken(graph: Any) -> bool:
    """Whether TensorFlow's remapper may compute another thing than the graph says.

    It takes max(x, a·x) for a leaky ReLU, also where a is greater than 1 and the two are not the same (TensorFlow 2.x,
    core/grappler/optimizers/remapper.cc).
    """
    written = graph.graph.as_graph_def()
    nodes = [*written.node, *(node for function in written.library.function for node in function.node_def)]
    return any(node.op == "Maximum" for node in nodes)


def _as_written() -> bytes:
    """The options of a call whose graph is not remapped."""
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.remapping = type(config.graph_options.rewrite_options).OFF
    return bytes(config.SerializeToString())
