"""What a model that writes items is asked for, and what it answers: the values between the rooms engine and model.

Rule of this file: data only.
"""

from __future__ import annotations

from dataclasses import dataclass

from worker.records.arrays import BoolArray, FloatArray, IntArray


@dataclass(slots=True)
class Writing:
    """Rows that are to be fed items, and then to draw more; each drawn item is fed back, the last and a stop item too.

    Row i is fed ``feed[:feeds[i], i]`` and then draws up to ``draws[i]`` items, the k-th of them with the random number
    ``uniforms[feeds[i] + k, i]``; a row without feeds draws its first from ``outputs``. A drawn stop item is its last.
    ``feeds[i] + draws[i]`` is at most the number of steps. Where ``temperature`` is 0 the likeliest item is drawn, of
    several the first.
    """

    packed: FloatArray  # (n, state_width)
    outputs: FloatArray  # (n, units) the last output; NaN where there is none, only for rows that are fed first
    feed: IntArray  # (steps, n) ids; any valid one where none is fed
    feeds: IntArray  # (n,)
    draws: IntArray  # (n,)
    uniforms: FloatArray  # (steps, n) float64, from 0 to below 1
    temperatures: FloatArray  # (n,) float64


@dataclass(slots=True)
class Written:
    """What became of them. Where a row is not ``finite``, nothing else of it means anything."""

    tokens: IntArray  # (steps, n) the item drawn in each step, NO_TOKEN where none was
    packed: FloatArray  # (n, state_width) after the last step of each row
    outputs: FloatArray  # (n, units) after the last step of each row
    finite: BoolArray  # (n,) every state and output on the way was finite
