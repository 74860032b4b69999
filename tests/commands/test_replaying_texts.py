"""`worker replay` of tasks that generate: outputs in input order, the same bytes however the file is cut."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tests.toy_texts_pipeline import texts_pipeline
from worker.commands.replay.replaying import read_records, replay
from worker.commands.replay.writing import Writer
from worker.engine.boundaries import BoundaryRules

LINES: list[dict[str, Any]] = [
    {"key": "a", "value": {"text": "ab", "length": 60}},
    {"key": "b", "value": {"text": "?", "length": 3}},
    {"key": "b", "value": {"text": "c", "length": 4}, "partition": 1},
    {"key": "a", "value": {"text": "", "length": 2}},
    {"key": "c", "value": {"length": 5}},
    {"key": "a", "value": None},
    {"key": "d", "value": {"text": "d", "length": 9}},
    {"key": "a", "value": {"text": "a", "length": 0}, "partition": 1},
    {"key": "b", "value": {"text": "b", "length": 30}},
    {"key": "d", "value": {"length": 7}},
]


def replayed(mode: str, turn_events: int, max_streams: int = 2) -> tuple[list[Any], tuple[int, int, int]]:
    pipeline = texts_pipeline(mode, BoundaryRules(length=2), max_streams)
    source = io.BytesIO(b"".join(json.dumps(line).encode() + b"\n" for line in LINES))
    target = io.BytesIO()
    counts = replay(
        pipeline, read_records(source, "in", "in", "json"), turn_events, Writer(target, "out", "dead", "json")
    )
    return [json.loads(line) for line in target.getvalue().splitlines()], counts


def identity(line: dict[str, Any]) -> tuple[int, int, int]:
    if line["topic"] == "dead":
        return int(line["headers"]["rnnw.partition"]), int(line["headers"]["rnnw.offset"]), -1
    source = line["value"]["source"]
    return source["partition"], source["offset"], source.get("item", 0)


@pytest.mark.parametrize(("mode", "outputs"), [("every_event", 7), ("every_item", 112)])
def test_texts_are_written_in_input_order_however_the_file_is_cut(
    mode: str, outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.engine.feedback.STEPS_AT_ONCE", 4)
    whole, counts = replayed(mode, 100)
    assert counts == (len(LINES), outputs, 2)
    records = list(dict.fromkeys(identity(line)[:2] for line in whole))
    wanted = [(0, 0), (0, 1), (1, 0), (0, 2), (0, 3), (0, 5), (1, 1), (0, 6), (0, 7)]
    assert records == [each for each in wanted if mode == "every_event" or each != (1, 1)]
    for place in records:
        items = [identity(line)[2] for line in whole if identity(line)[:2] == place]
        assert items in ([-1], list(range(len(items))))
    for turn_events in (1, 2, 3, 7):
        assert replayed(mode, turn_events) == (whole, counts)
