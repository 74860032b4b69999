"""Store: all that the loop and the writer know about where checkpoints are. Folder and URL pass the same suite of
tests.

A name that was listed once belongs to a complete file, and keeps belonging to it. A store that does not answer is never
taken for one without checkpoints: it raises StoreUnavailableError, and the caller asks again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from worker.checkpoints.header import CheckpointHeader, CheckpointIdentity
from worker.records.ownership import Partition
from worker.records.states import PartitionState, StateSpec


class Entry(Protocol):
    """One checkpoint as its store lists it. ``str`` of it, a path or a URL, names it in messages."""

    @property
    def next_offset(self) -> int:
        """As the name says: the file's content may not agree."""


class Store(Protocol):
    """Checkpoints of all partitions of one group, in a place of their own or shared with other groups.

    ``candidates``, ``header`` and ``read`` are called on the loop's thread, ``publish``, ``size_bytes`` and ``prune``
    on the writer's. Only what policy decides at a start (states of no or few streams) is published on the loop's.
    """

    def candidates(self, partition: Partition, at_most: int | None) -> Sequence[Entry]:
        """Checkpoints at or below this offset (None: all), newest first. They may turn out to be unusable.

        Raises StoreUnavailableError, WorkerError: not knowing is not the same as having none.
        """

    def header(self, entry: Entry) -> CheckpointHeader:
        """What it says about itself. Raises CheckpointUnusableError, StoreUnavailableError."""

    def read(self, entry: Entry, identity: CheckpointIdentity, specs: Sequence[StateSpec] | None) -> PartitionState:
        """Its streams, with states of exactly these specs (None: whichever it has).

        Raises CheckpointUnusableError (of that ModelChangedError and InputChangedError) for one that is missing or of
        bad content, StoreUnavailableError for one that can't be read now.
        """

    def publish(
        self, state: PartitionState, identity: CheckpointIdentity, *, created: datetime, replace: bool = False
    ) -> Entry:
        """Give the checkpoint its name once it is complete and durable.

        One that is there already, of the same identity, is left as it is unless ``replace`` is set. Raises OSError,
        StoreUnavailableError, WorkerError.
        """

    def size_bytes(self, entry: Entry) -> int:
        """How large a published checkpoint is. Raises OSError."""

    def prune(self, partition: Partition, keep: int, *, newest: int | None, now_s: float) -> None:
        """Delete all but the ``keep`` newest generations at or below ``newest``. ``now_s`` is since the epoch.

        Raises OSError, StoreUnavailableError, WorkerError.
        """

    def delete(self, entry: Entry) -> None:
        """Delete this one; it is no error if it is gone already. Raises OSError, StoreUnavailableError."""

    def check_writable(self) -> None:
        """Raises WorkerError when checkpoints can't be written, listed and deleted here."""
