"""Checkpoints of one group become another's: the same states, under the other group's name."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from worker.checkpoints.contracts import Entry, Store
from worker.checkpoints.header import CheckpointHeader, CheckpointIdentity, check_identity
from worker.checkpoints.input_identity import changes, spelt_as
from worker.checkpoints.writer import utc_now
from worker.errors import CheckpointUnusableError, InputChangedError, ModelChangedError, WorkerError
from worker.kafka.contracts import TopicFacts
from worker.member.partition_counts import PartitionCounts
from worker.records.log_fields import about
from worker.records.names import short_digest
from worker.records.ownership import Partition

log = logging.getLogger("worker.handover")


@dataclass(frozen=True, slots=True)
class Copied:
    """The newest checkpoint that the new group begins with, None where there is none, and that in words."""

    offset: int | None
    words: str


class CheckpointCopies:
    """From the store of one group to that of another. ``wanted``: the model and input of those that the new group
    takes, as its workers judge them; "": any.
    """

    def __init__(self, source: Store, target: Store, group: str, wanted: CheckpointIdentity, keep: int) -> None:
        self._source, self._target, self._group, self._wanted, self._keep = source, target, group, wanted, keep

    def check_writable(self) -> None:
        """Raises WorkerError."""
        self._target.check_writable()

    def check_counts(
        self, committed: Mapping[Partition, int], counts: Mapping[str, int], policy: Literal["fail", "reset"]
    ) -> None:
        """``counts``: partitions of each topic now. Raises WorkerError where a worker would refuse its checkpoints."""
        judged = PartitionCounts(self._source, policy)
        for partition, offset in sorted(committed.items()):
            newest = next((entry for entry, _ in self._ours(partition, offset, [])), None)
            if newest is not None:
                topic = TopicFacts("", counts[partition.topic])
                judged.accept(partition, topic, [newest], self._source.header)

    def find(self, partition: Partition, committed: int) -> Copied:
        """What ``copy`` would copy, as far as the headers tell. Raises StoreUnavailableError."""
        others: list[str] = []
        newest = next((entry.next_offset for entry, _ in self._ours(partition, committed, others)), None)
        return _copied(newest, others)

    def copy(self, partition: Partition, committed: int) -> Copied:
        """The newest ``keep`` at or below the committed offset, oldest first.

        Those beyond it are left: they have seen records that the new group has yet to answer. Raises
        StoreUnavailableError, WorkerError.
        """
        others: list[str] = []
        found = list(self._ours(partition, committed, others))[: self._keep]
        newest = None
        for entry, header in reversed(found):
            try:
                newest = self._copy(entry, header)
            except CheckpointUnusableError as error:
                log.warning("checkpoint skipped: %s", error, extra=about(partition, entry.next_offset))
        return _copied(newest, others)

    def _copy(self, entry: Entry, header: CheckpointHeader) -> int:
        state = self._source.read(entry, header.identity, None)
        try:
            self._target.publish(state, replace(header.identity, group_id=self._group), created=utc_now())
        except OSError as error:
            raise WorkerError(f"state.directory: can't write a copy of {entry}: {error.strerror or error}") from error
        return entry.next_offset

    def _ours(
        self, partition: Partition, committed: int, others: list[str]
    ) -> Iterator[tuple[Entry, CheckpointHeader]]:
        """Newest first; what keeps the new group from taking the others is added to ``others``."""
        for entry in self._source.candidates(partition, committed):
            try:
                header = self._source.header(entry)
            except CheckpointUnusableError as error:
                log.warning("checkpoint skipped: %s", error, extra=about(partition, entry.next_offset))
                continue
            if (why := self._unwanted(entry, header.identity)) is None:
                yield entry, header
            else:
                others.append(why)

    def _unwanted(self, entry: Entry, found: CheckpointIdentity) -> str | None:
        """As recovery judges it, in words."""
        try:
            check_identity(entry, found, replace(self._wanted, input=spelt_as(found.input, self._wanted.input)))
        except ModelChangedError as error:
            return f"of model {short_digest(error.model_sha256)}"
        except InputChangedError as error:
            return f"of another input ({changes(error.input, self._wanted.input)})"
        return None


def _copied(newest: int | None, others: list[str]) -> Copied:
    if newest is not None:
        return Copied(newest, f"checkpoint at {newest:,}")
    return Copied(None, f"none: the checkpoints are {others[0]}" if others else "none: there is no checkpoint")
