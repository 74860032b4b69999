"""The record that every peer writes: as large as the worker's, with the fields that the benchmark's judge checks."""

from __future__ import annotations

import orjson

FEATURES = ("f0", "f1", "f2")


def answer(
    stream: str, step: int, probability: float, partition: int = 0, offset: int = 0, timestamp: int = 0
) -> bytes:
    return orjson.dumps(
        {
            "stream": stream, "sequence": None, "step": step, "probabilities": [probability], "final": False,
            "reset": None, "time": timestamp, "origin": "live", "model": "4f1c9a2b7d10",
            "source": {"topic": "events", "partition": partition, "offset": offset},
        }
    )  # fmt: skip
