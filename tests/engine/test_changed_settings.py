"""Texts that are unfinished when a worker stops, and go on under other settings."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.test_feedback import greedy, told
from tests.engine.toy_texts import PARTITION, Row, ToyDecoder, events, generation, prompt, translation
from worker.engine.feedback import FeedbackEngine
from worker.records.events import Events, Kind, Reset
from worker.records.prompts import Finish
from worker.records.states import PartitionState

TEXT = prompt([1, 2], 3)
WHOLE = greedy(ToyDecoder(), [1, 2], 9)[0]


def begun(*rows: Row, mode: str = "every_event") -> PartitionState:
    """A checkpoint: all of these are read, and none is worked on."""
    engine = generation(mode=mode)
    engine.read([events(list(rows))])
    return engine.table.snapshot(PARTITION, 0)


def resumed(state: PartitionState, **settings: Any) -> FeedbackEngine:
    engine = generation(partitions=(), **settings)
    engine.table.open(PARTITION, state)
    return engine


def test_an_owed_text_whose_stream_does_not_fit_any_more_is_a_dead_letter() -> None:
    rows = [Row(name, TEXT) for name in "abcd"]
    engine = resumed(begun(*rows), max_streams=2)
    reading = engine.read([events([Row(name, TEXT) for name in "abcd"])])
    (answer,) = reading.answers
    assert [(each.record, each.error) for each in answer.refusals] == [(0, "stream_forgotten"), (1, "stream_forgotten")]
    assert "state.max_streams" in answer.refusals[0].reason
    assert list(engine.table.partitions[PARTITION].unfinished) == [2, 3]
    assert set(engine.table.partitions[PARTITION].rows) == {"c", "d"}
    assert sorted(each[:3] for each in told(engine)) == [("c", -1, WHOLE[:3]), ("d", -1, WHOLE[:3])]
    engine.read([events([Row("a", TEXT)], 4)])
    assert [each[5] for each in told(engine)] == [Reset.EVICTED]


def test_of_a_record_that_was_answered_there_is_none_and_of_a_command_neither() -> None:
    rows = [Row("a", TEXT), Row("b", TEXT), Row("b", kind=Kind.RESET), Row("c", TEXT)]
    engine = resumed(begun(*rows), max_streams=1)
    batches = [events(list(rows[:1]), replay=True), events(list(rows[1:2]), 1), events(list(rows[2:]), 2)]
    found = [[(each.record, each.error) for each in answer.refusals] for answer in engine.read(batches).answers]
    assert found == [[], [(0, "stream_forgotten")], []]
    assert [each[0] for each in told(engine)] == ["c"]
    assert not engine.busy
    assert not engine.table.partitions[PARTITION].unfinished


@pytest.mark.parametrize("sent", [1, 2, 7])
def test_a_whole_text_is_sent_whatever_of_its_items_was(sent: int) -> None:
    engine = resumed(begun(Row("a", TEXT), mode="every_item"))
    engine.read([events([Row("a", TEXT)], sent={0: sent})])
    assert [each[1:4] for each in told(engine)] == [(-1, WHOLE[:3], Finish.LENGTH)]


def test_all_items_are_sent_of_a_text_that_was_to_be_whole() -> None:
    engine = resumed(begun(Row("a", TEXT)), mode="every_item")
    engine.read([events([Row("a", TEXT)])])
    assert [each[1:3] for each in told(engine)] == [(number, [WHOLE[number]]) for number in range(3)]


@pytest.mark.parametrize("sent", [3, 4, 9])
@pytest.mark.parametrize("most", [1, 1000])
def test_a_text_that_ends_before_what_was_sent_of_it_says_so(sent: int, most: int) -> None:
    row = Row("a", prompt([1, 2], 3, finish=Finish.MAX_LENGTH), end=True)
    engine = resumed(begun(row, mode="every_item"), mode="every_item")
    engine.read([events([row, Row("b", TEXT)], sent={0: sent})])
    found = [each for each in told(engine, most) if each[0] == "a"]
    assert found == [("a", sent, [], Finish.MAX_LENGTH, 5, Reset.NEW, True)]


def test_so_does_one_that_a_stop_item_ends_now() -> None:
    row = Row("a", prompt([1, 2], 9))
    stop = WHOLE[4]
    engine = resumed(begun(row, mode="every_item"), mode="every_item", model=ToyDecoder(stop=stop))
    engine.read([events([row], sent={0: 7})])
    assert [each[1:4] for each in told(engine)] == [(7, [], Finish.STOP)]


def test_a_dead_letter_ends_it_too() -> None:
    row = Row("a", prompt([5], 9))
    engine = resumed(begun(row, mode="every_item"), mode="every_item", model=ToyDecoder(poison=5))
    engine.read([events([row], sent={0: 7})])
    ((_, texts),) = engine.work(100)
    assert not len(texts.events)
    assert [each.error for each in texts.refusals] == ["invalid_state"]


def test_the_note_has_room_for_what_was_sent_of_texts_that_are_shorter_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.jobs.NOTE_RECORD_CHARACTERS", 0)
    monkeypatch.setattr("worker.engine.jobs.LIST_CHARACTERS_LIMIT", 5)
    for sent, full in ((0, False), (1 << 20, True)):
        engine = resumed(begun(Row("a", TEXT)))
        engine.read([events([Row("a", TEXT)], sent={0: sent})])
        assert bool(engine.full()) == full


FIRST, OWED, NEXT = Row("a", TEXT, end=True), Row("a", TEXT), Row("a", prompt([3], 2))
AT_ZERO = greedy(ToyDecoder(), [3], 2)[0]


def rest(rows: list[Row], gone: set[int], compacted: bool) -> list[Events]:
    """The log as it is after a restart: records that the decoder refuses now, or that are there no more."""
    if compacted:
        return [events([row], number) for number, row in enumerate(rows) if number not in gone]
    return [events([None if number in gone else row for number, row in enumerate(rows)])]


@pytest.mark.parametrize("compacted", [True, False])
@pytest.mark.parametrize(
    ("rows", "gone", "wanted"),
    [
        ([FIRST, OWED, NEXT], {1}, [Reset.NEW, Reset.END]),
        ([FIRST, OWED, NEXT], {0}, [Reset.END, Reset.NONE]),
        ([OWED, OWED, NEXT], {0}, [Reset.NEW, Reset.NONE]),
        ([OWED, OWED, NEXT], {1}, [Reset.NEW, Reset.NONE]),
        ([OWED, OWED, NEXT], {0, 1}, [Reset.NEW]),
        ([FIRST, OWED, OWED, OWED, NEXT], {1, 2, 3}, [Reset.NEW, Reset.END]),
        ([FIRST, OWED, Row("a", TEXT, start=True)], {1}, [Reset.NEW, Reset.START]),
        ([FIRST, OWED, Row("b", TEXT), NEXT], {1}, [Reset.NEW, Reset.NEW, Reset.END]),
        ([OWED, Row("a", TEXT, start=True), Row("a", kind=Kind.RESET), NEXT], {1}, [Reset.NEW, Reset.COMMAND]),
        ([OWED, Row("a", TEXT, start=True), Row("a", kind=Kind.SET_STATE), NEXT], {1}, [Reset.NEW, Reset.NONE]),
        ([OWED, Row("a", kind=Kind.RESET), NEXT], {1}, [Reset.NEW, Reset.COMMAND]),
        ([OWED, Row("a", kind=Kind.SET_STATE, state=3.0), NEXT], {1}, [Reset.NEW, Reset.COMMAND]),
    ],
)
@pytest.mark.parametrize("known", [0, 1, 9])  # records at the end that the checkpoint doesn't know
def test_an_owed_record_that_is_not_run_again_passes_its_reset_on(
    rows: list[Row], gone: set[int], wanted: list[Reset], compacted: bool, known: int
) -> None:
    read = rows[: max(len(rows) - known, max(gone) + 1)]
    engine = resumed(begun(*read))
    engine.read(rest(rows, gone, compacted))
    found = told(engine)
    assert [each[5] for each in found] == wanted
    if wanted[-1] not in (Reset.NONE, Reset.START):
        assert found[-1][2] == AT_ZERO
    assert not engine.table.partitions[PARTITION].unfinished


def test_so_does_a_part_of_a_source() -> None:
    rows = [Row("a", prompt([1])), Row("a", prompt([2]), start=True), Row("a", prompt([3]), end=True)]
    before, after, alone = translation(), translation(partitions=()), translation()
    before.read([events(list(rows))])
    after.table.open(PARTITION, before.table.snapshot(PARTITION, 0))
    after.read([events([rows[0], None, rows[2]])])
    alone.read([events([rows[2]])])
    assert [(*each[:5], Reset.NEW, *each[6:]) for each in told(after)] == told(alone)
    assert after.sources_dropped == 1


def test_what_was_held_back_by_one_begins_though_the_next_record_has_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = resumed(begun(Row("a", TEXT), Row("b", TEXT)))
    monkeypatch.setattr("worker.engine.jobs.UNFINISHED_RECORDS_LIMIT", 1)
    reading = engine.read([events([Row("a", TEXT)]), events([Row("c", TEXT)], 2)])
    assert len(reading.left_over) == 1
    assert [each[0] for each in told(engine)] == ["a"]


def kept_over(*parts: tuple[str, list[Row]]) -> list[tuple[list[int], bool]]:
    """(tokens, final) of the outputs, where each of these parts of the log is read under an emission of its own."""
    state, found, number = None, [], 0
    for mode, rows in parts:
        engine = generation(mode=mode, partitions=())
        engine.table.open(PARTITION, state)
        engine.read([events([*rows], number)])
        found += [(each[2], each[6]) for each in told(engine)]
        number += len(rows)
        state = engine.table.snapshot(PARTITION, number)
    return found


def test_items_kept_of_a_sequence_are_gone_with_it_whatever_is_sent() -> None:
    one, two, last = Row("a", TEXT, id=1), Row("a", TEXT, id=2), Row("a", prompt([3], 2), id=2, end=True)
    texts = kept_over(("every_event", [two, last]))
    whole = [*texts[0][0], *texts[1][0]]
    for mode in ("every_event", "every_item"):
        found = kept_over(("sequence_end", [one]), (mode, [one, two]), ("sequence_end", [last]))
        assert found[-1] == texts[1]
    assert kept_over(("sequence_end", [one]), ("every_event", []), ("sequence_end", [two, last])) == [(whole, True)]


def test_a_text_of_a_sequence_begins_where_such_texts_were_last_asked_for() -> None:
    rows = [Row("a", TEXT), Row("a", TEXT), Row("a", prompt([3], 2)), Row("a", prompt([3], 2), end=True)]
    wanted = kept_over(("every_event", rows))
    last = [*wanted[2][0], *wanted[3][0]], True
    found = kept_over(("sequence_end", rows[:1]), ("every_event", rows[1:2]), ("sequence_end", rows[2:]))
    assert found[-1] == last


@pytest.mark.parametrize("mode", ["every_event", "every_item", "sequence_end"])
def test_the_end_of_a_sequence_is_said_though_nothing_is_drawn(mode: str) -> None:
    engine = generation(mode=mode)
    engine.read([events([Row("a", prompt([1, 2], 0)), Row("a", prompt([3], 0), end=True), Row("a", TEXT)])])
    assert [each[6] for each in told(engine, 1)].count(True) == 1
