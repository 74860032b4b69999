"""Memory that is asked for as a whole and taken where it is touched: for rows of as many streams as there may be."""

from __future__ import annotations

import mmap
import sys
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

MAP_NORESERVE = 0x4000  # of Linux; Python has it from 3.13 on

RowValues: TypeAlias = NDArray[Any]  # (rows,) of a structured type


def reserved(rows: int, dtype: np.dtype[Any]) -> RowValues:
    """(rows,) of zeros that take memory where they are touched, however many they are.

    Without MAP_NORESERVE Linux refuses to promise more than the machine has, and nearly all of this is never touched.
    """
    if sys.platform != "linux":
        return np.zeros(rows, dtype)
    memory = mmap.mmap(-1, max(1, rows * dtype.itemsize), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
    memory.madvise(mmap.MADV_HUGEPAGE)  # as numpy does for arrays of its own
    return np.frombuffer(memory, dtype, rows)
