"""Changes of ownership as kafka-python reports them, noted for the loop's thread.

What really happens in kafka-python 3.0.12, cooperative: the callbacks run on the client's I/O thread, inside ``poll``,
after the new assignment has replaced the old one and under the new generation. After a revocation the client wants to
rejoin, and the same ``poll`` call would do so at its next round: the next owner could start before the loop has
committed. An exception raised by a callback ends that ``poll`` call, with assignment, generation and wish to rejoin in
place. So the callbacks note the change and raise; ``react`` runs between two polls, when the member is stable and may
commit, and the rejoin that frees the revoked partitions comes with the next ``poll``.

And when the group has removed the member while a join was under way, the client joins anew and tells nobody: partitions
of the new assignment that it had before it continues, although another member may have had them in between, and the
others it calls revoked. So we note when the client gives up its place, and all its partitions are Lost.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from kafka import ConsumerRebalanceListener, TopicPartition
from kafka.structs import MemberState

from worker.errors import CommitRefusedError
from worker.records.ownership import Assigned, Change, Lost, Partition, Revoked


class OwnershipChangedError(Exception):
    """Not an error: it ends the client's poll so that the loop's thread can react."""


class _Unalarmed(logging.Filter):
    """Keeps the client from reporting each change of ownership as a failed listener, with a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], OwnershipChangedError))


logging.getLogger("kafka.coordinator.consumer").addFilter(_Unalarmed())


class _Unheard:
    """The answer to a join, for a client that reads only answers that were still pending when it looked."""

    is_done = False

    def __init__(self, answer: Any) -> None:
        self.add_callback = answer.add_callback  # called at once: there is an answer
        self.add_errback = answer.add_errback


class Ownership(ConsumerRebalanceListener):  # type: ignore[misc]
    """``changes``: noted and not yet told to the loop, oldest first."""

    def __init__(self, consumer: Any) -> None:
        self.changes: deque[Change] = deque()
        self._consumer = consumer
        self._leaving = False
        self._removed = False  # the client has given up its place since the group last said what is ours
        give_up = consumer._coordinator.reset_generation

        def note_and_give_up(*args: Any, **options: Any) -> None:
            self._removed = True
            give_up(*args, **options)
            # The client would keep claiming what it had, and the group's leader believes it: the partitions would be
            # ours at once, while the member that got them meanwhile still commits in the same generation.
            for assignor in consumer._coordinator._assignors.values():
                assignor.member_assignment = None

        consumer._coordinator.reset_generation = note_and_give_up

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """On the client's thread: hold the new partitions until the loop has said where to start."""
        self._hold(assigned)
        self._note(Assigned, assigned)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """On the client's thread."""
        self._note(Lost if self._removed else Revoked, revoked)

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        """On the client's thread. Not the same as revoked: another member may already own these partitions."""
        self._note(Lost, lost)

    def farewell(self, owned: tuple[Partition, ...]) -> Change:
        """How ``owned`` ends if the member leaves now: Revoked or Lost."""
        return Revoked(owned) if self.is_member() and not self._removed else Lost(owned)

    def member(self) -> Any:
        """Our identity in the group, with its generation. Raises CommitRefusedError when we are no longer a member."""
        known = self._consumer.group_metadata()
        # In this order: the client's thread may give up our place, and get another one, at any moment.
        if self._removed or known.generation_id < 1:
            raise CommitRefusedError(f"group '{known.group_id}' has removed this member")
        return known

    def note_return(self, owned: Iterable[Partition]) -> bool:
        """Whether partitions that the client has kept must start anew: the group had removed us, and we are back."""
        if not self._removed or not self.is_settled():
            return False
        self._removed = False
        return self.begin_anew(owned)

    def begin_anew(self, owned: Iterable[Partition]) -> bool:
        """Partitions that the client keeps are Lost and assigned anew; returns whether there are any."""
        told = {partition for change in self.changes for partition in change.partitions}
        kept = tuple(partition for partition in owned if partition not in told)
        if kept:
            self._hold([TopicPartition(partition.topic, partition.number) for partition in kept])
            self.changes.extend((Lost(kept), Assigned(kept)))
        return bool(kept)

    def member_id(self) -> str:
        """The name that the group has given us; empty while we have none."""
        return str(self._consumer.group_metadata().member_id or "")

    def is_member(self) -> bool:
        """Whether the group has taken this member in."""
        return bool(self._consumer.group_metadata().generation_id > 0)

    def is_settled(self) -> bool:
        """Whether the group has said what this member gets, and no rebalance is under way."""
        return self.is_member() and self._consumer.group_metadata().state is MemberState.STABLE

    def is_fenced(self) -> bool:
        """Whether another process has our instance id: the client then ends its heartbeats, continues, and reports
        nothing.

        A member that is neither joining nor fenced always has them.
        """
        stable = self._consumer.group_metadata().state is MemberState.STABLE
        return bool(stable and not self._consumer._coordinator._heartbeat_enabled)

    def resume_join(self) -> None:
        """Complete a join that a poll has left half done.

        A join that only changed metadata asked for is forgotten when a poll's time ends before the answer: the client
        sees no more reason to join, never takes the answer in, and sends no more heartbeats. It has no public way to
        say that there still is a reason. And it throws away an answer that arrived between two polls and joins once
        more, so that every other member must, too: two busy members may repeat this for minutes.
        """
        coordinator = self._consumer._coordinator
        if not coordinator.rejoining:
            return
        if not coordinator.need_rejoin():
            coordinator.request_rejoin()
        answer = coordinator._join_task
        if answer is not None and answer.is_done:
            coordinator._join_task = _Unheard(answer)

    def awaits_answer(self) -> bool:
        """Whether we have asked to join the group, and it has not answered."""
        answer = self._consumer._coordinator._join_task
        return answer is not None and not answer.is_done

    def give_up(self) -> None:
        """Give up our membership without telling the group."""
        self._consumer._coordinator.reset_generation()

    def ignore_changes(self) -> None:
        """Note nothing from here on: the member leaves."""
        self._leaving = True

    def heartbeat_age_s(self) -> float:
        """Seconds since the last heartbeat; 0 while the client joins, when none are due."""
        if self._consumer.group_metadata().state is not MemberState.STABLE:
            return 0.0
        metrics = self._consumer.metrics()["consumer-coordinator-metrics"]
        return max(float(metrics["last-heartbeat-seconds-ago"]), 0.0)

    def _hold(self, names: Iterable[TopicPartition]) -> None:
        for name in names:
            # Any position will do: without one the client would ask for the committed offset, and raise if there is
            # none.
            self._consumer.seek(name, 0)
            self._consumer.pause(name)

    def _note(self, kind: Callable[[tuple[Partition, ...]], Change], names: Iterable[TopicPartition]) -> None:
        partitions = tuple(sorted(Partition(name.topic, name.partition) for name in names))
        if partitions and not self._leaving:
            self.changes.append(kind(partitions))
            raise OwnershipChangedError
