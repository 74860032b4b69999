"""Numbers of each step's own in the copy that answers for prefixes: as many of them as there are steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from worker.model.backend import keras
from worker.model.graph import LayerCall, Tensor
from worker.model.layers.attention import is_causal
from worker.model.layers.positions import TIME_AXIS, table_of, takes_tables
from worker.records.arrays import FloatArray


def at_each_step(call: LayerCall) -> LayerCall:
    """The call with tables of open length in place of those for the trained number of steps."""
    if is_causal(call.kwargs.get("attention_mask")):
        return replace(call, kwargs={**call.kwargs, "attention_mask": None, "use_causal_mask": True})
    rank = max((len(tensor.shape) for tensor in call.tensors), default=0)
    if rank <= TIME_AXIS or not takes_tables(call.layer):
        return call
    over_time = [tensor for tensor in call.tensors if len(tensor.shape) == rank and tensor.shape[TIME_AXIS] is None]
    if not over_time:
        return call

    def opened(leaf: Any) -> Any:
        table = table_of(call, leaf)
        return leaf if table is None else _FirstSteps(table)(over_time[0])

    args, kwargs = keras.tree.map_structure(opened, (call.args, call.kwargs))
    return replace(call, args=args, kwargs=kwargs)


class _FirstSteps(keras.layers.Layer):  # type: ignore[misc]
    """(batch, time, …) → the first of the numbers (1, time, …)."""

    def __init__(self, table: FloatArray) -> None:
        super().__init__(dtype=str(table.dtype))
        self._table = table

    def call(self, x: Tensor) -> Tensor:
        return keras.ops.convert_to_tensor(self._table)[:, : keras.ops.shape(x)[TIME_AXIS]]

    def compute_output_shape(self, shape: Any) -> Any:
        return (1, shape[TIME_AXIS], *self._table.shape[2:])
