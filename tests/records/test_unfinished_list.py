"""Unfinished records survive being written into a note, and need no more room there than was counted."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.records.unfinished_list import LIST_CHARACTERS_LIMIT, listed, most_characters, unlisted

offsets = st.lists(st.one_of(st.integers(0, 100), st.integers(0, 1 << 62)), unique=True, max_size=40).map(sorted)
sizes = st.one_of(st.integers(0, 40), st.integers(0, 1 << 40))


@given(st.data(), offsets, st.integers(0, 1000))
def test_what_is_listed_is_read_again(data: st.DataObject, places: list[int], before: int) -> None:
    records = [(offset, data.draw(sizes)) for offset in places]
    start = max(0, (places[0] if places else 0) - before)
    assert unlisted(start, listed(start, records)) == records


@given(st.data(), offsets, st.integers(0, 1000))
def test_a_list_needs_no_more_than_was_counted(data: st.DataObject, places: list[int], before: int) -> None:
    """However many of the records are finished meanwhile."""
    items = [data.draw(sizes) for _ in places]
    start = max(0, (places[0] if places else 0) - before)
    counted = [most_characters(b - a, n) for (a, b), n in zip(pairwise([start, *places]), items, strict=True)]
    left = [data.draw(st.booleans()) for _ in places]
    records = [
        (offset, data.draw(st.integers(0, n)))
        for offset, n, is_left in zip(places, items, left, strict=True)
        if is_left
    ]
    assert len(listed(start, records)) <= sum(counted)


@pytest.mark.parametrize("text", ["g", "Bg", "B", "BA", "AA", ";", " ", "ü", "AB A"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"lists|digit|ends"):
        unlisted(0, text)


def test_a_thousand_neighbours_fit() -> None:
    """The records that a few streams are busy with lie close together."""
    assert len(listed(7, [(7 + each, 200) for each in range(1000)])) <= LIST_CHARACTERS_LIMIT
    assert listed(7, [(7, 0), (8, 0), (40, 1), (41, 0)]) == "ACiBBC"
