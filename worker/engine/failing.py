"""Events at which the model raises an error: they become dead letters, and the other rows of the call are computed.

What the model could not compute leaves its stream without a state, as a result that is not finite does: the stream
returns to zero. Or else an error that comes from the state would come again with each of its events. No I/O, clock or
logging.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from worker.engine.jobs import Job
from worker.engine.packed_model import PackedModel
from worker.records.arrays import BoolArray, FloatArray
from worker.records.events import Events, Refusal
from worker.records.failing_rows import FailingRowsError

MODEL_ERROR = "model_error"
NO_REASONS: Mapping[int, str] = MappingProxyType({})

ScanPacked: TypeAlias = Callable[
    [FloatArray, FloatArray, BoolArray, BoolArray, FloatArray], tuple[FloatArray, FloatArray]
]  # see PackedModel.scan_packed


def stepped(model: PackedModel, x: FloatArray, packed: FloatArray) -> tuple[FloatArray, FloatArray, Mapping[int, str]]:
    """As ``step_packed``; rows at which the model raises an error are NaN, and the reason of each is told."""
    try:
        return *model.step_packed(x, packed), NO_REASONS
    except FailingRowsError as failing:
        good = failing.others(len(x))
        width = model.units + model.waits
        outputs, after = np.full((len(x), width), np.nan, packed.dtype), np.full_like(packed, np.nan)
        if good.any():
            outputs[good], after[good] = model.step_packed(x[good], packed[good])
        return outputs, after, failing.reasons


def scanned(
    scan_packed: ScanPacked,
    xs: FloatArray,
    packed: FloatArray,
    resets: BoolArray,
    active: BoolArray,
    initial: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """As ``scan_packed``; rows at which the model raises an error in any step are NaN."""
    try:
        return scan_packed(xs, packed, resets, active, initial)
    except FailingRowsError as failing:
        good, after = failing.others(len(packed)), np.full_like(packed, np.nan)
        if not good.any():
            return np.full((*xs.shape[:2], 1), np.nan, packed.dtype), after
        ys, after[good] = scan_packed(xs[:, good], packed[good], resets[:, good], active[:, good], initial)
        outputs = np.full((*xs.shape[:2], ys.shape[2]), np.nan, ys.dtype)
        outputs[:, good] = ys
        return outputs, after


def finite_rows(outputs: FloatArray, states: FloatArray) -> BoolArray | None:
    """None when everything is finite, which is nearly always; else which rows are finite."""
    if np.isfinite(outputs).all() and np.isfinite(states).all():
        return None
    finite: BoolArray = np.logical_and.reduce(np.isfinite(np.concatenate([outputs, states], axis=1)), axis=1)
    return finite


def spoil(jobs: Sequence[Job], failing: FailingRowsError) -> list[Job]:
    """Each row of the call was one of these jobs: those that fail are done; returns the others."""
    for row, reason in failing.reasons.items():
        jobs[row].spoilt = True
        jobs[row].refuse(MODEL_ERROR, model_error_reason(reason))
    return [job for row, job in enumerate(jobs) if row not in failing.reasons]


def model_error_reason(reason: str) -> str:
    """The sentence of the dead letter."""
    return f"the model can't compute its answer: {reason}; the stream's state returns to zero"


def with_model_errors(refusals: list[Refusal], events: Events, reasons: Mapping[int, str], start: int) -> list[Refusal]:
    """Refusals of results that are not finite; those of records in which the model has raised errors say the first.

    ``reasons``: of events, counted from ``start``.
    """
    first: dict[int, str] = {}
    for event in sorted(reasons):
        if start <= event < start + len(events):
            first.setdefault(int(events.records[event - start]), reasons[event])
    return [
        each._replace(error=MODEL_ERROR, reason=model_error_reason(first[each.record]))
        if each.record in first
        else each
        for each in refusals
    ]
