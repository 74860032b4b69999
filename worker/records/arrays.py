"""The kinds of numpy arrays that columns are, and the numbers in them that mean none."""

from __future__ import annotations

from numbers import Integral
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.floating[Any]]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
CodeArray: TypeAlias = NDArray[np.uint8]
Index: TypeAlias = IntArray | slice  # of rows in columns: some rows, or a slice, which is not copied
NO_TIME_MS = -1  # of an event or a record without a time
NO_ITEM = -1  # of the event of a record that is not a chunk


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is an int, or numpy's; True is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)
