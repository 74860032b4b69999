"""``worker check`` and ``worker export`` of models that write texts: what is told, what is refused, what is written."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests import generating, translating
from tests.command_line import Command
from worker import EncoderDecoder, GenerativeModel
from worker.assembly.input_fields import Readings
from worker.commands.check.capacity import OVERHEAD_BYTES
from worker.commands.check.report import Report
from worker.commands.check.writing_times import ITEMS, MEASURE_BUDGET_S, writing_times
from worker.engine.jobs import UNFINISHED_RECORDS_LIMIT
from worker.model.backend import keras
from worker.records.arrays import FloatArray, IntArray
from worker.records.states import StateSpec
from worker.records.writing import Writing, Written

TOPICS = ("in", "out", "dead")


def written(folder: Path, task: str, **model: Any) -> str:
    """The configuration of a small model, with other keys of section model; the path of its file."""
    module: Any = {"generate": generating, "seq2seq": translating}[task]
    if not (folder / "model.keras").exists():
        module.save_model(folder / "model.keras")
    settings = module.configuration(folder, "localhost:1", "kafka-python", TOPICS, "at_least_once")
    settings["model"] |= model
    (folder / "worker.yaml").write_text(yaml.safe_dump(settings))
    return str(folder / "worker.yaml")


def test_a_writer_is_told_with_its_vocabulary_and_its_speed(command: Command, tmp_path: Path) -> None:
    file = written(tmp_path, "generate")
    ended = command("check", "-c", file)
    assert ended.status == 0, ended.err
    for line in (
        "task        generate", "writes      30 characters", r"items       stop '\n', by id", "items/s",
        "proof       holds", "lstm/h",
    ):  # fmt: skip
        assert line in ended.out, line
    report = json.loads(command("check", "-c", file, "--json").out)
    assert report["task"] == "generate"
    assert report["texts"]["target"] == {"kind": "characters", "items": 30}
    assert [each["batch"] for each in report["writing_times"]] == [1, 100, 1000]
    assert report["bytes_per_stream"] == 2 * generating.UNITS * 4 + 30 * 8
    assert report["bytes_per_text"] == 2 * generating.UNITS * 4 + 30 * 4
    assert f"per text    {report['bytes_per_text']} bytes more while it is being written, at most 1,000 of" in ended.out
    each_bytes = report["bytes_per_stream"] + report["overhead_bytes"]
    texts_bytes = UNFINISHED_RECORDS_LIMIT * report["bytes_per_text"]
    assert report["capacity_bytes"] == report["max_streams"] * each_bytes + texts_bytes
    assert report["streams_that_fit"] == (report["free_memory_bytes"] - texts_bytes) // each_bytes


def test_a_translator_is_told_with_both_vocabularies(command: Command, tmp_path: Path) -> None:
    report = json.loads(command("check", "-c", written(tmp_path, "seq2seq"), "--json").out)
    assert report["ok"]
    assert report["texts"]["source"] == {"kind": "characters", "items": 26}
    assert report["texts"]["target"] == {"kind": "words", "items": 10}
    assert (report["texts"]["start"], report["texts"]["stop"]) == ("<s>", "</s>")
    assert [state["layer"] for state in report["states"]] == ["encoder", "encoder"]


def test_fewer_items_of_a_large_vocabulary_are_measured() -> None:
    asked: list[tuple[int, ...]] = []

    class Large:
        units, state_width = 50_000, 1

        def step(self, tokens: IntArray, packed: FloatArray) -> tuple[FloatArray, FloatArray]:
            return np.broadcast_to(np.float32(1 / self.units), (len(tokens), self.units)), packed

        def write(self, writing: Writing) -> Written:
            asked.append(writing.feed.shape)
            return Written(writing.feed, writing.packed, writing.outputs, np.ones(len(writing.feeds), np.bool_))

    writing_times(Large(), 1.0, count(step=MEASURE_BUDGET_S).__next__)
    assert set(asked) == {(ITEMS, 1), (4, 100), (1, 1000)}


@pytest.mark.parametrize(
    ("task", "model", "status", "told"),
    [
        ("generate", {"vocabulary": [*"abc"], "stop": "a"}, 2, "3 items, but the model has 30 outputs"),
        ("generate", {"vocabulary": [*"aa"]}, 2, "model.vocabulary: 'a' is given twice (numbers 0 and 1, from 0)"),
        ("generate", {"stop": "Z"}, 2, "model.stop: 'Z' is not an item of model.vocabulary"),
        ("seq2seq", {"start": "<t>"}, 2, "model.start: '<t>' is not an item of model.target_vocabulary"),
        ("seq2seq", {"source_vocabulary": [*"abc"]}, 2, "3 items, but the model has 26 input ids"),
        ("seq2seq", {"target_vocabulary": ["<s>", "</s>"]}, 2, "2 items, but the model has 10 outputs"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(
    command: Command, tmp_path: Path, task: str, model: dict[str, Any], status: int, told: str
) -> None:
    ended = command("check", "-c", written(tmp_path, task, **model))
    assert ended.status == status
    assert told in ended.err


def test_a_model_that_only_scores_can_not_write(command: Command, tmp_path: Path) -> None:
    layers = keras.layers
    scorer = keras.Sequential([keras.Input((None, 3)), layers.LSTM(4), layers.Dense(2, activation="softmax")])
    scorer.save(tmp_path / "model.keras")
    ended = command("check", "-c", written(tmp_path, "generate", vocabulary=[*"ab"], stop=None))
    assert ended.status == 1
    assert "3" in ended.err
    assert "2" in ended.err
    assert "Traceback" not in ended.err


def test_the_exported_pair_translates_as_the_trained_model_does(command: Command, tmp_path: Path) -> None:
    ended = command("export", "-c", written(tmp_path, "seq2seq"), "--output", str(tmp_path / "pair.keras"))
    assert (ended.status, ended.err) == (0, "")
    more: dict[str, Any] = {"start": 0, "stop": 1, "max_length": 20}
    trained = EncoderDecoder.load(tmp_path / "model.keras", **more)
    pair = EncoderDecoder.load(encoder=tmp_path / "pair-encoder.keras", decoder=tmp_path / "pair-decoder.keras", **more)
    sources = [[3, 1, 4], [1, 5, 9, 2, 6], [5]]
    assert pair.decode(pair.encode(sources)) == trained.decode(trained.encode(sources))
    two = {"encoder": str(tmp_path / "pair-encoder.keras"), "decoder": str(tmp_path / "pair-decoder.keras")}
    assert command("check", "-c", written(tmp_path, "seq2seq", path=two)).status == 0
    ended = command("export", "-c", written(tmp_path, "seq2seq", path=two), "--output", str(tmp_path / "pair.keras"))
    assert ended.status == 1
    assert "this is model.path, the trained model; write to another file" in ended.err


def test_the_exported_writer_is_stepped_by_plain_keras(command: Command, tmp_path: Path) -> None:
    ended = command("export", "-c", written(tmp_path, "generate"), "--output", str(tmp_path / "step.keras"))
    assert (ended.status, ended.err) == (0, "")
    step = keras.models.load_model(tmp_path / "step.keras")
    states = [keras.ops.zeros((1, generating.UNITS))] * 2
    text: list[int] = []
    y, *states = step([keras.ops.convert_to_tensor([[4]]), *states])
    for _ in range(12):
        text.append(int(keras.ops.argmax(y[0, 0])))
        y, *states = step([keras.ops.convert_to_tensor([[text[-1]]]), *states])
    model = GenerativeModel.load(tmp_path / "model.keras")
    assert model.generate_tokens([[4]], 12, temperature=0)[0] == [text]


@pytest.mark.parametrize(
    ("free_bytes", "streams"),
    [(0, 0), (129, 0), (130, 1), (130_000, 1000), (130_099, 1000), (130_100, 1001), (1_030_000, 10_000)],
)
def test_what_streams_that_write_take_is_left_out_of_the_room_for_streams(free_bytes: int, streams: int) -> None:
    one = StateSpec("lstm", "h", (1,))
    report = Report("m", 0.0, 5000, Readings("", ""), bytes_per_text=30, free_memory_bytes=free_bytes, states=[one])
    report.bytes_per_stream = 80
    assert report.overhead_bytes == 20 + OVERHEAD_BYTES
    report.free_memory_bytes = free_bytes + streams * OVERHEAD_BYTES
    assert report.streams_that_fit == streams
