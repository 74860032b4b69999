"""When each stream asks for its next text: as soon as the last one is complete, but not faster than the eye.

Rule of this file: pure; times are arguments in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator

from worker.commands.demo.texts.board import TextBoard
from worker.commands.demo.texts.casts import Cast, Request


class Asking:
    """``ended``: as many texts as wanted have been asked for. Streams begin one after another within a period."""

    def __init__(self, cast: Cast, board: TextBoard, streams: int, speed: float, events: int | None) -> None:
        digits = max(2, len(str(streams)))
        self._names = [f"{cast.title}-{number:0{digits}d}" for number in range(1, streams + 1)]
        self._requests = [cast.requests(name, number) for number, name in enumerate(self._names)]
        self._board = board
        self._period_s = cast.period_s / speed
        self._left = events
        self._due_s: list[float] | None = None

    @property
    def ended(self) -> bool:
        """Nothing more will be asked for."""
        return self._left == 0

    def due(self, at_s: float) -> Iterator[Request]:
        """What is to be asked for now."""
        if self._due_s is None:
            count = len(self._names)
            self._due_s = [at_s + self._period_s * number / count for number in range(count)]
        for number, name in enumerate(self._names):
            page = self._board.pages.get(name)
            if self.ended or self._due_s[number] > at_s or (page is not None and page.busy):
                continue
            self._due_s[number] = max(self._due_s[number] + self._period_s, at_s)
            if self._left is not None:
                self._left -= 1
            yield next(self._requests[number])
