"""A call that never returns costs its time-out and a thread, and no more than so many of either."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.conftest import eventually
from worker.bounded_calls import BoundedCalls

LONG_S = 60.0


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of the threads; no other test has it, whose threads may be ending yet."""
    return str(request.node.name)


@pytest.fixture
def calls(name: str) -> Iterator[BoundedCalls]:
    bounded = BoundedCalls(name, max_hanging=2)
    yield bounded
    bounded.close()
    bounded.close()


def threads(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


def test_a_call_that_returns_or_raises_is_as_if_made_here(calls: BoundedCalls, name: str) -> None:
    assert calls.run(lambda: threading.current_thread().name, LONG_S) == name
    with pytest.raises(ZeroDivisionError):
        calls.run(lambda: 1 / 0, LONG_S)
    with pytest.raises(SystemExit):
        calls.run(lambda: exit(3), LONG_S)
    assert calls.run(lambda: "again", LONG_S) == "again"


def test_calls_one_after_the_other_need_one_thread(calls: BoundedCalls, name: str) -> None:
    assert [calls.run(lambda: threads(name), LONG_S) for _ in range(50)] == [1] * 50


def test_while_too_many_hang_there_are_no_others(calls: BoundedCalls) -> None:
    released, done = threading.Event(), []
    for _ in range(2):
        with pytest.raises(TimeoutError, match=r"^no answer within 0\.01 s$"):
            calls.run(released.wait, 0.01)
    with pytest.raises(TimeoutError, match=r"^2 earlier calls have not been answered yet$"):
        calls.run(lambda: done.append("never"), LONG_S)
    assert done == []
    released.set()


def test_when_they_come_back_others_may_go(calls: BoundedCalls, name: str) -> None:
    released = threading.Event()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            calls.run(released.wait, 0.01)
    released.set()

    def answer() -> str | None:
        try:
            return calls.run(lambda: "answer", LONG_S)
        except TimeoutError:
            return None

    assert eventually(answer) == "answer"
    assert eventually(answer) == "answer"
    assert threads(name) <= 2


def test_no_thread_stays_when_it_is_closed(name: str) -> None:
    bounded, released = BoundedCalls(name, max_hanging=2), threading.Event()
    with pytest.raises(TimeoutError):
        bounded.run(released.wait, 0.01)
    assert bounded.run(lambda: threads(name), LONG_S) == 2
    bounded.close()
    eventually(lambda: threads(name) == 1)
    released.set()
    eventually(lambda: threads(name) == 0)


def test_no_thread_stays_when_nobody_closes_it(name: str) -> None:
    bounded = BoundedCalls(name, max_hanging=2)
    assert bounded.run(lambda: threads(name), LONG_S) == 1
    del bounded
    eventually(lambda: threads(name) == 0)
