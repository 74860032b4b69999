"""How fast a model writes on this machine: the model alone, without records."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from worker.records.arrays import FloatArray, IntArray
from worker.records.writing import Writing, Written

BATCHES_STREAMS = (1, 100, 1000)
ITEMS = 64  # drawn by each stream in one call, as many as a turn of the worker takes at most
MEASURED_NUMBERS = 20_000_000  # probabilities of all streams and items of a call: of large vocabularies fewer items
MEASURE_BUDGET_S = 0.5  # per batch size
MEASURE_CALLS_LIMIT = 20


@dataclass(frozen=True, slots=True)
class WritingTime:
    """Median time of one step of ``batch`` streams that draw an item each, and what that makes per second."""

    batch: int
    seconds: float
    items_per_second: float


class Writer(Protocol):
    """A model that feeds and draws items."""

    units: int
    state_width: int

    def step(self, tokens: IntArray, packed: FloatArray) -> tuple[FloatArray, FloatArray]:
        """ids (n,), packed (n, state_width) → probabilities (n, units), packed after."""

    def write(self, writing: Writing) -> Written:
        """Feed and draw."""


def writing_times(model: Writer, temperature: float, clock: Callable[[], float]) -> list[WritingTime]:
    """Measure after a first call that builds the graph. A stop item ends no row of it: all draw as many items."""
    times = []
    for rows in BATCHES_STREAMS:
        writing = _writing(model, rows, temperature)
        written = model.write(writing)
        calls: list[float] = []
        begin = clock()
        while not calls or (clock() - begin < MEASURE_BUDGET_S and len(calls) < MEASURE_CALLS_LIMIT):
            before = clock()
            written = model.write(writing)
            calls.append(clock() - before)
        drawn, steps = (written.tokens >= 0).sum(), max(1, (written.tokens >= 0).any(axis=1).sum())
        seconds = statistics.median(calls)
        times.append(WritingTime(rows, seconds / steps, float(drawn / max(seconds, 1e-9))))
    return times


def _writing(model: Writer, rows: int, temperature: float) -> Writing:
    items = max(1, min(ITEMS, MEASURED_NUMBERS // (rows * model.units)))
    rng = np.random.default_rng(0)
    outputs, packed = model.step(rng.integers(0, model.units, rows), np.zeros((rows, model.state_width), np.float32))
    return Writing(
        packed=packed,
        outputs=outputs,
        feed=np.zeros((items, rows), np.int64),
        feeds=np.zeros(rows, np.int64),
        draws=np.full(rows, items),
        uniforms=rng.random((items, rows)),
        temperatures=np.full(rows, float(temperature)),
    )
