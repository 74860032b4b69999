"""Keeps the score of texts: what each stream has got so far, how late, and whether each item came exactly once.

Rule of this file: pure; times are arguments in seconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import orjson

from worker.commands.demo.score import LATENCY_SAMPLES
from worker.commands.demo.texts.casts import Request

TAIL_CHARACTERS = 400  # of a stream's text that the page can show
KEPT_TEXTS = 200  # per stream, from the first on, to be compared in the end


class Item(NamedTuple):
    """What the board needs of an output record. ``token``: None for a stop item."""

    stream: str
    number: int
    token: int | None
    text: str
    finish: str | None


class Answer(NamedTuple):
    """A text as it came: ids without the stop item."""

    request: Request
    tokens: list[int]
    finish: str


def parse_item(value: bytes) -> Item:
    """Read an output record with ``emit: every_item``. Raises KeyError or orjson.JSONDecodeError when it is none."""
    fields = orjson.loads(value)
    return Item(fields["stream"], fields["source"]["item"], fields["token"], fields["text"], fields.get("finish"))


@dataclass(slots=True)
class Page:
    """One stream: what was asked for last, and what has come. ``busy``: the last text is not complete."""

    request: Request
    asked_s: float
    busy: bool = True
    tokens: list[int] = field(default_factory=list)
    tail: str = ""
    items: int = 0
    texts: int = 0
    answers: list[Answer] = field(default_factory=list)


class TextBoard:
    """Takes what was asked for and what came out. A stream asks for one text at a time."""

    def __init__(self, between: str, *, continues: bool) -> None:
        self.events = 0  # texts asked for
        self.outputs = 0  # texts that are complete
        self.items = 0
        self.surplus = 0  # items that nobody waits for: of no text, or repeated
        self.disordered = 0  # items that came before one that belongs before them
        self.pages: dict[str, Page] = {}
        self._between, self.continues = between, continues
        self._latencies_s: deque[float] = deque(maxlen=LATENCY_SAMPLES)
        self._first_s: float | None = None
        self._last_s = 0.0

    def asked(self, request: Request, at_s: float) -> None:
        """A record went out."""
        self.events += 1
        self._first_s = at_s if self._first_s is None else self._first_s
        page = self.pages.get(request.stream)
        if page is None:
            page = self.pages[request.stream] = Page(request, at_s)
        page.request, page.asked_s, page.busy, page.tokens = request, at_s, True, []
        page.tail = page.tail + request.text if self.continues else ""

    def seen(self, item: Item, at_s: float) -> None:
        """An output was read at ``at_s``."""
        page = self.pages.get(item.stream)
        if page is None or not page.busy or item.number < len(page.tokens):
            self.surplus += 1
            return
        self.disordered += item.number > len(page.tokens)
        self.items += 1
        self._last_s = at_s
        if not page.tokens:
            self._latencies_s.append(at_s - page.asked_s)
        if item.token is not None:
            page.tokens.append(item.token)
            page.items += 1
            page.tail = (page.tail + (self._between if page.tail else "") + item.text)[-TAIL_CHARACTERS:]
        if item.finish is not None:
            self._finish(page, item.finish)

    def _finish(self, page: Page, finish: str) -> None:
        page.busy = False
        page.texts += 1
        self.outputs += 1
        if len(page.answers) < KEPT_TEXTS:
            page.answers.append(Answer(page.request, page.tokens, finish))

    @property
    def lag_events(self) -> int:
        """Texts asked for that are not complete."""
        return self.events - self.outputs

    @property
    def latency_ms(self) -> float | None:
        """Median time from asking for a text to reading its first item, over the latest ones."""
        return median(self._latencies_s) * 1000 if self._latencies_s else None

    @property
    def seconds(self) -> float:
        """From the first record to the last item."""
        return max(self._last_s - self._first_s, 0.0) if self._first_s is not None else 0.0

    @property
    def exact(self) -> bool:
        """True when each text came whole, each item once and in order."""
        return self.lag_events == 0 and self.surplus == 0 and self.disordered == 0
