"""What was answered before a restart is marked as a replay, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sums import batch
from worker.records.messages import Messages
from worker.records.ownership import Partition
from worker.records.record_batch import RecordBatch

P = Partition("in", 0)
THREE = batch(P, [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")], 4)  # offsets 4, 5, 6


@pytest.mark.parametrize(
    ("offset", "wanted"),
    [
        (4, [([4, 5, 6], 7, False)]),
        (5, [([4], 5, True), ([5, 6], 7, False)]),
        (6, [([4, 5], 6, True), ([6], 7, False)]),
        (7, [([4, 5, 6], 7, True)]),
        (9, [([4, 5, 6], 7, True)]),
    ],
)
def test_records_below_the_offset_are_a_replay(offset: int, wanted: list[tuple[list[int], int, bool]]) -> None:
    found = THREE.answered_below(offset)
    assert [(each.offsets, each.next_offset, each.replay) for each in found] == wanted
    assert [key for each in found for key in each.keys] == THREE.keys
    assert not THREE.replay


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        ({}, [([4, 5, 6], 7, True)]),
        ({4: 0}, [([4], 5, False), ([5, 6], 7, True)]),
        ({5: 3}, [([4], 5, True), ([5], 6, False), ([6], 7, True)]),
        ({1: 0, 5: 0, 6: 2, 9: 1}, [([4], 5, True), ([5, 6], 7, False)]),
        ({4: 0, 5: 0, 6: 0}, [([4, 5, 6], 7, False)]),
    ],
)
def test_those_whose_answers_were_begun_are_no_replay(
    sent: dict[int, int], wanted: list[tuple[list[int], int, bool]]
) -> None:
    (replayed,) = THREE.answered_below(7)
    found = replayed.but(sent)
    assert [(each.offsets, each.next_offset, each.replay) for each in found] == wanted
    assert [key for each in found for key in each.keys] == THREE.keys
    assert [each.sent for each in found] == [{} if each.replay else sent for each in found]


def test_a_batch_without_records_is_neither() -> None:
    assert RecordBatch(P, 9).answered_below(9) == []


def test_what_is_cut_from_a_replay_is_one() -> None:
    (replayed,) = THREE.answered_below(7)
    assert [replayed.part(0, 2).replay, THREE.part(0, 2).replay] == [True, False]


def test_messages_chosen_keep_their_records_and_headers() -> None:
    messages = Messages([b"a", None], [b"1", b"22"], [(), [("h", b"x")]], np.array([3, 5]))
    chosen = messages.chosen(np.array([1]))
    assert (chosen.keys, chosen.values, chosen.headers, chosen.records.tolist()) == (
        [None], [b"22"], [[("h", b"x")]], [5],
    )  # fmt: skip
    assert (len(messages), messages.largest_bytes(), messages.bytes_of(1)) == (2, 2 + 2 + 10, 2 + 2 + 10)
