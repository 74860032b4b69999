"""Calls that end in time, whatever the other side does: a call that hangs is left behind on its thread.

Stores answer late or never, and librdkafka waits for the end of a transaction's step without a limit of its own: this
was seen once after a broker's restart, when the time-out given with a transaction's offsets was never checked again.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

Answer = TypeVar("Answer")
_Answers: TypeAlias = SimpleQueue[tuple[Any, BaseException | None]]
_Orders: TypeAlias = SimpleQueue[tuple[Callable[[], Any], _Answers] | None]


class Pending(Generic[Answer]):
    """A call on its way. It is answered once."""

    def __init__(self, answers: _Answers) -> None:
        self._answers = answers

    def answer(self, timeout_s: float) -> Answer:
        """The call's answer or error. Raises TimeoutError when there is none in time: ask again, or leave it behind."""
        try:
            answer, error = self._answers.get(timeout=timeout_s)
        except Empty:
            raise TimeoutError(f"no answer within {timeout_s:g} s") from None
        if error is not None:
            raise error
        return answer  # type: ignore[no-any-return]


class BoundedCalls:
    """Runs calls with a deadline, on threads of this name. Safe to use from several threads.

    How many calls may be left behind is bounded, too: while ``max_hanging`` of them hang, the next is refused at once.
    """

    def __init__(self, name: str, max_hanging: int) -> None:
        self._name, self._max_hanging = name, max_hanging
        self._threads = _Threads(threading.BoundedSemaphore(max_hanging), SimpleQueue(), threading.Event())
        # This works even if nobody closes it: threads keep only ``_Threads`` alive.
        self.close = weakref.finalize(self, self._threads.end)
        """No calls any more; threads end, those left behind when their call does. Safe to call twice."""

    def run(self, call: Callable[[], Answer], timeout_s: float) -> Answer:
        """The call's answer or error. Raises TimeoutError when there is none in time; the call may end later."""
        return self.begin(call).answer(timeout_s)

    def begin(self, call: Callable[[], Answer]) -> Pending[Answer]:
        """The call, on its way. Raises TimeoutError while too many others are."""
        assert self.close.alive, "closed"
        if not self._threads.free.acquire(blocking=False):
            raise TimeoutError(f"{self._max_hanging} earlier calls have not been answered yet")
        answers: _Answers = SimpleQueue()
        self._listener().put((call, answers))
        return Pending(answers)

    def _listener(self) -> _Orders:
        try:
            return self._threads.idle.get_nowait()
        except Empty:
            orders: _Orders = SimpleQueue()
        # A daemon: the end of the process does not wait for a call that never returns.
        threading.Thread(target=self._threads.serve, args=(orders,), name=self._name, daemon=True).start()
        return orders


class _Threads(NamedTuple):
    free: threading.BoundedSemaphore
    idle: SimpleQueue[_Orders]  # what threads without work listen to
    ended: threading.Event

    def serve(self, orders: _Orders) -> None:
        while (order := orders.get()) is not None:
            call, answers = order
            answer, error = None, None
            try:
                answer = call()
            except BaseException as raised:  # noqa: BLE001 (it is raised where it was called)
                error = raised
            self.idle.put(orders)
            self.free.release()
            answers.put((answer, error))
            del order, call, answers, answer, error  # an idle thread keeps nothing alive
            if self.ended.is_set():
                self.end()  # the call that ended all idle threads may have run before this one was idle

    def end(self) -> None:
        self.ended.set()
        while True:
            try:
                self.idle.get_nowait().put(None)
            except Empty:
                return
