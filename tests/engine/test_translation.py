"""Sources in, texts out: task seq2seq with models whose states anyone can compute."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from tests.engine.test_feedback import greedy, told
from tests.engine.toy_texts import PARTITION, Row, ToyDecoder, ToyEncoder, ToyTranslator, events, prompt, translation
from worker.engine.boundaries import BoundaryRules
from worker.records.events import Kind, Reset
from worker.records.prompts import Finish
from worker.records.texts import NO_STOP

WHOLE = pytest.mark.parametrize("whole", [False, True])
END = Row("a", prompt([], 4), end=True)


def source(*items: int, end: bool = False, **more: Any) -> Row:
    return Row("a", prompt(items, 4), end=end, **more)


def translated(*items: int, length: int = 4, stop: int = NO_STOP) -> list[int]:
    """What is written from this source."""
    h = 0.0
    for item in items:
        h = 17 * h + item
    return greedy(ToyDecoder(stop=stop), [0], length, h + 1)[0]


def refusals(engine: Any) -> list[str]:
    found = []
    while engine.busy:
        found += [each.error for _, texts in engine.work(100) for each in texts.refusals]
    return found


@WHOLE
def test_a_source_may_come_item_by_item_or_at_once_and_may_end_without_items(whole: bool) -> None:
    wanted = translated(3, 1, 5)
    for rows in (
        [source(3, 1, 5, end=True)],
        [source(3), source(1), source(5, end=True)],
        [source(3, 1), source(5), source(), END],
    ):
        engine = translation(ToyTranslator(ToyEncoder(whole)))
        engine.read([events(list(rows))])
        assert [(tokens, steps, final) for _, _, tokens, _, steps, _, final in told(engine)] == [(wanted, 3, True)]


@WHOLE
def test_the_next_source_begins_at_zero(whole: bool) -> None:
    engine = translation(ToyTranslator(ToyEncoder(whole)))
    engine.read([events([source(3, 1, end=True), source(5, 2), source(4, end=True)])])
    assert [each[2] for each in told(engine)] == [translated(3, 1), translated(5, 2, 4)]


def test_every_record_may_be_a_source_by_itself() -> None:
    engine = translation(rules=BoundaryRules(length=1))
    engine.read([events([source(3, 1), source(5, 2)])])
    assert [(each[2], each[5]) for each in told(engine)] == [
        (translated(3, 1), Reset.NEW),
        (translated(5, 2), Reset.LENGTH),
    ]


def test_every_item_of_a_text_is_an_output() -> None:
    engine = translation(mode="every_item")
    engine.read([events([source(3), source(1, end=True)])])
    text = translated(3, 1)
    assert [(each[1], each[2], each[4], each[6]) for each in told(engine)] == [
        (number, [item], 2, number == 3) for number, item in enumerate(text)
    ]


@WHOLE
def test_an_end_without_a_source_is_a_dead_letter(whole: bool) -> None:
    engine = translation(ToyTranslator(ToyEncoder(whole)))
    engine.read([events([END, source(), END, source(3, 1), END])])
    assert refusals(engine) == ["empty_source", "empty_source"]


@WHOLE
def test_a_source_that_a_boundary_ends_too_early_is_counted(whole: bool) -> None:
    engine = translation(ToyTranslator(ToyEncoder(whole)))
    rows = [source(3, id=1), source(5, id=2), source(end=True, id=2), source(4, id=3), Row("a", kind=Kind.RESET)]
    engine.read([events([*rows, source(2, end=True, id=3)])])
    assert [(each[2], each[5]) for each in told(engine)] == [
        (translated(5), Reset.NONE),
        (translated(2), Reset.COMMAND),
    ]
    assert engine.sources_dropped == 2


def test_a_source_that_is_read_as_a_whole_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.translation.SOURCE_ITEMS_LIMIT", 3)
    engine = translation(ToyTranslator(ToyEncoder(True)))
    engine.read([events([source(3, 1), source(1, 1), source(5, end=True)])])
    ((_, texts),) = engine.work(100)
    assert [each.error for each in texts.refusals] == ["source_too_long"]
    assert texts.tokens == [translated(3, 1, 5)]


@WHOLE
def test_what_is_not_finite_is_a_dead_letter_and_the_stream_is_at_zero(whole: bool) -> None:
    engine = translation(ToyTranslator(ToyEncoder(whole, poison=6.0), ToyDecoder(poison=3)))
    engine.read([events([source(6), source(2, end=True), source(1, end=True)])])
    found = refusals(engine)
    assert set(found) == {"invalid_state"}
    assert not engine.table.partitions[PARTITION].unfinished


@pytest.mark.parametrize("stop", [NO_STOP, 0, 4])
@pytest.mark.parametrize("items", [(3,), (3, 1), (5, 5, 2), (1, 6, 2, 4)])
def test_enough_beams_find_the_likeliest_text_of_all(items: tuple[int, ...], stop: int) -> None:
    decoder, length = ToyDecoder(stop=stop, units=4), 4
    h = 0.0
    for item in items:
        h = (17 * h + item) % 65_537

    def score(text: tuple[int, ...]) -> float:
        logs, (probabilities, packed) = [], decoder.step(np.array([0]), np.array([[h + 1]]))
        for item in text:
            logs.append(np.log(probabilities[0, item]))
            probabilities, packed = decoder.step(np.array([item]), packed)
        return float(np.mean(logs))

    texts = [text for size in range(1, length + 1) for text in product(range(4), repeat=size)]
    ended = [text for text in texts if stop not in text[:-1] and (text[-1] == stop or len(text) == length)]
    wanted = max(ended, key=score)
    stopped = wanted[-1] == stop
    engine = translation(ToyTranslator(decoder=decoder), beams=1000)
    engine.read([events([Row("a", prompt(items, length, finish=Finish.MAX_LENGTH), end=True)])])
    while engine.busy:
        for _, found in engine.work(10):
            assert found.tokens == [list(wanted[:-1] if stopped else wanted)]
            assert found.finishes == [Finish.STOP if stopped else Finish.MAX_LENGTH]
            assert found.scores is not None
            assert found.scores[0] == pytest.approx(score(wanted))


class LastChance(ToyDecoder):
    """Its stop item, 0, is hardly possible, the others are likely."""

    def step(self, x: Any, packed: Any) -> tuple[Any, Any]:
        probabilities, after = super().step(x, packed)
        probabilities[:] = [0.02, 0.6, 0.3, 0.08]
        return probabilities, after


@pytest.mark.parametrize("beams", [1, 2, 3, 4, 9])
def test_an_unlikely_stop_does_not_win_over_a_likely_text_of_full_length(beams: int) -> None:
    engine = translation(ToyTranslator(decoder=LastChance(stop=0, units=4)), beams=beams)
    engine.read([events([Row("a", prompt((1,), 3, finish=Finish.MAX_LENGTH), end=True)])])
    ((_, found),) = engine.work(10)
    assert (found.tokens, found.finishes) == ([[1, 1, 1]], [Finish.MAX_LENGTH])


def test_a_search_shows_neither_its_turns_nor_its_company(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Row | None] = [Row(f"s{n}", prompt([n % 7, n % 5], 6), end=True) for n in range(20)]
    found = []
    for steps in (1, 2, 64):
        monkeypatch.setattr("worker.engine.feedback.STEPS_AT_ONCE", steps)
        engine = translation(ToyTranslator(decoder=ToyDecoder(stop=2)), beams=3)
        engine.read([events(rows)])
        found.append(sorted(told(engine)))
    alone = []
    for row in rows:
        engine = translation(ToyTranslator(decoder=ToyDecoder(stop=2)), beams=3)
        engine.read([events([row])])
        alone += told(engine)
    assert found == [sorted(alone)] * 3


def test_beams_of_items() -> None:
    engine = translation(mode="every_item", beams=2)
    engine.read([events([Row("a", prompt([3, 1], 4), end=True)])])
    assert [each[1] for each in told(engine, most=1)] == [0, 1, 2, 3]
