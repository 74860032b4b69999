"""That no answer knows of later events or of other streams: these are poisoned, and nothing may change."""

from __future__ import annotations

import numpy as np

from worker.model.inputs import InputPart
from worker.model.rules import Time
from worker.model.step import PackedStep
from worker.records.arrays import FloatArray
from worker.records.failing_rows import FailingRowsError


def poisoned(packed: PackedStep, parts: list[InputPart], xs: FloatArray, zero: FloatArray) -> FloatArray:
    """Outputs (sequences, steps, width) where half of the sequences are no numbers from the middle on.

    A model that can't compute these, because numbers are ids somewhere in it, gets the same numbers in another order.
    """
    half = xs.shape[1] // 2
    columns = [part.columns for part in parts if _takes_any(part)]
    spoilt = xs.copy()
    for some in columns:
        spoilt[::2, half:, some] = np.nan
    try:
        return _outputs(packed, spoilt, zero)
    except FailingRowsError:
        for some in columns:
            spoilt[::2, half:, some] = xs[::2, half:, some][:, ::-1]
        return _outputs(packed, spoilt, zero)


def _takes_any(part: InputPart) -> bool:
    return part.ids is None and part.dtype.startswith("float") and part.time is Time.EACH_STEP


def _outputs(packed: PackedStep, xs: FloatArray, zero: FloatArray) -> FloatArray:
    return np.swapaxes(packed.scan(np.swapaxes(xs, 0, 1), zero)[0], 0, 1)


def changed(packed: PackedStep, parts: list[InputPart], xs: FloatArray, zero: FloatArray, whole: FloatArray) -> float:
    """By how much ``whole``, the outputs of ``xs``, differ where nothing is poisoned."""
    found, half = poisoned(packed, parts, xs, zero), xs.shape[1] // 2
    pairs = [(found[:, :half], whole[:, :half]), (found[1::2], whole[1::2])]
    return float(np.max([np.max(np.abs(one.astype(np.float64) - two), initial=0.0) for one, two in pairs]))
