"""How much one call of ``work`` does and tells, at most."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.test_feedback import greedy, told
from tests.engine.toy_texts import Row, ToyDecoder, ToyTranslator, events, generation, prompt, translation


def begin(engine: Any, streams: int, length: int) -> None:
    engine.read([events([Row(f"s{number}", prompt([1], length), end=True) for number in range(streams)])])


@pytest.mark.parametrize(
    ("numbers", "units", "rows", "steps"),
    [
        (4_194_304, 64, 40, 64),  # all rows, and as many steps as ever
        (7 * 800, 7, 40, 20),
        (7 * 40, 7, 40, 1),
        (7 * 30, 7, 30, 1),
        (7 * 3, 7, 16, 1),  # 16 rows, and one step
        (1, 7, 16, 1),
    ],
)
def test_a_large_vocabulary_makes_calls_small(
    numbers: int, units: int, rows: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.engine.feedback.NUMBERS_AT_ONCE", numbers)
    model = ToyDecoder(units=units)
    engine = generation(model)
    begin(engine, 40, 99)
    engine.work(1000)
    assert (model.rows[0], model.steps[0]) == (rows, steps)
    assert sum(each * of for each, of in zip(model.rows, model.steps, strict=True)) <= max(rows, numbers // units)
    assert {tuple(each[2]) for each in told(engine)} == {tuple(greedy(model, [1], 99)[0])}


def test_beams_count_as_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.feedback.NUMBERS_AT_ONCE", 7 * 8 * 3)
    monkeypatch.setattr("worker.engine.feedback.LEAST_ROWS", 1)
    found = {}
    for beams in (1, 3):
        engine = translation(ToyTranslator(), beams=beams)
        begin(engine, 40, 5)
        engine.work(1000)
        found[beams] = engine.items_fed
    assert found == {1: 24, 3: 8}


def test_texts_that_are_complete_together_are_told_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.telling.TOLD_BYTES_AT_ONCE", 10_000)
    monkeypatch.setattr("worker.engine.telling.OUTPUT_BYTES", 0)
    engine = generation(item_bytes=100)
    begin(engine, 10, 30)  # 3,000 bytes and more each
    counts = []
    while engine.busy:
        counts.append(sum(len(texts.events) for _, texts in engine.work(1000)))
    assert [count for count in counts if count] == [3, 3, 3, 1]


@pytest.mark.parametrize("mode", ["every_event", "every_item"])
def test_one_is_told_however_large_it_is(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.telling.TOLD_BYTES_AT_ONCE", 1)
    engine = generation(mode=mode)
    begin(engine, 3, 2)
    counts = []
    while engine.busy:
        counts.append(sum(len(texts.events) for _, texts in engine.work(1000)))
    assert counts == [1] * (3 if mode == "every_event" else 6)
