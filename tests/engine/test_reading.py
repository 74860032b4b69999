"""What is decided when a record is read, and which records must wait until others are complete."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.test_feedback import greedy, told
from tests.engine.toy_texts import PARTITION, Row, ToyDecoder, events, generation, prompt
from worker.engine.boundaries import BoundaryRules
from worker.engine.feedback import FeedbackEngine
from worker.records.arrays import NO_TIME_MS
from worker.records.events import Kind, Origin, Reset
from worker.records.ownership import Partition
from worker.records.prompts import Finish
from worker.records.states import Unfinished

TEXT = prompt([1, 2], 3)


def read(engine: FeedbackEngine, *rows: Row | None, first: int = 0, **more: Any) -> tuple[int, int]:
    """(records read, records left over)."""
    reading = engine.read([events(list(rows), first, **more)])
    return sum(len(each.batch) for each in reading.accepted), sum(len(each.batch) for each in reading.left_over)


def unfinished(engine: FeedbackEngine) -> list[int]:
    return list(engine.table.partitions[PARTITION].unfinished)


def finish(engine: FeedbackEngine) -> None:
    told(engine)


def test_a_tombstone_waits_for_the_text_of_its_stream_and_so_does_what_follows() -> None:
    engine = generation()
    assert read(engine, Row("a", TEXT), Row("b", TEXT), Row("a", kind=Kind.TOMBSTONE), Row("c", TEXT)) == (2, 2)
    assert engine.full() == {PARTITION}
    assert engine.table.partitions[PARTITION].read_to == 2
    assert read(engine, Row("a", kind=Kind.TOMBSTONE), Row("c", TEXT), first=2) == (0, 2)
    finish(engine)
    assert engine.full() == set()
    assert read(engine, Row("a", kind=Kind.TOMBSTONE), Row("c", TEXT), first=2) == (2, 0)
    assert set(engine.table.partitions[PARTITION].rows) == {"b", "c"}


def test_another_partition_does_not_wait() -> None:
    other = Partition("in", 1)
    engine = generation(partitions=(PARTITION, other))
    tombstone = Row("a", kind=Kind.TOMBSTONE)
    batches = [events([Row("a", TEXT), tombstone]), events([Row("x", TEXT)], partition=other), events([None], 2)]
    reading = engine.read(batches)
    assert [(each.batch.partition.number, len(each.batch)) for each in reading.accepted] == [(0, 1), (1, 1)]
    assert [(each.batch.partition.number, each.batch.offsets) for each in reading.left_over] == [(0, [1]), (0, [2])]


def test_a_stream_that_falls_idle_is_forgotten_when_its_text_is_complete() -> None:
    engine = generation(rules=BoundaryRules(idle_ms=100))
    assert read(engine, Row("a", TEXT, 1000), Row("b", TEXT, 1050), Row("b", TEXT, 1101)) == (2, 1)
    finish(engine)
    assert read(engine, Row("b", TEXT, 1101), first=2) == (1, 0)
    assert set(engine.table.partitions[PARTITION].rows) == {"b"}
    assert engine.table.idle == 1


def test_a_full_partition_waits_for_the_stream_that_must_go_and_takes_no_other() -> None:
    engine = generation(max_streams=2)
    assert read(engine, Row("a", prompt([1], 90)), Row("b", prompt([1], 0)), Row("c", TEXT)) == (2, 1)
    engine.work(1)
    while 0 in unfinished(engine):
        assert read(engine, Row("c", TEXT), first=2) == (0, 1)
        engine.work(1000)
    assert read(engine, Row("c", TEXT), first=2) == (1, 0)
    assert set(engine.table.partitions[PARTITION].rows) == {"b", "c"}


def test_a_reset_comes_behind_the_texts_of_its_stream() -> None:
    engine = generation()
    assert read(engine, Row("a", TEXT), Row("a", kind=Kind.RESET), Row("a", prompt([4], 2))) == (3, 0)
    first, _ = greedy(ToyDecoder(), [1, 2], 3)
    second, _ = greedy(ToyDecoder(), [4], 2)
    assert [(each[2], each[4], each[5]) for each in told(engine)] == [(first, 5, Reset.NEW), (second, 3, Reset.COMMAND)]


def test_a_state_that_is_set_is_the_next_texts_first() -> None:
    engine = generation()
    rows = [Row("a", TEXT), Row("a", kind=Kind.SET_STATE, state=9.0), Row("a", prompt([4], 2)), Row("a", prompt([]))]
    assert read(engine, *rows, Row("n", kind=Kind.SET_STATE, state=5.0), Row("n", prompt([])))[0] == 6
    answers = [(each[0], each[2], each[5]) for each in told(engine)]
    text, h = greedy(ToyDecoder(), [4], 2, 9.0)
    assert ("a", text, Reset.NONE) in answers
    assert ("a", greedy(ToyDecoder(), [], 3, h)[0], Reset.NONE) in answers
    assert not [each for each in answers if each[0] == "n"]  # it has no last output to draw from
    row = engine.table.partitions[PARTITION].rows["n"]
    assert engine.table.states[row, 0] == 5.0
    assert engine.table.origins[row] == Origin.IMPORTED


def test_what_a_command_has_no_stream_for_is_counted() -> None:
    engine = generation()
    assert read(engine, Row("a", kind=Kind.RESET), Row("a", kind=Kind.TOMBSTONE)) == (2, 0)
    assert engine.without_stream == 2
    assert not engine.busy


def test_length_counts_records() -> None:
    engine = generation(rules=BoundaryRules(length=2))
    read(engine, *[Row("a", prompt([1], 1))] * 5)
    assert [(each[5], each[6]) for each in told(engine)] == [
        (Reset.NEW, False),
        (Reset.NONE, True),
        (Reset.LENGTH, False),
        (Reset.NONE, True),
        (Reset.LENGTH, False),
    ]
    assert engine.resets[Reset.LENGTH] == 2


@pytest.mark.parametrize(("late", "error"), [("accept", []), ("drop", []), ("dead_letter", ["late"])])
def test_late_records(late: Any, error: list[str]) -> None:
    engine = generation(rules=BoundaryRules(late=late))
    reading = engine.read([events([Row("a", TEXT, 1000), Row("a", TEXT, 999), Row("a", TEXT, NO_TIME_MS)])])
    assert [each.error for each in reading.answers[0].refusals] == error
    assert engine.late == 1
    assert len(told(engine)) == (3 if late == "accept" else 2)


def test_the_clock_does_not_move_before_a_record_is_read() -> None:
    engine = generation()
    read(engine, Row("a", TEXT, 1000), Row("a", None, 5000, Kind.TOMBSTONE))
    assert engine.table.partitions[PARTITION].clock == 1000


def test_unfinished_records_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = generation()
    monkeypatch.setattr("worker.engine.jobs.UNFINISHED_RECORDS_LIMIT", 3)
    assert read(engine, *[Row(name, TEXT) for name in "abcde"]) == (3, 2)
    assert engine.full() == {PARTITION}
    finish(engine)
    assert engine.full() == set()


@pytest.mark.parametrize(
    ("limit", "value", "taken"),
    [("UNFINISHED_BYTES_LIMIT", 4, 2), ("READ_AHEAD_RECORDS_LIMIT", 0, 1), ("LIST_CHARACTERS_LIMIT", 30, 3)],
)
def test_so_are_their_bytes_how_far_ahead_is_read_and_the_note(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int, taken: int
) -> None:
    engine = generation(mode="every_item")
    monkeypatch.setattr(f"worker.engine.jobs.{limit}", value)
    monkeypatch.setattr("worker.engine.jobs.NOTE_RECORD_CHARACTERS", 25)
    done = 0
    for number, name in enumerate("abcde"):
        done += read(engine, Row(name, TEXT), first=number)[0]
        if engine.full():
            break
    assert done == taken


def test_one_stream_that_asks_for_much_holds_up_no_other() -> None:
    engine = generation()
    read(engine, Row("a", prompt([1], 10_000)))
    engine.work(1000)
    read(engine, Row("b", prompt([1], 40)), first=1)
    ((answered, _),) = engine.work(1000)
    assert answered.streams == ["b"]


def test_more_streams_than_rows_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.feedback.STREAMS_AT_ONCE", 4)
    monkeypatch.setattr("worker.engine.feedback.STEPS_AT_ONCE", 5)
    model = ToyDecoder()
    engine = generation(model)
    read(
        engine,
        *[Row(f"long{n}", prompt([1], 500)) for n in range(8)],
        *[Row(f"s{n}", prompt([1], 5)) for n in range(8)],
    )
    short: set[str] = set()
    for _ in range(12):
        for answered, _texts in engine.work(1000):
            short |= set(answered.streams)
    assert short == {f"s{n}" for n in range(8)}
    assert max(model.rows) == 4


def test_a_dropped_partition_takes_its_texts_with_it() -> None:
    engine = generation()
    read(engine, Row("a", prompt([1], 500)), Row("b", TEXT))
    engine.work(1)
    engine.table.drop(PARTITION)
    engine.table.open(PARTITION)
    assert engine.work(1000) == []
    assert not engine.busy
    assert read(engine, Row("a", TEXT)) == (1, 0)
    assert [each[2] for each in told(engine)] == [greedy(ToyDecoder(), [1, 2], 3)[0]]


def test_an_unfinished_text_is_written_again_after_a_restart_and_its_sent_items_are_not_sent_again() -> None:
    engine = generation(mode="every_item")
    read(engine, Row("a", prompt([1], 1)), Row("b", prompt([2], 6)), Row("b", prompt([3], 2), end=True))
    sent = [tokens for _, texts in engine.work(3) for tokens in texts.tokens]
    state = engine.table.snapshot(PARTITION, unfinished(engine)[0])
    assert state.unfinished == [Unfinished(1, "b", Reset.NEW, False), Unfinished(2, "b", Reset.NONE, True)]
    again = generation(mode="every_item", partitions=())
    again.table.open(PARTITION, state)
    marks = {offset: each.sent for offset, each in engine.table.partitions[PARTITION].unfinished.items()}
    assert marks == {1: 2, 2: 0}
    assert read(again, Row("b", prompt([2], 6)), Row("b", prompt([3], 2), end=True), first=1, sent=marks) == (2, 0)
    assert len(sent) == 3
    assert [each[1:] for each in told(again)] == [each[1:] for each in told(engine)]


def test_what_was_complete_before_a_restart_is_skipped_and_a_replay_says_nothing() -> None:
    engine = generation()
    read(engine, Row("a", prompt([1], 200)), Row("b", prompt([2], 3)))
    while len(unfinished(engine)) > 1:
        engine.work(100)
    again = generation(partitions=())
    again.table.open(PARTITION, engine.table.snapshot(PARTITION, 0))
    assert read(again, Row("a", prompt([1], 200)), Row("b", prompt([2], 3)), Row("c", TEXT), replay=True) == (3, 0)
    assert unfinished(again) == [0, 2]
    assert told(again) == []
    read(again, Row("b", prompt([], 2)), Row("a", prompt([], 2)), first=3)
    whole = greedy(ToyDecoder(), [1], 202)[0]
    assert [each[2] for each in told(again) if each[0] == "a"] == [whole[200:]]


def test_work_waits_until_all_that_was_unfinished_before_a_restart_has_been_read_again() -> None:
    engine = generation()
    read(engine, *[Row("a", prompt([1], 1))] * 2)
    again = generation(partitions=())
    again.table.open(PARTITION, engine.table.snapshot(PARTITION, 0))
    read(again, Row("a", prompt([1], 1)))
    assert not again.busy
    read(again, None, first=1)  # it can't be read any more
    assert again.busy
    assert unfinished(again) == [0]
    assert len(told(again)) == 1


def test_what_is_not_finite_says_so_at_the_next_record_and_other_reasons_come_first() -> None:
    poisoned = Row("a", prompt([5], 3))
    for ready in (True, False):  # whether the next record is read before that is known
        for follows, reset in ((Row("a", TEXT), Reset.INVALID_STATE), (Row("a", TEXT, start=True), Reset.START)):
            engine = generation(ToyDecoder(poison=5))
            read(engine, poisoned)
            if ready:
                ((_, texts),) = engine.work(100)
                assert [each.error for each in texts.refusals] == ["invalid_state"]
            read(engine, follows, first=1)
            assert [(each[2], each[5]) for each in told(engine)] == [(greedy(ToyDecoder(), [1, 2], 3)[0], reset)]


def test_items_before_one_that_is_not_finite_are_outputs_however_many_steps_a_call_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = greedy(ToyDecoder(), [1], 50)[0]
    poison = next(item for item in text if text.index(item) > 2)
    found = []
    for steps in (1, 2, 64):
        monkeypatch.setattr("worker.engine.feedback.STEPS_AT_ONCE", steps)
        engine = generation(ToyDecoder(poison=poison), mode="every_item")
        read(engine, Row("a", prompt([1], 50, finish=Finish.MAX_LENGTH)))
        found.append([each[2] for each in told(engine)])
    assert found == [[[item] for item in text[: text.index(poison)]]] * 3
