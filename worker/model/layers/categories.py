"""Rules of the layers that turn numbers into ids and ids into vectors."""

from __future__ import annotations

from typing import Any

from worker.model.backend import keras
from worker.model.graph import LayerCall
from worker.model.layers.per_step import single_time
from worker.model.rules import StepBuilder, Time, refuse, run_as_it_is, streams

L = keras.layers

_TIME_DISTRIBUTED = "use output_mode='one_hot', or TimeDistributed where a step has several ids, and train again"


@streams(L.CategoryEncoding)
def category_encoding(call: LayerCall, builder: StepBuilder) -> Any:
    """One vector per id. Keras removes a last axis of size 1, which for ids (batch, 1) is the step itself."""
    time = single_time(call, builder, features=False)
    layer, tensor = call.layer, call.tensors[0]
    if time is not Time.EACH_STEP:
        return run_as_it_is(call, builder, time)
    if layer.output_mode != "one_hot" or layer.sparse:
        refuse(call, f"output_mode='{layer.output_mode}' counts over all steps of the window", _TIME_DISTRIBUTED)
    if len(tensor.shape) > 2:
        return run_as_it_is(call, builder, time)
    builder.report(call, builder.name(call), "as it is")
    return builder.mark(one_hot(layer, builder.name(call))(tensor), time)


def one_hot(layer: Any, name: str) -> Any:
    """What CategoryEncoding(output_mode="one_hot") does to ids (batch, time), whatever their number."""
    return keras.src.ops.nn.OneHot(layer.num_tokens, dtype=layer.dtype, name=name)


@streams(L.Discretization, L.Hashing, L.IntegerLookup)
def to_ids(call: LayerCall, builder: StepBuilder) -> Any:
    """Number by number."""
    time = single_time(call, builder, features=False)
    if time is Time.EACH_STEP and call.layer.output_mode != "int":
        refuse(
            call,
            f"output_mode='{call.layer.output_mode}' encodes along an axis that may be time",
            "use output_mode='int' and an Embedding or CategoryEncoding(output_mode='one_hot') behind it",
        )
    return run_as_it_is(call, builder, time)
