"""Turns are cut out of what polls bring, in events and bytes: lists in, lists out."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.depth import deep, examples
from tests.one_member import command
from tests.sums import batch, sums_pipeline
from worker.pipeline.backlog import Backlog, Taken, TurnLimit, cut_bytes
from worker.records.events import Events
from worker.records.ownership import Partition
from worker.records.parts import part_of
from worker.records.record_batch import RecordBatch

P, Q = Partition("in", 0), Partition("in", 1)
MANY = 10**9


def chunk(events: int) -> bytes:
    """A record of so many events; of none: one that can't be read."""
    return json.dumps({"x": [[1]] * events}).encode() if events else b"{"


def rows(*events: int) -> list[tuple[Any, ...]]:
    return [(b"a", chunk(count)) for count in events]


def decoded(batches: Sequence[RecordBatch], replay: bool = False) -> list[Events]:
    return sums_pipeline(features="x").decode([replace(each, replay=replay) for each in batches])


def moved(taken: Taken) -> list[RecordBatch]:
    """All batches that move positions in this turn, in order."""
    return [*taken.passed, *(events.batch for events in taken.events)]


def turns(backlog: Backlog, limit: TurnLimit, replay: bool = False) -> list[list[tuple[int, list[int]]]]:
    """(partition, offsets) of each piece of each turn, until nothing waits."""
    found = []
    while backlog:
        taken = backlog.take(lambda batches: decoded(batches, replay), limit)
        found.append([(events.batch.partition.number, events.batch.offsets) for events in taken.events])
    return found


@pytest.mark.parametrize(
    ("events", "limit", "wanted"),
    [
        ([1, 1, 1], 4, [[0, 1, 2]]),
        ([1, 1, 1], 3, [[0, 1, 2]]),
        ([1, 1, 1], 2, [[0, 1], [2]]),
        ([3, 3, 3], 7, [[0, 1], [2]]),
        ([9, 1, 1], 4, [[0], [1, 2]]),  # a record is never cut
        ([1, 9, 1], 4, [[0], [1], [2]]),
        ([9, 9, 9], 1, [[0], [1], [2]]),
        ([0, 0, 0], 2, [[0, 1], [2]]),  # what can't be read has a dead letter each
        ([2, 0, 2, 0], 3, [[0, 1], [2, 3]]),
    ],
)
def test_a_turn_holds_at_most_so_many_events(events: list[int], limit: int, wanted: list[list[int]]) -> None:
    backlog = Backlog()
    backlog.add([batch(P, rows(*events))])
    assert turns(backlog, TurnLimit(limit, limit, MANY)) == [[(0, offsets)] for offsets in wanted]


def test_a_turn_of_several_partitions_takes_them_in_order() -> None:
    backlog = Backlog()
    backlog.add([batch(P, rows(1, 1, 3)), batch(Q, rows(1, 1))])
    assert turns(backlog, TurnLimit(4, 4, MANY)) == [[(0, [0, 1])], [(0, [2]), (1, [0])], [(1, [1])]]


def test_what_is_not_answered_again_is_not_bounded_by_what_a_transaction_takes() -> None:
    limit = TurnLimit(4, 1, MANY)
    for replay, wanted in ((False, [[0], [1], [2]]), (True, [[0, 1, 2]])):
        backlog = Backlog()
        backlog.add([batch(P, rows(1, 1, 1))])
        assert turns(backlog, limit, replay) == [[(0, offsets)] for offsets in wanted]


def test_a_turn_holds_at_most_so_many_bytes() -> None:
    record = batch(P, rows(1)).size_bytes()
    for fits, wanted in ((1, [[0], [1], [2], [3]]), (2, [[0, 1], [2, 3]]), (3, [[0, 1, 2], [3]]), (4, [[0, 1, 2, 3]])):
        for spare in (0, record - 1):
            backlog = Backlog()
            backlog.add([batch(P, rows(1, 1, 1, 1))])
            assert turns(backlog, TurnLimit(MANY, MANY, fits * record + spare)) == [[(0, each)] for each in wanted]


def test_bytes_are_those_of_keys_values_and_headers() -> None:
    both = [batch(P, [(b"ab", b"cde"), (None, None)]), batch(Q, [(b"f", b"", 0, [("gh", b"i"), ("j", None)])])]
    assert [each.size_bytes() for each in both] == [5, 5]


def test_one_record_is_taken_however_large_it_is() -> None:
    backlog = Backlog()
    backlog.add([batch(P, rows(1, 500, 1))])
    assert turns(backlog, TurnLimit(MANY, MANY, 1)) == [[(0, [0])], [(0, [1])], [(0, [2])]]


def test_positions_move_by_what_was_taken_and_by_gaps_only_after_it() -> None:
    backlog = Backlog()
    backlog.add(
        [RecordBatch(Q, 7), batch(P, rows(1, 1, 1)), RecordBatch(P, 9), batch(P, rows(1), 9), RecordBatch(P, 20)]
    )
    moves = []
    while backlog:
        taken = backlog.take(decoded, TurnLimit(2, 2, MANY))
        moves.append([(each.partition.number, each.next_offset) for each in moved(taken)])
    assert moves == [[(1, 7), (0, 2)], [(0, 9), (0, 20)]]


def test_what_waits_of_a_partition_that_went_is_dropped() -> None:
    backlog = Backlog()
    backlog.add([batch(P, rows(1, 1, 1)), batch(Q, rows(1, 1))])
    backlog.take(decoded, TurnLimit(1, 1, MANY))  # the others are decoded
    backlog.add([batch(P, rows(1), 3)])
    backlog.drop([P])
    assert backlog.records() == 2
    assert turns(backlog, TurnLimit(9, 9, MANY)) == [[(1, [0, 1])]]
    backlog.add([batch(Q, rows(1), 2)])
    backlog.clear()
    assert not backlog


MIXED = [
    (b"a", b'{"x": 1, "id": 1, "start": true}'), (b"b", chunk(3)), (b"a", b"{"), (b"c", None), (None, chunk(1)),
    (b"a", b'{"x": [[1], [2]], "id": 2, "end": true}'), (b"d", b"", 5, command(b"reset")), (b"e", b'{"x": 4}'),
    (b"f", json.dumps({"states": {"sum": {"h": [5]}}}).encode(), 7, command(b"set-state")), (b"f", chunk(2)),
    (b"g", b'{"states": {}}', 7, command(b"set-state")), (b"a", b'{"x": []}'), (b"a", chunk(1)),
]  # fmt: skip


@deep
@pytest.mark.parametrize("seed", range(examples(20)))
def test_part_of_what_was_decoded_is_what_decoding_that_part_gives(seed: int) -> None:
    """Every column, also those that are yet to come."""
    rng = random.Random(seed)
    pipeline = sums_pipeline(features="x", id="id", start="start", end="end")
    whole = batch(P, [rng.choice(MIXED) for _ in range(8)], 100, replay=True)
    start = rng.randrange(9)
    stop = rng.randint(start, 8)
    (events,), (wanted,) = pipeline.decode([whole]), pipeline.decode([whole.part(start, stop)])
    found = part_of(events, start, stop)
    for field in dataclasses.fields(Events):
        one, other = getattr(found, field.name), getattr(wanted, field.name)
        if isinstance(one, np.ndarray):
            assert (one.dtype, one.tolist()) == (other.dtype, other.tolist()), field.name
        else:
            assert one == other, field.name


@deep
@pytest.mark.parametrize("seed", range(examples(30)))
def test_however_it_is_cut_nothing_is_lost_or_overtaken(seed: int) -> None:
    rng = random.Random(seed)
    backlog, sent, got = Backlog(), {P: 0, Q: 0}, {P: list[int](), Q: list[int]()}
    positions = {P: 0, Q: 0}
    bytes_limit = rng.choice([1, 50, 500, MANY])
    for _ in range(30):
        for place in rng.sample([P, Q], rng.randint(0, 2)):
            count = rng.randint(0, 5)
            backlog.add([batch(place, rows(*(rng.choice([0, 1, 1, 5, 30]) for _ in range(count))), sent[place])])
            sent[place] += count
        if not backlog:
            continue
        events = rng.randint(1, 40)
        taken = backlog.take(decoded, TurnLimit(events, events, bytes_limit))
        rows_taken = sum(len(each) + len(each.refusals) for each in taken.events)
        assert taken.records() == 1 or rows_taken <= events
        assert taken.records() <= 1 or sum(each.batch.size_bytes() for each in taken.events) <= bytes_limit
        for each in taken.events:
            got[each.batch.partition] += each.batch.offsets
        for move in moved(taken):
            assert move.next_offset >= positions[move.partition]
            positions[move.partition] = move.next_offset
        for place, offsets in got.items():
            assert offsets == list(range(positions[place]))
    turns(backlog, TurnLimit(MANY, MANY, MANY))


def test_records_of_closed_partitions_wait_and_hold_up_no_other() -> None:
    backlog, limit = Backlog(), TurnLimit(2, 2, MANY)
    backlog.add([batch(P, rows(1, 1, 1)), batch(Q, rows(1, 1, 1)), RecordBatch(P, 5)])

    def took(*closed: Partition) -> list[tuple[int, list[int]]]:
        taken = backlog.take(decoded, limit, closed)
        return [(each.partition.number, each.offsets) for each in moved(taken)]

    assert [took(P), took(P), took(P, Q)] == [[(1, [0, 1])], [(1, [2])], []]
    assert took(Q) == [(0, [0, 1])]
    backlog.add([RecordBatch(Q, 5)])  # raw, while P's are decoded
    assert took(P) == [(1, [])]
    assert [took(P), took(), bool(backlog)] == [[], [(0, [2])], False]


def test_what_is_given_back_comes_first_and_keeps_its_order() -> None:
    backlog, limit = Backlog(), TurnLimit(3, 3, MANY)
    backlog.add([batch(P, rows(1, 1, 1, 1)), batch(Q, rows(1, 1))])
    (events,) = backlog.take(decoded, limit).events
    backlog.give_back([part_of(events, 1, 3)])
    assert backlog.records() == 5
    assert turns(backlog, limit) == [[(0, [1, 2]), (0, [3])], [(1, [0, 1])]]
    backlog.give_back([part_of(events, 1, 3)])
    backlog.drop([P])
    assert not backlog


def test_the_cut_by_bytes_keeps_order_and_gaps() -> None:
    batches = [RecordBatch(Q, 3), batch(P, rows(1, 1)), batch(Q, rows(1), 3)]
    head, rest = cut_bytes(batches, 1)
    assert [(each.partition.number, each.offsets) for each in head] == [(1, []), (0, [0])]
    assert [(each.partition.number, each.offsets) for each in rest] == [(0, [1]), (1, [3])]
