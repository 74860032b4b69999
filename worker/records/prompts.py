"""What a record of a task that generates asks for.

Rule of this file: data only. Such a record is one event, and costs a whole text: an object for each is cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from worker.records.arrays import FloatArray, IntArray


class Finish(IntEnum):
    """Why a text ends."""

    LENGTH = 1  # it has as many items as its record asked for
    STOP = 2  # the stop item was drawn
    MAX_LENGTH = 3  # it has as many items as a text may have


@dataclass(frozen=True, slots=True)
class Prompt:
    """One record's request.

    ``items``: what is fed to the stream's state first, (n,) ids or (n, features) vectors; n may be 0. ``length``: items
    to draw at most, and ``finish``: what ends the text when it has so many. ``temperature``: 0 takes the likeliest.
    """

    items: IntArray | FloatArray
    length: int
    finish: Finish
    temperature: float
