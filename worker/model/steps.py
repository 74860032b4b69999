"""When the steps of a tensor arrive: layers that make fewer steps, or look ahead, answer from a later event on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a tensor over time, in events of the sequence, counted from 0.

    Step j is there from event ``first`` + j · ``every`` on, and ``delay`` events later no event changes it any more: it
    is settled. A tensor (batch, 1 + tail, …) holds the step that was settled last and those after it, its *tail*, as
    they would be if the sequence ended with this event.
    """

    first: int = 0
    every: int = 1
    delay: int = 0

    @property
    def plain(self) -> bool:
        """Whether there is one step per event, which no later event changes."""
        return self == PLAIN

    @property
    def tail(self) -> int:
        """How many steps there may be that are not settled yet."""
        return -(-self.delay // self.every)

    @property
    def settled(self) -> int:
        """The event that settles the first step."""
        return self.first + self.delay

    @property
    def fresh(self) -> bool:
        """Whether each event changes the last step, once there is one."""
        return self.every == 1 or self.delay >= self.every

    def behind(self, reach: int, stride: int = 1, left: int = 0, right: int = 0) -> Steps:
        """Behind a layer whose step looks at ``reach`` earlier ones, with zeros before the first and after the last."""
        first = self.first + (reach - left - right) * self.every
        return Steps(first, self.every * stride, self.delay + right * self.every)

    @property
    def words(self) -> str:
        """``one step per 2 events, from event 6 on``; nothing where there is one per event."""
        often = [f"one step per {self.every} events"] if self.every > 1 else []
        since = [f"from event {self.first + 1} on"] if self.first else []
        ahead = [f"looks ahead over {self.tail} step{'s' * (self.tail > 1)}"] if self.delay else []
        return ", ".join(often + since + ahead)


PLAIN = Steps()
