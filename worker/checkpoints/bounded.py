"""Calls that end in time, whatever the other side does: each on a thread of its own, which is left behind if it hangs.

How many may be left behind is bounded, too: while all of them hang, the next call is refused at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")

MAX_HANGING_CALLS = 8


class BoundedCalls:
    """Runs calls with a deadline. Safe to use from several threads."""

    def __init__(self, max_hanging: int = MAX_HANGING_CALLS) -> None:
        self._free = threading.BoundedSemaphore(max_hanging)
        self._max_hanging = max_hanging

    def run(self, call: Callable[[], Answer], timeout_s: float) -> Answer:
        """The call's answer or error. Raises TimeoutError when there is none in time; the call may end later."""
        if not self._free.acquire(blocking=False):
            raise TimeoutError(f"{self._max_hanging} earlier calls have not been answered yet")
        answers: list[Answer] = []
        errors: list[BaseException] = []
        ended = threading.Event()

        def work() -> None:
            try:
                answers.append(call())
            except BaseException as error:  # noqa: BLE001 (it is raised where it was called)
                errors.append(error)
            finally:
                self._free.release()
                ended.set()

        threading.Thread(target=work, name="store", daemon=True).start()
        if not ended.wait(timeout_s):
            raise TimeoutError(f"no answer within {timeout_s:g} s")
        if errors:
            raise errors[0]
        return answers[0]
