"""Whether the trained model has an answer to a sequence: too short a one leaves some layer without a single step.

Told by the shapes, without running anything: TensorFlow ends the process at the mean of no step.
"""

from __future__ import annotations

from typing import Any

from worker.errors import WorkerError
from worker.model.backend import keras
from worker.model.explicit import ExplicitModel
from worker.model.graph import LayerCall, Visit, tensors_in, walk, walk_graph
from worker.model.inputs import InputPart
from worker.model.proof.flexible import Copier
from worker.model.rules import Time, has_rule
from worker.model.tracing import UntraceableError, graph_within, is_own


def check_first_answer(original: Any, explicit: ExplicitModel) -> None:
    """Raises WorkerError where the first event that is answered is not the first that the trained model answers."""
    first = explicit.first_answer
    found = [has_answer(original, explicit.inputs, steps) for steps in (first - 1, first)]
    if found != [False, True]:
        why = f"has none yet to {first}" if not found[1] else f"answers {first - 1} already"
        raise WorkerError(
            f"parity: the streamed model answers from event {first} of a sequence on, and the trained one {why}",
            "report this model",
        )


def has_answer(original: Any, parts: list[InputPart], steps: int) -> bool:
    """Whether every layer of the trained model has steps when it is given a sequence of so many."""
    if not steps:
        return False
    inputs = [
        keras.Input((steps, *part.shape) if part.time is Time.EACH_STEP else part.shape, dtype=part.dtype)
        for part in parts
    ]
    over_time = [x for x, part in zip(inputs, parts, strict=True) if part.time is Time.EACH_STEP]
    copier = Copier(over_time[0] if over_time else None, over_time)

    def visit(call: LayerCall) -> Any:
        own = is_own(call.layer) and not has_rule(type(call.layer))
        outputs = copier.follow(call, _within(call, visit)) if own else copier.visit(call)
        if any(0 in tensor.shape for tensor in tensors_in(outputs)):
            raise _EmptyError
        return outputs

    try:
        walk(original, inputs, visit)
    except (_EmptyError, UntraceableError, ValueError):  # Keras' own: a shape with fewer than no steps
        return False
    return True


def _within(call: LayerCall, visit: Visit) -> Any:
    """What a layer of a user's own gives, each layer within it visited."""
    graph = graph_within(call.node, (call.args, call.kwargs))
    outputs = walk_graph(graph, tensors_in((call.args, call.kwargs)), visit, (*call.path, call.layer.name))
    return keras.tree.pack_sequence_as(graph._outputs_struct, outputs)


class _EmptyError(Exception):
    """A layer without a single step."""
