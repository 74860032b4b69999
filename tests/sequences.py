"""A log of sensor sequences, and what the trained model says to every prefix: worked out without the worker's code."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FEATURES = ("ax", "ay", "az")
GAP_MS = 1_000
LONGEST_SEQUENCE = 40  # events


@dataclass(slots=True)
class Log:
    """Events in the order in which they are sent, and the sequence (of event indices) that each belongs to."""

    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    vectors: list[list[float]] = field(default_factory=list)
    sequences: list[list[int]] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)


@dataclass(slots=True)
class _Now:
    """Where a stream is: its event time, its number of the id, and why its next event begins a sequence."""

    time: int = 1_700_000_000_000
    id: int = 0
    pending: str | None = "new"


def make_log(events: int, streams: int, seed: int = 1) -> Log:
    """Interleaved streams whose sequences end and begin in every way: end, start, another id, a gap in event time."""
    rng = np.random.default_rng(seed)
    log = Log()
    current: dict[int, list[int]] = {}
    state = [_Now() for _ in range(streams)]
    vectors = rng.normal(size=(events, len(FEATURES))).round(4)
    for index in range(events):
        stream = int(rng.integers(streams))
        now = state[stream]
        length = len(current.get(stream, ()))
        boundary = str(rng.choice(["start", "id", "gap"])) if length and rng.random() < 0.04 else None
        now.time += GAP_MS + 1 if boundary == "gap" else int(rng.integers(1, 200))
        now.id += boundary == "id"
        reason = now.pending or boundary
        if reason is not None:
            current[stream] = []
            log.sequences.append(current[stream])
        current[stream].append(index)
        last = len(current[stream]) >= LONGEST_SEQUENCE or rng.random() < 0.02
        now.pending = "end" if last else None
        value: dict[str, Any] = dict(zip(FEATURES, vectors[index].tolist(), strict=True))
        value |= {"time": now.time, "id": f"s{now.id}"}
        value |= {"first": True} if boundary == "start" else {}
        value |= {"last": True} if last else {}
        log.keys.append(b"device-%03d" % stream)
        log.values.append(json.dumps(value).encode())
        log.vectors.append(vectors[index].tolist())
        log.reasons.append(reason)
    return log


def expected(log: Log, prefix_model: Any) -> tuple[np.ndarray, list[int]]:
    """(events, units) the model's answer to the prefix that ends with each event, and the event's step.

    ``prefix_model`` answers (batch, time, units): what a causal model says after every step.
    """
    longest = max(map(len, log.sequences))
    padded = np.zeros((len(log.sequences), longest, len(FEATURES)), np.float32)
    for row, sequence in enumerate(log.sequences):
        padded[row, : len(sequence)] = [log.vectors[index] for index in sequence]
    answers = prefix_model.predict(padded, batch_size=512, verbose=0)
    found = np.zeros((len(log.keys), answers.shape[-1]), np.float32)
    steps = [0] * len(log.keys)
    for row, sequence in enumerate(log.sequences):
        for step, index in enumerate(sequence):
            found[index], steps[index] = answers[row, step], step + 1
    return found, steps


def save_model(path: Path, scale: float = 1.0) -> Any:
    """A window model in a file, as users have it; answers the same weights as a model that answers every prefix.

    It has the same weights each time, but for their ``scale``.
    """
    from tests.models import L, sequential
    from worker.model.backend import keras

    model = sequential(L.LSTM(12, return_sequences=True), L.LeakyReLU(), L.GRU(8), L.Dense(3, activation="softmax"))
    model.set_weights([scale * weights for weights in model.get_weights()])
    model.save(path)
    every = keras.Sequential(
        [
            keras.Input((None, len(FEATURES))), L.LSTM(12, return_sequences=True), L.LeakyReLU(),
            L.GRU(8, return_sequences=True), L.Dense(3, activation="softmax"),
        ]
    )  # fmt: skip
    every.set_weights(model.get_weights())
    one = np.random.default_rng(3).normal(size=(1, 9, len(FEATURES))).astype(np.float32)
    np.testing.assert_allclose(every(one)[0, -1], model(one)[0], atol=1e-6)
    np.testing.assert_allclose(every(one)[0, 4], model(one[:, :5])[0], atol=1e-6)
    return every


def configuration(folder: Path, servers: str, client: str, topics: tuple[str, str, str], **more: Any) -> dict[str, Any]:
    """The configuration for such a log."""
    kafka = {
        "bootstrap_servers": servers,
        "client": client,
        "group_id": f"group-{topics[0]}",
        "instance_id": "member-1",
    }
    return {
        "kafka": kafka,
        "input": {"topic": topics[0], "features": list(FEATURES), "time": "time"},
        "output": {"topic": topics[1]},
        "dead_letters": {"topic": topics[2]},
        "model": {"path": str(folder / "model.keras"), "labels": ["a", "b", "c"]},
        "sequence": {"id": "id", "start": "first", "end": "last", "gap": f"{GAP_MS}ms"},
        "state": {"directory": str(folder / "state"), "checkpoint_interval": "1s"},
        "http": {"host": "127.0.0.1", "port": 0},
    } | more


def by_stream(outputs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Outputs per stream, in the order in which they were written."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for output in outputs:
        found[output["stream"]].append(output)
    return found
