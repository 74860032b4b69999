"""Which outputs of a trained model have the steps of the window on axis 1, one by one: their last step is the answer.

Only where it is certain: what else has an axis there, such as the steps of a forecast, is an answer as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from worker.model.backend import keras
from worker.model.graph import graph_of, is_model
from worker.model.tracing import UntraceableError, graph_if_any, graph_within, with_graph
from worker.model.window.kept_steps import keeps


def over_time(graph: Any, inputs: Sequence[bool]) -> list[bool]:
    """Of each output; ``inputs``: which of the graph's have the steps."""
    known = {id(tensor) for tensor, has_steps in zip(graph.inputs, inputs, strict=True) if has_steps}
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if not node.is_input and any(id(tensor) in known for tensor in node.input_tensors):
                known |= _kept(node, known)
    return [id(tensor) in known for tensor in graph.outputs]


def followed_over_time(model: Any) -> list[bool] | None:
    """Of each output of a model that hides its layers; None where its code can't be followed."""
    try:
        around = with_graph(model)
        if around is model or graph_if_any(model._inbound_nodes[-1]) is None:
            return None
        return over_time(graph_of(around), [True])
    except Exception:  # noqa: BLE001 (whatever a model's own code may raise)
        return None


def _kept(node: Any, known: set[int]) -> set[int]:
    """The outputs of this call that have the steps."""
    inner = _inner(node)
    given = [id(tensor) in known for tensor in node.input_tensors]
    if inner is None:
        count = keeps(node.operation, node, known)
        return {id(tensor) for tensor in node.outputs[:count]}
    if len(inner.inputs) != len(given):
        return set()
    found = over_time(inner, given)
    return {id(tensor) for tensor, has_steps in zip(node.outputs, found, strict=False) if has_steps}


def _inner(node: Any) -> Any:
    """The graph within a nested model or a user's own code that is called there; None where there is none."""
    if is_model(node.operation):
        return graph_of(node.operation)
    if type(node.operation) is not keras.layers.Lambda:
        return graph_if_any(node)
    try:
        return graph_within(node)
    except UntraceableError:
        return None
