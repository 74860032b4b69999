"""Why a stream is at zero is said by an output: by the next one, where a record can't say it."""

from __future__ import annotations

import pytest

from tests.engine.test_feedback import told
from tests.engine.toy_texts import Row, ToyDecoder, ToyEncoder, ToyTranslator, events, generation, prompt, translation
from worker.engine.boundaries import BoundaryRules
from worker.engine.feedback import FeedbackEngine
from worker.records.events import Kind, Reset

TEXT, NOTHING, POISON = prompt([1, 2], 3), prompt([], 3), prompt([5], 3)


def resets(engine: FeedbackEngine, rows: list[Row], together: bool) -> list[tuple[int, bool]]:
    """(reset, final) of the outputs, when the records are read at once, or each when those before it are complete."""
    if together:
        engine.read([events(list(rows))])
        return [each[5:7] for each in told(engine)]
    found = []
    for number, row in enumerate(rows):
        engine.read([events([row], number)])
        found += [each[5:7] for each in told(engine)]
    return found


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([Row("a", NOTHING), Row("a", TEXT), Row("a", NOTHING)], [Reset.NEW, Reset.NONE]),
        ([Row("a", NOTHING), Row("a", NOTHING), Row("a", TEXT)], [Reset.NEW]),
        ([Row("a", TEXT), Row("a", NOTHING, start=True), Row("a", TEXT)], [Reset.NEW, Reset.START]),
        ([Row("a", TEXT, end=True), Row("a", NOTHING), Row("a", TEXT)], [Reset.NEW, Reset.END]),
        ([Row("a", NOTHING), Row("a", TEXT, start=True)], [Reset.START]),
        ([Row("a", NOTHING, end=True), Row("a", TEXT)], [Reset.END]),
        ([Row("a", NOTHING), Row("a", kind=Kind.RESET), Row("a", TEXT)], [Reset.COMMAND]),
        ([Row("a", NOTHING), Row("a", kind=Kind.SET_STATE), Row("a", TEXT)], [Reset.NONE]),
        ([Row("a", TEXT), Row("a", POISON), Row("a", NOTHING), Row("a", TEXT)], [Reset.NEW, Reset.INVALID_STATE]),
        ([Row("a", POISON), Row("a", NOTHING), Row("a", NOTHING), Row("a", TEXT)], [Reset.INVALID_STATE]),
        ([Row("a", NOTHING), Row("a", POISON), Row("a", TEXT)], [Reset.INVALID_STATE]),
    ],
)
def test_a_record_that_has_nothing_to_continue_passes_its_reason_on(
    rows: list[Row], wanted: list[Reset], together: bool
) -> None:
    engine = generation(ToyDecoder(poison=5))
    assert [reset for reset, _ in resets(engine, rows, together)] == wanted
    assert engine.resets[Reset.NEW] == 1
    assert engine.resets[Reset.INVALID_STATE] == wanted.count(Reset.INVALID_STATE)


@pytest.mark.parametrize("together", [True, False])
def test_a_reason_that_is_passed_on_begins_no_sequence(together: bool) -> None:
    rows = [Row("a", NOTHING), Row("a", TEXT), Row("a", TEXT), Row("a", NOTHING), Row("a", TEXT), Row("a", TEXT)]
    found = resets(generation(rules=BoundaryRules(length=3)), rows, together)
    none, length = Reset.NONE, Reset.LENGTH
    assert found == [(Reset.NEW, False), (none, True), (length, False), (none, True)]


@pytest.mark.parametrize("together", [True, False])
def test_so_does_one_whose_source_is_too_long(together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.translation.SOURCE_ITEMS_LIMIT", 2)
    engine = translation(ToyTranslator(ToyEncoder(reads_whole=True)))
    rows = [Row("a", prompt([1, 2, 3])), Row("a", prompt([1]), end=True)]
    assert resets(engine, rows, together) == [(Reset.NEW, True)]


@pytest.mark.parametrize("together", [True, False])
def test_each_return_to_zero_is_counted_once(together: bool) -> None:
    engine = generation(ToyDecoder(poison=5))
    rows = [Row("a", TEXT), Row("a", POISON), Row("a", POISON), Row("a", NOTHING), Row("a", TEXT), Row("a", POISON)]
    assert [reset for reset, _ in resets(engine, rows, together)] == [Reset.NEW, Reset.INVALID_STATE]
    assert engine.resets[Reset.INVALID_STATE] == 2
