"""``worker replay`` of the tasks that generate: the texts of the model as it was trained, however the file is cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests import generating, translating
from tests.command_line import Command
from tests.models import shaken
from worker.model.backend import keras

TOPICS = ("in", "out", "in.dead")
SOURCE, TARGET = [*"abcdefg"], ["\t", "\n", *"uvwxyz"]


def replayed(command: Command, folder: Path, settings: dict[str, Any], lines: list[dict[str, Any]]) -> bytes:
    """What ``worker replay`` writes."""
    (folder / "worker.yaml").write_text(yaml.safe_dump(settings))
    (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    files = ["--input", str(folder / "in.jsonl"), "--output", str(folder / "out.jsonl")]
    ended = command("replay", "-c", str(folder / "worker.yaml"), *files)
    assert ended.status == 0, ended.err
    return (folder / "out.jsonl").read_bytes()


def values(written: bytes, topic: str = "out") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in written.splitlines()]
    return [line["value"] for line in lines if line["topic"] == topic]


@pytest.mark.parametrize("emit", ["every_event", "every_item"])
def test_texts_are_the_models_however_the_file_is_cut(command: Command, tmp_path: Path, emit: str) -> None:
    model = generating.save_model(tmp_path / "model.keras")
    requests = generating.make_requests(60, 8, 120)
    lines = [{"key": key.decode(), "value": asked} for key, asked in zip(requests.keys, requests.asked, strict=True)]
    settings = generating.configuration(tmp_path, "localhost:1", "kafka-python", TOPICS, "at_least_once", emit)
    settings["batch"] = {"max_events": 4096}
    settings["output"]["copy"] = ["text"]
    written = replayed(command, tmp_path, settings, lines)
    settings["batch"] = {"max_events": 3}
    assert replayed(command, tmp_path, settings, lines) == written
    found = generating.by_record(values(written))
    for offset, told in enumerate(generating.expected(requests, model)):
        assert "".join(answer["text"] for answer in found.get((0, offset), ())) == told.text
    for each in values(written):
        assert each["fields"] == {"text": requests.asked[each["source"]["offset"]].get("text")}
    order = [output["source"]["offset"] for output in values(written)]
    assert order == sorted(order)


def tutorial(file: Path) -> Any:
    """Keras' character tutorial: one-hot vectors on both sides."""
    layers = keras.layers
    source, target = keras.Input((None, len(SOURCE))), keras.Input((None, len(TARGET)))
    _, *states = layers.LSTM(6, return_state=True)(source)
    told = layers.LSTM(6, return_sequences=True)(target, initial_state=states)
    model = shaken(keras.Model([source, target], layers.Dense(len(TARGET), activation="softmax")(told)))
    model.save(file)
    return model


def likeliest(model: Any, source: list[int], length: int) -> list[int]:
    """By the trained model, which is given the whole target so far for each item."""
    target = [0]
    while len(target) <= length and target[-1] != 1:
        given = [np.eye(len(SOURCE))[[source]], np.eye(len(TARGET))[[target]]]
        target.append(int(np.asarray(model(given, training=False))[0, -1].argmax()))
    return [item for item in target[1:] if item != 1]


@pytest.mark.parametrize("given", ["text", "tokens", "vectors"])
def test_a_one_hot_encoder_reads_text_ids_and_vectors(command: Command, tmp_path: Path, given: str) -> None:
    model = tutorial(tmp_path / "model.keras")
    settings = translating.configuration(tmp_path, "localhost:1", "kafka-python", TOPICS, "at_least_once")
    settings["sequence"] = {"length": 1}
    settings["model"] |= {"target_vocabulary": TARGET, "start": "\t", "stop": "\n", "max_length": 9}
    settings["model"]["source_vocabulary"] = SOURCE if given == "text" else None
    if given == "vectors":
        settings["input"]["features"] = "x"
    sources = [[0, 3, 6, 2], [5], [1, 1, 4, 2, 0, 6]]
    forms: dict[str, Any] = {
        "text": lambda ids: {"text": "".join(SOURCE[item] for item in ids)},
        "tokens": lambda ids: {"tokens": ids},
        "vectors": lambda ids: {"x": np.eye(len(SOURCE))[ids].tolist()},
    }
    lines = [{"key": f"k{number}", "value": forms[given](ids)} for number, ids in enumerate(sources)]
    found = values(replayed(command, tmp_path, settings, lines))
    assert [output["tokens"] for output in found] == [likeliest(model, ids, 9) for ids in sources]


def test_sources_that_a_boundary_ends_are_told(command: Command, tmp_path: Path) -> None:
    tutorial(tmp_path / "model.keras")
    settings = translating.configuration(tmp_path, "localhost:1", "kafka-python", TOPICS, "at_least_once")
    settings["sequence"] = {"end": "last", "gap": "10s"}
    settings["model"] |= {"source_vocabulary": None, "target_vocabulary": TARGET, "start": "\t", "stop": "\n"}
    (tmp_path / "worker.yaml").write_text(yaml.safe_dump(settings))
    rows = [
        (0, {"tokens": [1]}),
        (1, {"tokens": [2]}),
        (90_000, {"tokens": [3]}),
        (90_001, {"tokens": [4], "last": True}),
    ]
    lines = [json.dumps({"key": "k", "timestamp": time, "value": value}) for time, value in rows]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    ended = command(
        "replay", "-c", str(tmp_path / "worker.yaml"), "--input", str(tmp_path / "in.jsonl"), "--output", "-"
    )
    assert ended.err.splitlines() == [
        "4 records, 1 outputs, 0 refused",
        "1 sources that a boundary (id, start, gap) ended before they were complete: no output",
    ]


def test_ids_that_the_decoder_does_not_know_are_refused_by_key(command: Command, tmp_path: Path) -> None:
    tutorial(tmp_path / "model.keras")
    settings = translating.configuration(tmp_path, "localhost:1", "kafka-python", TOPICS, "at_least_once")
    settings["model"] |= {"target_vocabulary": None, "source_vocabulary": None, "start": 99, "stop": 1}
    (tmp_path / "worker.yaml").write_text(yaml.safe_dump(settings))
    ended = command("check", "-c", str(tmp_path / "worker.yaml"))
    assert ended.status == 2
    assert "model.start: its ids must be from 0 to 7" in ended.err
