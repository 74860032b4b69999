"""BasicMotions: ten seconds of a smart watch, four activities, as arrays.

Rule of this file: reads the two text files beside it and nothing else; ``data/PROVENANCE.md`` says where they are from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).parent / "data"
MODEL_PATH = DATA / "basic_motions.keras"

CHANNELS = ("ax", "ay", "az", "gx", "gy", "gz")  # accelerometer, then gyroscope
LABELS = ("standing", "running", "walking", "badminton")  # in the order of the model's output units
STEPS = 100
RECORDINGS = 40  # in each part
RATE_HZ = 10
REPORTED_STEPS = (10, 25, 50, STEPS)  # where the accuracy of early answers is reported

Part = Literal["TRAIN", "TEST"]


@dataclass(frozen=True, slots=True)
class Motions:
    """One part of the data set: ``vectors`` (cases, 100, 6) float32, ``classes`` (cases,) index into ``LABELS``."""

    vectors: NDArray[np.float32]
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.classes)


def load(part: Part) -> Motions:
    """The 40 sequences of the TRAIN or the TEST part, in the order of the file."""
    return parse((DATA / f"BasicMotions_{part}.ts").read_text(encoding="utf-8"))


def parse(text: str) -> Motions:
    """Read the ``.ts`` format: header lines, then a case per line as ``channel:…:channel:label``.

    Raises ValueError when a case has another number of channels or steps, or a label that is not known.
    """
    lines = text.splitlines()
    start = next((at for at, line in enumerate(lines) if line.strip().lower() == "@data"), None)
    if start is None:
        raise ValueError("no line '@data'")
    cases = [_case(number, line) for number, line in enumerate(lines[start + 1 :], start + 2) if line.strip()]
    vectors = np.array([vectors for vectors, _ in cases], dtype=np.float32).reshape(len(cases), STEPS, len(CHANNELS))
    return Motions(vectors, np.array([label for _, label in cases], dtype=np.int64))


def _case(number: int, line: str) -> tuple[NDArray[np.float32], int]:
    *channels, label = line.strip().split(":")
    rows = [channel.split(",") for channel in channels]
    if len(rows) != len(CHANNELS) or any(len(row) != STEPS for row in rows):
        raise ValueError(f"line {number}: wanted {len(CHANNELS)} channels of {STEPS} steps")
    if label.lower() not in LABELS:
        raise ValueError(f"line {number}: label '{label}' is none of {', '.join(LABELS)}")
    return np.array(rows, dtype=np.float32).T, LABELS.index(label.lower())
