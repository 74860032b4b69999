"""Ids among the numbers of a vector: for an Embedding, say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.records.arrays import BoolArray


def unknown_ids(numbers: NDArray[Any], below: int) -> BoolArray:
    """Which of these numbers are not ids, that is, whole numbers from 0 to ``below`` - 1."""
    wrong: BoolArray = (numbers < 0) | (numbers >= below) | (numbers != np.floor(numbers))
    return wrong


def outside(numbers: NDArray[Any], lowest: int, highest: int) -> BoolArray:
    """Which of these numbers are not whole, or not from ``lowest`` to ``highest``."""
    wrong: BoolArray = (numbers < lowest) | (numbers > highest) | (numbers != np.floor(numbers))
    return wrong
