"""A small character model, requests for texts, and what each text must be: worked out one stream at a time, without the
engine and without the graph that draws."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from worker.records.random_numbers import stream_key, uniforms

VOCABULARY = [*"abcdefghijklmnopqrstuvwxyz .,", "\n"]
UNITS = 24
SEED = 7


@dataclass(slots=True)
class Requests:
    """Records in the order in which they are sent."""

    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Told:
    """What must come of one record."""

    tokens: list[int]
    finish: str
    step: int

    @property
    def text(self) -> str:
        return "".join(VOCABULARY[token] for token in self.tokens)


def save_model(file: Path, seed: int = 3) -> Any:
    """Trained on (64, time) ids, as the tutorials build it; weights of a size at which texts differ. Returns it."""
    from worker.model.backend import keras

    layers = keras.layers
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(64, None), dtype="int32"),
            layers.Embedding(len(VOCABULARY), 8),
            layers.LSTM(UNITS, return_sequences=True, name="lstm"),
            layers.TimeDistributed(layers.Dense(len(VOCABULARY), activation="softmax")),
        ]
    )
    rng = np.random.default_rng(seed)
    # Recurrent weights are small, so that differences in rounding die away and don't grow.
    sizes = (1.0, 1.0, 0.2, 0.3, 1.5, 0.3)  # embedding; kernel, recurrent kernel, bias; kernel, bias
    weights = [rng.normal(0, size, weight.shape) for size, weight in zip(sizes, model.get_weights(), strict=True)]
    model.set_weights(weights)
    model.save(file)
    return model


def configuration(
    folder: Path, servers: str, client: str, topics: tuple[str, str, str], delivery: str, emit: str = "every_event"
) -> dict[str, Any]:
    """Of a worker that generates."""
    kafka = {
        "bootstrap_servers": servers,
        "client": client,
        "group_id": f"group-{topics[0]}",
        "instance_id": "member-1",
    }
    return {
        "kafka": {**kafka, "instance_id": "member-1"},
        "input": {"topic": topics[0]},
        "output": {"topic": topics[1], "emit": emit},
        "dead_letters": {"topic": topics[2]},
        "model": {
            "path": str(folder / "model.keras"), "task": "generate", "vocabulary": VOCABULARY, "seed": SEED,
            "stop": "\n", "max_length": 2000,
        },
        "sequence": {"end": "last"},
        "state": {"directory": str(folder / "state"), "checkpoint_interval": "1s"},
        "delivery": delivery,
        "http": {"port": 0},
    }  # fmt: skip


def make_requests(count: int, streams: int, longest: int, seed: int = 5) -> Requests:
    """Streams that begin with text, go on without, feed only, and end, now and then; with temperatures of their own."""
    rng = np.random.default_rng(seed)
    found = Requests()
    begun: set[int] = set()
    for _ in range(count):
        stream = int(rng.integers(streams))
        asked: dict[str, Any] = {"length": int(rng.integers(0, longest))}
        if stream not in begun or rng.random() < 0.4:
            asked["text"] = "".join(rng.choice(VOCABULARY[:-1], int(rng.integers(1, 12))))
        begun.add(stream)
        if rng.random() < 0.5:
            asked["temperature"] = float(rng.choice([0.0, 0.5, 1.3]))
        if rng.random() < 0.1:
            asked["last"] = True
            begun.discard(stream)
        found.keys.append(b"writer-%03d" % stream)
        found.values.append(json.dumps(asked).encode())
        found.asked.append(asked)
    return found


class Alone:
    """One stream's state, stepped by the layers themselves."""

    def __init__(self, model: Any, stream: bytes) -> None:
        self._embedding, self._cell, self._dense = (
            model.layers[0].get_weights()[0], model.layers[1].get_weights(), model.layers[2].get_weights(),
        )  # fmt: skip
        self._key, self._drawn = stream_key(SEED, stream)[np.newaxis], 0
        self.begin()

    def begin(self) -> None:
        """Return to zero."""
        self.h, self.c, self.step = np.zeros(UNITS), np.zeros(UNITS), 0
        self.probabilities: np.ndarray | None = None

    def answer(self, asked: dict[str, Any]) -> Told:
        """Feed the text, draw."""
        for item in asked.get("text", ""):
            self._feed(VOCABULARY.index(item))
        tokens: list[int] = []
        for _ in range(asked["length"]):
            token = self._draw(asked.get("temperature", 1.0))
            self._feed(token)
            if VOCABULARY[token] == "\n":
                return Told(tokens, "stop", self.step)
            tokens.append(token)
        return Told(tokens, "length", self.step)

    def _feed(self, item: int) -> None:
        kernel, recurrent, bias = (weight.astype(np.float64) for weight in self._cell)
        i, f, g, o = np.split(self._embedding[item] @ kernel + self.h @ recurrent + bias, 4)
        self.c = _sigmoid(f) * self.c + _sigmoid(i) * np.tanh(g)
        self.h = _sigmoid(o) * np.tanh(self.c)
        logits = self.h @ self._dense[0] + self._dense[1]
        weights = np.exp(logits - logits.max())
        self.probabilities = weights / weights.sum()
        self.step += 1

    def _draw(self, temperature: float) -> int:
        assert self.probabilities is not None
        number = uniforms(self._key, np.array([self._drawn]), 1)[0, 0]
        self._drawn += 1
        if temperature == 0:
            return int(self.probabilities.argmax())
        weights = np.cumsum(self.probabilities ** (1 / temperature))
        return int(np.searchsorted(weights, number * weights[-1], side="right"))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = 1 / (1 + np.exp(-x))
    return found


def expected(requests: Requests, model: Any) -> list[Told]:
    """What each record's answer says."""
    alone: dict[bytes, Alone] = {}
    told = []
    for key, asked in zip(requests.keys, requests.asked, strict=True):
        stream = alone.setdefault(key, Alone(model, key))
        told.append(stream.answer(asked))
        if asked.get("last"):
            stream.begin()
    return told


def by_record(outputs: list[dict[str, Any]]) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """(partition, offset) → its outputs, in the order in which they were written."""
    found: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for output in outputs:
        found[output["source"]["partition"], output["source"]["offset"]].append(output)
    return found
