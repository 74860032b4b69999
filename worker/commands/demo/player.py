"""Plays the TEST sequences as many watches at once, in (accelerated) real time.

Rule of this file: what is played and when it is due is pure and the same on every run; only ``Player`` waits and sends.
The truth stays in this process: a record says what a watch measured and nothing else.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import orjson

from worker.commands.demo.motions import CHANNELS, LABELS, RATE_HZ, STEPS, Motions

STEP_MS = 1000 // RATE_HZ
STAGGER_STEPS = 30  # watches begin within this many steps of each other, so that the page shows them at different ones
DECIMALS = 6  # as in the source
SHORTEST_WAIT_S = 0.01  # wake at most this often; events that have become due meanwhile are sent at once
MOST_AHEAD_EVENTS = 20_000  # the player waits for the worker here, so that an extreme --speed can't fill the memory
EVENTS_PER_WATCH = 125  # enough for the slowest starter to finish a sequence before the events run out
MOST_WATCHES = 40  # by default: one for each sequence of the TEST part

Send: TypeAlias = Callable[[bytes, bytes, int], None]  # (key, value, ms since the epoch)


class Event(NamedTuple):
    """One step of one watch. ``due_steps`` is event time since the start, in steps of 100 ms."""

    due_steps: float
    watch: str
    sequence: str
    case: int  # index into the TEST part
    step: int  # 1 = first

    @property
    def last(self) -> bool:
        """True on the sequence's last step."""
        return self.step == STEPS


class Sent(NamedTuple):
    """What the scoreboard needs to know of an event: ``at_s`` is the clock just before it was handed to the client."""

    watch: str
    sequence: str
    truth: str
    step: int
    at_s: float


def watches_for(events: int | None) -> int:
    """How many watches to play by default: fewer when few events are wanted, so that each can finish."""
    return MOST_WATCHES if events is None else min(MOST_WATCHES, max(1, events // EVENTS_PER_WATCH))


def schedule(watches: int, cases: int, seed: int = 0) -> Iterator[Event]:
    """Every event of an endless play, in the order in which they are due.

    Each watch plays one sequence after another; together they go through all cases in a new random order each time,
    so that every case is played equally often, whatever the number of watches.
    """
    assert watches > 0
    assert cases > 0
    random = np.random.default_rng(seed)
    late = random.integers(0, STAGGER_STEPS, watches).tolist()
    orders: list[list[int]] = []
    digits = max(2, len(str(watches)))
    names = [f"watch-{number:0{digits}d}" for number in range(1, watches + 1)]
    for tick in count():
        for index, name in enumerate(names):
            if tick < late[index]:
                continue
            played, step = divmod(tick - late[index], STEPS)
            turn, at = divmod(played * watches + index, cases)
            while len(orders) <= turn:
                orders.append(random.permutation(cases).tolist())
            yield Event(tick + index / watches, name, f"{name}-{played + 1}", orders[turn][at], step + 1)


def value_of(event: Event, motions: Motions) -> bytes:
    """The record's value: six numbers, the sequence's name, and ``last`` on the last step."""
    vector = motions.vectors[event.case, event.step - 1].tolist()
    fields: dict[str, Any] = {name: round(number, DECIMALS) for name, number in zip(CHANNELS, vector, strict=True)}
    fields["sequence"] = event.sequence
    if event.last:
        fields["last"] = True
    return orjson.dumps(fields)


def time_of(event: Event, start_ms: int) -> int:
    """The record's timestamp: 100 ms between two steps of a watch, however fast they are played."""
    return start_ms + round(event.due_steps * STEP_MS)


class Player(threading.Thread):
    """Sends events when they are due. ``sent`` is filled here and emptied by the reader; an error ends in ``failure``.

    ``clock`` answers seconds, monotonic; ``speed`` is event time per time on that clock.
    """

    def __init__(
        self,
        motions: Motions,
        send: Send,
        clock: Callable[[], float],
        *,
        watches: int,
        speed: float,
        start_ms: int,
        events: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(name="player", daemon=True)
        self.sent: deque[Sent] = deque()
        self.failure: Exception | None = None
        self.answered = 0  # set by the reader: outputs seen
        self._motions = motions
        self._send = send
        self._clock = clock
        self._speed = speed
        self._start_ms = start_ms
        self._events = islice(schedule(watches, len(motions), seed), events)
        self._ended = threading.Event()

    def stop(self) -> None:
        """Send nothing more after the event in hand."""
        self._ended.set()

    def run(self) -> None:
        """Send until the events run out, ``stop`` is called or the client refuses."""
        try:
            self._play()
        except Exception as error:  # noqa: BLE001 - whatever ends a thread must reach its caller
            self.failure = error

    def _play(self) -> None:
        started = self._clock()
        for number, event in enumerate(self._events):
            due = started + event.due_steps * STEP_MS / 1000 / self._speed
            while not self._ended.is_set() and (self._clock() < due or number - self.answered >= MOST_AHEAD_EVENTS):
                self._ended.wait(max(due - self._clock(), SHORTEST_WAIT_S))
            if self._ended.is_set():
                return
            self.sent.append(
                Sent(event.watch, event.sequence, LABELS[self._motions.classes[event.case]], event.step, self._clock())
            )
            self._send(event.watch.encode(), value_of(event, self._motions), time_of(event, self._start_ms))
