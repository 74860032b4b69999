"""What is due every so often."""

from __future__ import annotations

from worker.member.timing import Due


def test_due_an_interval_after_it_was_put_off() -> None:
    due = Due(10.0)
    assert due.at(0.0), "never done yet"
    due.put_off(5.0)
    assert [due.at(now) for now in (5.0, 14.9, 15.0, 99.0)] == [False, False, True, True]
