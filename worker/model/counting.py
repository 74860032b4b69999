"""The count of a sequence's events, a state of models whose layers make fewer steps: it says what arrives when."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from worker.errors import ModelRefusedError
from worker.model.backend import keras
from worker.model.graph import Tensor
from worker.model.steps import Steps

OPS = keras.src.ops.numpy
LAYER, STATE = "sequence", "events"
COUNTED_LIMIT = 2**23  # float32 tells whole numbers apart up to twice that


class EventCount:
    """``before`` (batch, 1): the events of the sequence before this one, so this event's number, counted from 0.

    The count grows until everything repeats itself, and then goes in a circle, so that it stays exact.
    """

    def __init__(self, unique: Callable[[str], str]) -> None:
        self._unique = unique
        self.layer = unique(LAYER)
        self.before = keras.Input((1,), dtype="float32", name=unique(f"{self.layer}.{STATE}"))
        self._since: dict[int, Tensor] = {}
        self._masks: dict[tuple[str | int, Steps], Tensor] = {}
        self._begin, self._circle = 0, 1

    def _run(self, kind: type, *operands: Any) -> Tensor:
        return kind(name=self._unique(f"{self.layer}.{kind.__name__.lower()}"))(*operands)

    def since(self, event: int) -> Tensor:
        """(batch, 1) bool: whether this is the event of that number or a later one."""
        if event not in self._since:
            self._begin = max(self._begin, event)
            self._since[event] = self._run(OPS.GreaterEqual, self.before, float(event))
        return self._since[event]

    def arrived(self, steps: Steps) -> Tensor:
        """(batch, 1) bool: whether a step of these is settled by this event."""
        return self._kept("arrived", steps, lambda: self._arrival(steps))

    def there(self, steps: Steps, ahead: int) -> Tensor:
        """(batch, 1) bool: whether there is the step that is ``ahead`` of the one settled last, or before it."""
        return self._kept(ahead, steps, lambda: self._presence(steps, ahead))

    def fresh(self, steps: Steps) -> Tensor:
        """(batch, 1) bool: whether this event changes the last step."""
        return self._kept("fresh", steps, lambda: self._freshness(steps))

    def phase(self, steps: Steps, stride: int, shift: int) -> Tensor:
        """(batch, 1) the number of the step settled last, less ``shift``, modulo ``stride``."""
        past = self._past(steps.settled + shift * steps.every, steps.every * stride)
        return past if steps.every == 1 else self._run(OPS.FloorDivide, past, float(steps.every))

    def _kept(self, what: str | int, steps: Steps, make: Callable[[], Tensor]) -> Tensor:
        if (what, steps) not in self._masks:
            self._masks[what, steps] = make()
        return self._masks[what, steps]

    def _arrival(self, steps: Steps) -> Tensor:
        begun = self.since(steps.settled)
        if steps.every == 1:
            return begun
        due = self._run(OPS.Equal, self._past(steps.settled, steps.every), 0.0)
        return self._run(OPS.LogicalAnd, begun, due) if steps.settled else due

    def _presence(self, steps: Steps, ahead: int) -> Tensor:
        begun = self.since(max(steps.settled - ahead * steps.every, steps.first))
        if ahead * steps.every <= steps.delay:
            return begun
        return self._run(OPS.LogicalAnd, begun, self._late(steps, ahead))

    def _late(self, steps: Steps, ahead: int) -> Tensor:
        """Whether there would be that step, were the first settled."""
        past = self._past(steps.settled, steps.every)
        return self._run(OPS.GreaterEqual, past, float(ahead * steps.every - steps.delay))

    def _freshness(self, steps: Steps) -> Tensor:
        if steps.fresh:
            return self.since(steps.first)
        if not steps.delay:
            return self.arrived(steps)
        early = self._run(OPS.LogicalNot, self.since(steps.settled))
        later = self._run(OPS.LogicalOr, self.arrived(steps), self._run(OPS.LogicalOr, early, self._late(steps, 1)))
        return self._run(OPS.LogicalAnd, self.since(steps.first), later)

    def _past(self, event: int, every: int) -> Tensor:
        """(batch, 1) how many events ago the last one was that is a multiple of ``every`` away from ``event``."""
        self._circle = math.lcm(self._circle, every)
        # Counted from an event before the first, so that nothing negative is divided.
        shift = -event % every
        return self._run(OPS.Mod, self._run(OPS.Add, self.before, float(shift)) if shift else self.before, float(every))

    @property
    def repeats_after(self) -> int:
        """The events after which what arrives when repeats itself."""
        return self._begin + self._circle

    def after(self) -> Tensor:
        """(batch, 1) the count after this event. Raises ModelRefusedError where it would be inexact."""
        if self.repeats_after > COUNTED_LIMIT:
            raise ModelRefusedError(
                self.layer,
                f"what its layers keep repeats itself only after {self.repeats_after} events",
                "use strides with small common multiples, and train again",
            )
        more = self._run(OPS.Add, self.before, 1.0)
        if self._circle == 1:
            return self._run(OPS.Minimum, more, float(self._begin))
        full = self._run(OPS.GreaterEqual, more, float(self.repeats_after))
        return self._run(OPS.Where, full, float(self._begin), more)
