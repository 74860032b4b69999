"""What tasks that generate answer.

Rule of this file: data only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from worker.records.arrays import BoolArray, CodeArray, IntArray
from worker.records.events import Refusal
from worker.records.prompts import Finish

NO_TOKEN = -1  # in place of an item's id, where no item was drawn
NO_STOP = -1  # the id of the stop item, where there is none
WHOLE_TEXT = -1  # in place of the number of an item: the output is the whole text


@dataclass(slots=True)
class Texts:
    """Texts, or items of them, that are to be sent: one row per output, those of one event in their order."""

    events: IntArray  # (outputs,) index of each one's event
    items: IntArray  # (outputs,) number of the item in its event's text, from 0; WHOLE_TEXT
    tokens: list[list[int]]  # of the whole text without the stop item, or of the item alone; [] for a stop item
    finishes: list[Finish | None]  # None: more of this text follows
    steps: IntArray  # (outputs,) items that the state has seen since zero
    resets: CodeArray  # (outputs,) Reset
    finals: BoolArray  # (outputs,)
    origins: CodeArray  # (outputs,) Origin
    scores: list[float] | None = None  # of beams: the mean log probability of the text's items
    refusals: list[Refusal] = field(default_factory=list)
