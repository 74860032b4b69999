"""Who goes along with the loop without a say in it: told of every change of states, in order, and never raising."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from worker.pipeline.pipeline import Outcome
from worker.records.events import Events
from worker.records.ownership import Partition


class Follower(Protocol):
    """Called on the loop's thread. An implementation handles its own errors, and waits for nothing."""

    def opened(self, partition: Partition, next_offset: int, topic_id: str) -> None:
        """The partition's states are loaded, and it is read from this offset on."""

    def turned(self, now: float, decoded: Sequence[Events], outcomes: Sequence[Outcome]) -> None:
        """A turn has ended, in which these events were answered, batch by batch. Other work of the turn is done."""

    def saved(self, partition: Partition, next_offset: int) -> None:
        """A checkpoint is taken at this position: that of the turn whose end comes next, or where ``dropped`` comes
        before it, of the last turn."""

    def dropped(self, partition: Partition) -> None:
        """The partition's states are gone: it belongs to another member now, or is loaded again."""

    def close(self, timeout_s: float) -> None:
        """The worker stops. Safe to call twice."""


class Nobody:
    """Nobody follows."""

    def opened(self, partition: Partition, next_offset: int, topic_id: str) -> None:
        """See Follower."""

    def turned(self, now: float, decoded: Sequence[Events], outcomes: Sequence[Outcome]) -> None:
        """See Follower."""

    def saved(self, partition: Partition, next_offset: int) -> None:
        """See Follower."""

    def dropped(self, partition: Partition) -> None:
        """See Follower."""

    def close(self, timeout_s: float) -> None:
        """See Follower."""
