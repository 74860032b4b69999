"""The pipeline of ``worker run`` in this process, without Kafka, and its memory as reported by the system."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import memory_bytes
from worker.assembly.model import prove_model
from worker.assembly.pipeline import build_scoring
from worker.checkpoints.folder import CheckpointStore
from worker.checkpoints.header import CheckpointIdentity
from worker.checkpoints.writer import CheckpointWriter
from worker.commands.bench.models import DEFAULT_MODEL, save_model
from worker.config.sections import Config
from worker.model.streaming import StreamingModel
from worker.records.ownership import Partition
from worker.records.record_batch import RecordBatch

CAPACITY = 1_000_000
PARTITIONS = 8
BATCH = 4096
WRITE_TIMEOUT_S = 600.0


class PipelineProcess:
    """Room for CAPACITY streams; ``rows`` holds what ``see`` found: first before the pipeline was built, then idle."""

    def __init__(self, folder: Path) -> None:
        subject = folder / "model.keras"
        save_model(DEFAULT_MODEL, 3, subject)
        config = Config.model_validate(
            {
                "input": {"topic": "readings", "features": ["f0", "f1", "f2"]},
                "output": {"topic": "probabilities"},
                "model": {"path": str(subject)},
                "state": {"max_streams": CAPACITY, "idle": "24h"},
            }
        )
        model = prove_model(config)
        assert isinstance(model, StreamingModel)
        gc.collect()
        gc.freeze()  # as the worker does
        before = memory_bytes()
        self.pipeline = build_scoring(config, model)
        self.places = [Partition("readings", number) for number in range(PARTITIONS)]
        self.offsets = dict.fromkeys(self.places, 0)
        for place in self.places:
            self.pipeline.engine.table.open(place)
        self.table = self.pipeline.engine.table
        self.rows: list[dict[str, Any]] = [{"what": "before", "streams": 0, "rows": 0, "rss": before, "growth": 0}]
        self.see("idle")
        self.raw = model.initial_row.nbytes

    def events(self, numbers: Iterable[int], value: bytes | None, at_ms: int) -> None:
        """One event of each of these streams."""
        listed = np.fromiter(numbers, np.int64)
        for place in self.places:
            mine = listed[listed % PARTITIONS == place.number]
            for start in range(0, len(mine), BATCH):
                keys: list[bytes | None] = [b"device-%07d" % number for number in mine[start : start + BATCH].tolist()]
                count, first = len(keys), self.offsets[place]
                self.offsets[place] += count
                offsets = list(range(first, first + count))
                batch = RecordBatch(
                    place, first + count, offsets, [at_ms] * count, keys, [value] * count, [None] * count
                )
                self.pipeline.turn([batch])

    def checkpoint(self, folder: Path) -> None:
        writer = CheckpointWriter(CheckpointStore(folder, "bench"))
        for place in self.places:
            state = self.pipeline.engine.table.snapshot(place, self.offsets[place])
            writer.submit(state, CheckpointIdentity("", "", "bench", ""))
            del state
        assert writer.close(WRITE_TIMEOUT_S)
        assert all(result.ok for result in writer.poll_results())

    def see(self, what: str) -> None:
        """``rows``: how many have ever been used."""
        gc.collect()
        rss, known = memory_bytes(), len(self.table)
        growth = rss - self.rows[1]["rss"] if known else 0
        row = {"what": what, "streams": known, "rows": self.table.free.dealt, "rss": rss, "growth": growth}
        self.rows.append({**row, "most": memory_bytes(field="VmHWM")})
