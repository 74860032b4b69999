"""How the demonstration is shown: a live page on a terminal, a line every few seconds anywhere else.

Rule of this file: draws what it is given, not too often for the eye; times are arguments in seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeAlias, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live

from worker.commands.demo.score import Meter
from worker.commands.demo.summary import Pace

FRAME_S = 0.15
LINE_S = 2.0


class Counts(Protocol):
    """What every board counts: events sent, and those of them that are answered."""

    @property
    def events(self) -> int: ...

    @property
    def outputs(self) -> int: ...


Board = TypeVar("Board", bound=Counts)
ShownBoard = TypeVar("ShownBoard", bound=Counts, contravariant=True)
Page: TypeAlias = Callable[[Board, Pace, int, int, str], RenderableType]  # width, height, footer
Line: TypeAlias = Callable[[Board, Pace], str]


class View(Protocol[ShownBoard]):
    """Something that shows the score while it changes."""

    def stage(self, words: str) -> contextlib.AbstractContextManager[object]:
        """Say what is being done before the play."""

    def playing(self) -> contextlib.AbstractContextManager[object]:
        """The play is on."""

    def show(self, board: ShownBoard, at_s: float) -> None:
        """The score at this moment; may draw nothing when it was drawn just before."""


class _Paced(Generic[Board]):
    """What both views share: rates, and when to draw again."""

    def __init__(self, console: Console, pace: Pace, interval_s: float) -> None:
        self.console = console
        self._pace = pace
        self._interval_s = interval_s
        self._sent, self._answered = Meter(), Meter()
        self._started_s: float | None = None
        self._drawn_s = 0.0

    def _due(self, board: Board, at_s: float) -> Pace | None:
        """The pace when it is time to draw, else None."""
        if self._started_s is None:
            self._started_s = self._drawn_s = at_s
        self._sent.add(at_s, board.events)
        self._answered.add(at_s, board.outputs)
        if at_s - self._drawn_s < self._interval_s:
            return None
        self._drawn_s = at_s
        return self._pace._replace(
            elapsed_s=at_s - self._started_s,
            sent_per_s=self._sent.per_second,
            answered_per_s=self._answered.per_second,
        )


class LiveView(_Paced[Board]):
    """The page on the terminal's second screen: what was there before comes back."""

    def __init__(self, console: Console, pace: Pace, footer: str, page: Page[Board]) -> None:
        super().__init__(console, pace, FRAME_S)
        self._footer, self._page = footer, page
        self._live = Live(console=console, screen=True, auto_refresh=False, transient=True)

    def stage(self, words: str) -> contextlib.AbstractContextManager[object]:
        """A line that turns until it is done."""
        return self.console.status(words)

    def playing(self) -> contextlib.AbstractContextManager[object]:
        """Take the screen."""
        return self._live

    def show(self, board: Board, at_s: float) -> None:
        """Draw the page."""
        pace = self._due(board, at_s)
        if pace is not None:
            width, height = self.console.size
            self._live.update(self._page(board, pace, width, height, self._footer), refresh=True)


class LineView(_Paced[Board]):
    """Plain lines, for a file or a pipe."""

    def __init__(self, console: Console, pace: Pace, line: Line[Board]) -> None:
        super().__init__(console, pace, LINE_S)
        self._line = line

    @contextlib.contextmanager
    def stage(self, words: str) -> Iterator[None]:
        """A line when it begins."""
        self._print(words)
        yield

    def playing(self) -> contextlib.AbstractContextManager[object]:
        """Nothing to take and to give back."""
        return contextlib.nullcontext()

    def show(self, board: Board, at_s: float) -> None:
        """Print a line."""
        pace = self._due(board, at_s)
        if pace is not None:
            self._print(self._line(board, pace))

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
