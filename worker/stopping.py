"""Told to stop: set by a signal handler, read by the loop."""

from __future__ import annotations

import os
import select
import weakref


class Stopping:
    """A ``threading.Event`` that is set once, also by a signal handler.

    An Event's lock is not reentrant: a handler that interrupts ``wait`` while that holds the lock would wait for itself
    for ever. Here a pipe wakes the waiting thread: a byte written to it stays until it is read.
    """

    def __init__(self) -> None:
        self._set = False
        self._woken, self._wake = os.pipe()
        weakref.finalize(self, _close, self._woken, self._wake)

    def set(self) -> None:
        """Stop from now on."""
        if not self._set:
            self._set = True
            os.write(self._wake, b"\0")

    def is_set(self) -> bool:
        """Whether it was told to stop."""
        return self._set

    def wait(self, timeout_s: float) -> bool:
        """Until told to stop, at most this long; whether it was."""
        select.select([self._woken], [], [], timeout_s)
        return self._set


def _close(*descriptors: int) -> None:
    for each in descriptors:
        os.close(each)
