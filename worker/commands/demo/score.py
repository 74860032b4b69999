"""Keeps the score: which answers are right, since when, how late, and whether each event got exactly one.

Rule of this file: pure; times are arguments in seconds. Memory does not grow with the events played.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import orjson

from worker.commands.demo.motions import LABELS, REPORTED_STEPS
from worker.commands.demo.player import Sent

LATENCY_SAMPLES = 2_000
RATE_WINDOW_S = 3.0


class Output(NamedTuple):
    """What the page needs of an output record."""

    sequence: str
    step: int
    label: str
    probabilities: tuple[float, ...]
    final: bool


def parse_output(value: bytes) -> Output:
    """Read an output record of task score. Raises KeyError or orjson.JSONDecodeError when it is none."""
    fields = orjson.loads(value)
    return Output(
        fields["sequence"], fields["step"], fields["label"], tuple(fields["probabilities"]), bool(fields["final"])
    )


@dataclass(slots=True)
class Play:
    """One sequence being played by one watch, as far as it is answered."""

    watch: str
    truth: str
    sent_s: list[float] = field(default_factory=list)  # by step, from step 1
    answered: set[int] = field(default_factory=set)
    step: int = 0
    label: str = ""
    probabilities: tuple[float, ...] = ()
    right_since: int | None = None  # the answer has been right from this step to the present one

    def take(self, output: Output) -> None:
        """The next answer."""
        self.step, self.label, self.probabilities = output.step, output.label, output.probabilities
        if output.label != self.truth:
            self.right_since = None
        elif self.right_since is None:
            self.right_since = output.step


@dataclass(slots=True)
class ClassScore:
    """Finished sequences of one class. ``since`` counts, by step, since when the right ones were right."""

    finished: int = 0
    right: int = 0
    since: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Summary:
    """The outcome. ``accuracy_at``: step → (right answers, answers). Time runs from first event to last answer."""

    events: int
    outputs: int
    surplus: int
    disordered: int
    seconds: float
    latency_ms: float | None
    accuracy_at: Mapping[int, tuple[int, int]]
    classes: Mapping[str, ClassScore]

    @property
    def missing(self) -> int:
        """Events without an output."""
        return self.events - self.outputs

    @property
    def exact(self) -> bool:
        """True when each event had exactly one output, in the order of the events."""
        return self.missing == 0 and self.surplus == 0 and self.disordered == 0

    @property
    def finished(self) -> int:
        """Sequences whose last step is answered."""
        return sum(score.finished for score in self.classes.values())

    @property
    def right(self) -> int:
        """Finished sequences whose last answer was right."""
        return sum(score.right for score in self.classes.values())

    @property
    def since(self) -> Counter[int]:
        """Over all classes: how many right sequences were right since each step."""
        return sum((score.since for score in self.classes.values()), Counter())


class Scoreboard:
    """Takes what was sent and what came out, in any order, but each event before its output."""

    def __init__(self, labels: Sequence[str] = LABELS) -> None:
        self.events = 0
        self.outputs = 0  # distinct events answered
        self.surplus = 0  # outputs beyond the first of an event, or of no event at all
        self.disordered = 0  # outputs read after the output of a later event of the same sequence
        self.shown: dict[str, Play] = {}  # by watch: the play answered last
        self.classes = {label: ClassScore() for label in labels}
        self._plays: dict[str, Play] = {}  # by sequence, until its last step is answered
        self._hits: Counter[int] = Counter()
        self._asked: Counter[int] = Counter()
        self._latencies_s: deque[float] = deque(maxlen=LATENCY_SAMPLES)
        self._first_s: float | None = None
        self._last_s = 0.0

    def sent(self, event: Sent) -> None:
        """An event went out."""
        play = self._plays.setdefault(event.sequence, Play(event.watch, event.truth))
        assert event.step == len(play.sent_s) + 1
        play.sent_s.append(event.at_s)
        self.events += 1
        self._first_s = event.at_s if self._first_s is None else self._first_s

    def seen(self, output: Output, at_s: float) -> None:
        """An output was read at ``at_s``."""
        play = self._plays.get(output.sequence)
        if play is None or not 1 <= output.step <= len(play.sent_s) or output.step in play.answered:
            self.surplus += 1
            return
        self.outputs += 1
        self._last_s = at_s
        self._latencies_s.append(at_s - play.sent_s[output.step - 1])
        play.answered.add(output.step)
        self.disordered += output.step < play.step
        play.take(output)
        self.shown[play.watch] = play
        self._asked[output.step] += 1
        self._hits[output.step] += output.label == play.truth
        if output.final:
            self._finish(output.sequence, play)

    def _finish(self, sequence: str, play: Play) -> None:
        del self._plays[sequence]
        score = self.classes[play.truth]
        score.finished += 1
        if play.right_since is not None:
            score.right += 1
            score.since[play.right_since] += 1

    @property
    def lag_events(self) -> int:
        """Events sent whose output has not been seen."""
        return self.events - self.outputs

    @property
    def latency_ms(self) -> float | None:
        """Median time from handing an event to the client to reading its output, over the latest answers."""
        return median(self._latencies_s) * 1000 if self._latencies_s else None

    def summary(self) -> Summary:
        """The score so far."""
        seconds = max(self._last_s - self._first_s, 0.0) if self._first_s is not None else 0.0
        return Summary(
            events=self.events,
            outputs=self.outputs,
            surplus=self.surplus,
            disordered=self.disordered,
            seconds=seconds,
            latency_ms=self.latency_ms,
            accuracy_at={step: (self._hits[step], self._asked[step]) for step in REPORTED_STEPS},
            classes=self.classes,
        )


class Meter:
    """Events per second over the last seconds, from a running total."""

    def __init__(self, window_s: float = RATE_WINDOW_S) -> None:
        self._window_s = window_s
        self._points: deque[tuple[float, int]] = deque()

    def add(self, at_s: float, total: int) -> None:
        """The total was ``total`` at ``at_s``."""
        self._points.append((at_s, total))
        while at_s - self._points[0][0] > self._window_s and len(self._points) > 2:
            self._points.popleft()

    @property
    def per_second(self) -> float:
        """0.0 until there are two points in time."""
        if len(self._points) < 2 or self._points[-1][0] <= self._points[0][0]:
            return 0.0
        (begin_s, begin), (end_s, end) = self._points[0], self._points[-1]
        return (end - begin) / (end_s - begin_s)


def median_of(counts: Counter[int]) -> float | None:
    """Median of the values that ``counts`` counts; None when it counts nothing."""
    whole = counts.total()
    if not whole:
        return None
    passed, low = 0, None
    for value in sorted(counts):
        passed += counts[value]
        if low is None and 2 * passed >= whole:
            low = value
        if 2 * passed > whole:
            assert low is not None
            return (low + value) / 2
    raise AssertionError("counts are not negative")
