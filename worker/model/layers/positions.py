"""Numbers of each step's own, such as positional encodings: the count of steps so far is the state.

After the last step that has numbers the trained model has no answer: there is none here either (not a number).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from worker.model.backend import keras
from worker.model.graph import LayerCall, Tensor
from worker.model.layers.naming import OPS, NamedOperations
from worker.model.rules import StepBuilder, Time
from worker.model.unsettled import refuse_ahead
from worker.records.arrays import FloatArray

L = keras.layers
TIME_AXIS = 1
_JOINING = (L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum)
_OPERATIONS = ("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum")


def table_of(call: LayerCall, leaf: Any) -> FloatArray | None:
    """(1, steps, …) when these numbers, joined with the tensors of the call, are those of each step; else None."""
    rank = max((len(tensor.shape) for tensor in call.tensors), default=0)
    whole = isinstance(call.layer, keras.Layer)  # layers of Keras spread over other axes than operations
    if leaf is None or isinstance(leaf, (keras.KerasTensor, str)):
        return None
    array = np.asarray(leaf)
    if array.dtype == object or array.ndim > rank or (whole and array.ndim < rank):
        return None
    array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    return array if rank > TIME_AXIS + 1 and array.shape[0] == 1 and array.shape[TIME_AXIS] > 1 else None


def takes_tables(layer: Any) -> bool:
    """Whether it joins what it is given number by number."""
    return type(layer) in _JOINING or (type(layer).__module__ == OPS.__name__ and type(layer).__name__ in _OPERATIONS)


def at_this_step(call: LayerCall, builder: StepBuilder) -> LayerCall:
    """The call with the numbers of this step in place of those of all; the call itself where there are none."""
    over_time = [tensor for tensor in call.tensors if builder.time(tensor) is Time.EACH_STEP]
    tables = [table for leaf in _leaves(call) if (table := table_of(call, leaf)) is not None]
    if not takes_tables(call.layer) or not over_time or not tables:
        return call
    name = builder.unique(f"{call.layer.name}.positions", call.path)
    refuse_ahead(call, builder)
    run = NamedOperations(builder, name)
    count = builder.state(name, "count", (1,), "float32")
    most = min(table.shape[TIME_AXIS] for table in tables)
    builder.answer([run(OPS.Minimum, run(OPS.Add, count, 1.0), float(most))])
    builder.ends_after(most)
    builder.report(call, name, f"numbers for {most} steps: the count of steps as state")
    made: list[Tensor] = []

    def now(leaf: Any) -> Any:
        table = table_of(call, leaf)
        if table is None:
            return leaf
        rows = np.concatenate([table[0, :most], np.full((1, *table.shape[2:]), _none(table.dtype), table.dtype)])
        made.append(run(OPS.Take, keras.ops.convert_to_tensor(rows), run.cast(count, "int32"), axis=0))
        return builder.mark(made[-1], Time.EACH_STEP)

    args, kwargs = keras.tree.map_structure(now, (call.args, call.kwargs))
    return replace(call, args=args, kwargs=kwargs, tensors=[*call.tensors, *made])


def _leaves(call: LayerCall) -> list[Any]:
    return list(keras.tree.flatten((call.args, call.kwargs)))


def _none(dtype: Any) -> float:
    return np.nan if np.issubdtype(dtype, np.floating) else 0
