"""Models to measure with, and the answers that are expected of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from worker.commands.bench.job import Job, key_of
from worker.records.arrays import FloatArray

SAMPLE_STREAMS = 4
SAMPLE_EVENTS = 25  # of each
SEED = 1

Expected: TypeAlias = Mapping[bytes, FloatArray]  # stream → (its first events, units)


def _lstm_32_16(layers: Any) -> list[Any]:
    return [layers.LSTM(32, return_sequences=True), layers.LSTM(16)]


def _gru_64(layers: Any) -> list[Any]:
    return [layers.GRU(64)]


def _lstm_256_256(layers: Any) -> list[Any]:
    return [layers.LSTM(256, return_sequences=True), layers.LSTM(256)]


MODELS: dict[str, Callable[[Any], list[Any]]] = {
    "LSTM 32 → LSTM 16": _lstm_32_16,
    "GRU 64": _gru_64,
    "LSTM 256 → LSTM 256": _lstm_256_256,
}
DEFAULT_MODEL = "LSTM 32 → LSTM 16"


def save_model(name: str, features: int, path: Path) -> None:
    """A model of this kind with a sigmoid at its end, untrained."""
    from worker.model.backend import keras

    keras.utils.set_random_seed(SEED)
    recurrent = MODELS[name](keras.layers)
    keras.Sequential([keras.Input((None, features)), *recurrent, keras.layers.Dense(1, "sigmoid")]).save(path)


def expected(path: Path, job: Job) -> Expected:
    """Keras' own answers to the first events of some streams: each prefix from its beginning, without any state."""
    from worker.model.backend import keras

    model = keras.models.load_model(path, compile=False)
    numbers = job.numbers()
    found = {}
    for stream in np.unique(np.linspace(0, job.streams - 1, SAMPLE_STREAMS).astype(np.int64)).tolist():
        vectors = job.vectors(np.flatnonzero(numbers == stream)[:SAMPLE_EVENTS]).astype(np.float32)
        if len(vectors):
            answers = [np.asarray(model(vectors[np.newaxis, :end]))[0] for end in range(1, len(vectors) + 1)]
            found[key_of(stream)] = np.stack(answers)
    return found
