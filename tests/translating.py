"""A small encoder-decoder model, sources in records, and what each must become: by the model as it was trained."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = [*"abcdefghijklmnopqrstuvwxyz"]
TARGET = ["<s>", "</s>", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit"]
MAX_LENGTH = 30


@dataclass(slots=True)
class Sources:
    """Records in the order in which they are sent; of each that ends a source, its items by id."""

    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    ends: dict[int, list[int]] = field(default_factory=dict)


def save_model(file: Path, seed: int = 1) -> Any:
    """Trained on [source, target] with teacher forcing: LSTM to LSTM. Returns it."""
    from worker.model.backend import keras

    layers = keras.layers
    keras.utils.set_random_seed(seed)
    source = keras.Input((None,), dtype="int32", name="source")
    target = keras.Input((None,), dtype="int32", name="target")
    _, h, c = layers.LSTM(16, return_state=True, name="encoder")(layers.Embedding(len(SOURCE), 8)(source))
    given = layers.Embedding(len(TARGET), 8)(target)
    told = layers.LSTM(16, return_sequences=True, name="decoder")(given, initial_state=[h, c])
    model = keras.Model([source, target], layers.Dense(len(TARGET), activation="softmax")(told))
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 0.8, weight.shape) for weight in model.get_weights()])
    model.save(file)
    return model


def configuration(
    folder: Path, servers: str, client: str, topics: tuple[str, str, str], delivery: str, emit: str = "every_event"
) -> dict[str, Any]:
    """Of a worker that translates."""
    kafka = {"bootstrap_servers": servers, "client": client, "group_id": f"group-{topics[0]}"}
    return {
        "kafka": {**kafka, "instance_id": "member-1"},
        "input": {"topic": topics[0]},
        "output": {"topic": topics[1], "emit": emit},
        "dead_letters": {"topic": topics[2]},
        "model": {
            "path": str(folder / "model.keras"), "task": "seq2seq", "source_vocabulary": SOURCE,
            "target_vocabulary": TARGET, "start": "<s>", "stop": "</s>", "max_length": MAX_LENGTH,
        },
        "sequence": {"end": "last"},
        "state": {"directory": str(folder / "state"), "checkpoint_interval": "1s"},
        "delivery": delivery,
        "http": {"port": 0},
    }  # fmt: skip


def make_sources(count: int, streams: int, seed: int = 4) -> Sources:
    """Sources in one record, in chunks and item by item; some end with a record that has no items."""
    rng = np.random.default_rng(seed)
    found = Sources()
    waiting: list[list[int]] = [[] for _ in range(streams)]
    while len(found.ends) < count:
        stream = int(rng.integers(streams))
        ids = rng.integers(len(SOURCE), size=int(rng.integers(1, 6))).tolist()
        asked: dict[str, Any] = (
            {"text": "".join(SOURCE[item] for item in ids)} if rng.random() < 0.7 else {"tokens": ids}
        )
        if rng.random() < 0.4:
            asked["last"] = True
            if waiting[stream] and rng.random() < 0.3:
                asked, ids = {"last": True}, []
        waiting[stream] += ids
        if asked.get("last"):
            found.ends[len(found.keys)], waiting[stream] = waiting[stream], []
        found.keys.append(b"source-%02d" % stream)
        found.values.append(json.dumps(asked).encode())
    return found


def expected(sources: Sources, model: Any) -> dict[int, tuple[list[int], str]]:
    """Of each record that ends a source: the likeliest items, one after the other, and why they end."""
    told = {}
    for index, source in sources.ends.items():
        target, finish = [TARGET.index("<s>")], "max_length"
        while len(target) <= MAX_LENGTH:
            answer = np.asarray(model([np.array([source]), np.array([target])], training=False))[0, -1]
            item = int(answer.argmax())
            if TARGET[item] == "</s>":
                finish = "stop"
                break
            target.append(item)
        told[index] = target[1:], finish
    return told
