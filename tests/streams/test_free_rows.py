"""Free rows: each given once at a time, those of one owner side by side, all of them used before there are none."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from worker.streams.free_rows import BLOCK_ROWS, FreeRows

OWNERS = "abc"


def test_owners_who_come_in_turn_have_their_rows_side_by_side() -> None:
    free = FreeRows(10 * BLOCK_ROWS)
    rows: dict[str, list[int]] = {owner: [] for owner in OWNERS}
    for _ in range(2 * BLOCK_ROWS):
        for owner in OWNERS:
            rows[owner] += free.take(owner, 1)
    for mine in rows.values():
        steps = [after - before for before, after in pairwise(mine)]
        assert steps.count(1) == len(steps) - 1  # one step from block to block
    assert free.dealt == 6 * BLOCK_ROWS


def test_rows_that_were_given_back_are_used_again_before_new_ones() -> None:
    free = FreeRows(10 * BLOCK_ROWS)
    first = free.take("a", 100)
    free.give_back("a", first[:50])
    assert sorted(free.take("a", 50)) == first[:50]
    free.give_back("a", first)
    free.disown("a")
    assert free.take("b", BLOCK_ROWS) == list(range(BLOCK_ROWS))
    assert free.dealt == BLOCK_ROWS


def test_when_all_are_dealt_an_owner_gets_what_others_keep() -> None:
    free = FreeRows(BLOCK_ROWS + 10)
    (a,) = free.take("a", 1)
    rest = free.take("b", BLOCK_ROWS + 9)
    assert sorted([a, *rest]) == list(range(BLOCK_ROWS + 10))
    assert len(free) == 0


@given(st.data(), st.integers(1, 3 * BLOCK_ROWS))
def test_no_row_is_given_twice_and_none_is_lost(data: st.DataObject, capacity: int) -> None:
    free = FreeRows(capacity)
    used: dict[str, list[int]] = {owner: [] for owner in OWNERS}
    for _ in range(data.draw(st.integers(1, 12))):
        owner = data.draw(st.sampled_from(OWNERS))
        match data.draw(st.sampled_from(["take", "give back", "disown"])):
            case "take":
                used[owner] += free.take(owner, data.draw(st.integers(0, len(free))))
            case "give back":
                count = data.draw(st.integers(0, len(used[owner])))
                free.give_back(owner, used[owner][:count])
                used[owner] = used[owner][count:]
            case "disown":
                free.give_back(owner, used[owner])
                used[owner] = []
                free.disown(owner)
        rows = [row for mine in used.values() for row in mine]
        assert len(set(rows)) == len(rows) == capacity - len(free)
        assert set(rows) <= set(range(free.dealt))
    rows += free.take("a", len(free))
    assert sorted(rows) == list(range(capacity))
