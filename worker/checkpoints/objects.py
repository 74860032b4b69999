"""Checkpoints as objects below a URL, such as s3://bucket/prefix: URL/GROUP_ID/TOPIC/PARTITION/OFFSET.h5.

A file is made complete on this machine's disk and put in one piece, and fetched whole before it is judged as a local
file is.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from worker.checkpoints.hdf5 import read_checkpoint, read_header, write_checkpoint
from worker.checkpoints.header import CheckpointHeader, CheckpointIdentity, is_whole, same_states
from worker.checkpoints.names import STALE_TEMPORARY_S, TEMPORARY, folder_of, group_folder, name_of, offsets_in
from worker.checkpoints.remote import Listed, Remote, StoreLimits
from worker.errors import CheckpointUnusableError, StoreUnavailableError, WorkerError
from worker.records.names import short_digest
from worker.records.ownership import Partition
from worker.records.states import PartitionState, StateSpec

TEMPORARY_PREFIX = "rnn-stream-worker-checkpoint-"
MAX_HEADERS = 1000  # remembered, so that a look at all partitions of a topic does not fetch them again and again


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """One checkpoint in a store of objects, and what the store said of it."""

    url: str
    name: str  # GROUP_ID/TOPIC/PARTITION/OFFSET.h5
    next_offset: int
    listed: Listed

    def __str__(self) -> str:
        return self.url

    def same_bytes(self, other: ObjectEntry) -> bool:
        """Whether the store says so; False when it does not tell."""
        return self == other and self.listed.version != ""


class ObjectStore:
    """The checkpoints of one group, or of its ``shadow``, below a URL that may be shared. See ``contracts.Store``."""

    def __init__(self, url: str, group_id: str, limits: StoreLimits | None = None, *, shadow: bool = False) -> None:
        """Connects to nothing yet. Raises WorkerError for a URL that can't be used or a package that is missing."""
        self._remote = Remote(url, limits or StoreLimits())
        self._group_id, self._group = group_id, group_folder(group_id, shadow=shadow)
        # What other groups have left on this machine is theirs, too.
        digest = short_digest(hashlib.sha256(self._group.encode()).hexdigest())
        self._temporary = f"{TEMPORARY_PREFIX}{digest}-"
        self._headers: dict[str, tuple[ObjectEntry, CheckpointHeader]] = {}
        self._fetched: tuple[ObjectEntry, tempfile.TemporaryDirectory[str]] | None = None

    def __str__(self) -> str:
        return self._remote.url

    def candidates(self, partition: Partition, at_most: int | None) -> list[ObjectEntry]:
        """See Store."""
        found = self._remote.list(f"{self._group}/{folder_of(partition)}")
        offsets = offsets_in(found, at_most)
        return [self._entry(partition, offset, found[name_of(offset)]) for offset in offsets]

    def header(self, entry: object) -> CheckpointHeader:
        """See Store. The file is kept until it is read, or another one is fetched; the header for longer."""
        assert isinstance(entry, ObjectEntry), entry
        known = self._headers.get(entry.url)
        if known is not None and known[0].same_bytes(entry):
            return known[1]
        header = read_header(self._copy(entry), shown=str(entry))
        self._headers[entry.url] = (entry, header)
        while len(self._headers) > MAX_HEADERS:
            del self._headers[next(iter(self._headers))]
        return header

    def read(self, entry: object, identity: CheckpointIdentity, specs: Sequence[StateSpec] | None) -> PartitionState:
        """See Store."""
        assert isinstance(entry, ObjectEntry), entry
        try:
            return read_checkpoint(self._copy(entry), identity, specs, shown=str(entry))
        finally:
            self._forget()

    def publish(
        self, state: PartitionState, identity: CheckpointIdentity, *, created: datetime, replace: bool = False
    ) -> ObjectEntry:
        """See Store."""
        assert identity.group_id == self._group_id, identity
        with self._temporary_folder() as folder:
            newest = (
                None
                if replace or not is_whole(state)
                else next(iter(self.candidates(state.partition, state.next_offset)), None)
            )
            there = newest is not None and newest.next_offset == state.next_offset
            if newest is not None and there and self._holds(newest, identity, Path(folder)):
                return newest
            file = Path(folder) / name_of(state.next_offset)
            write_checkpoint(file, state, identity, created=created)
            entry = self._entry(state.partition, state.next_offset, Listed(file.stat().st_size, ""))
            self._remote.put(file, entry.name)
        return entry

    def size_bytes(self, entry: object) -> int:
        """See Store."""
        assert isinstance(entry, ObjectEntry), entry
        return entry.listed.size_bytes

    def prune(self, partition: Partition, keep: int, *, newest: int | None, now_s: float) -> None:
        """See Store. Objects have no temporary files, but those that dead writers left on this machine go."""
        assert keep >= 1, keep
        _sweep(self._temporary, now_s)
        for entry in self.candidates(partition, newest)[keep:]:
            self._remote.delete(entry.name)

    def delete(self, entry: object) -> None:
        """See Store."""
        assert isinstance(entry, ObjectEntry), entry
        self._remote.delete(entry.name)

    def check_writable(self) -> None:
        """See Store."""
        try:
            self._remote.try_out(f"{self._group}/.{os.getpid()}.{secrets.token_hex(8)}{TEMPORARY}")
        except StoreUnavailableError as error:
            raise WorkerError(
                f"state.directory: {error}; checkpoints need a place that the worker may write, list, read and delete"
            ) from error

    def _entry(self, partition: Partition, offset: int, listed: Listed) -> ObjectEntry:
        name = f"{self._group}/{folder_of(partition)}/{name_of(offset)}"
        return ObjectEntry(f"{self}/{name}", name, offset, listed)

    def _holds(self, entry: ObjectEntry, identity: CheckpointIdentity, folder: Path) -> bool:
        try:
            return same_states(read_header(self._fetch(entry, folder), shown=str(entry)), identity)
        except CheckpointUnusableError:
            return False

    def _temporary_folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix=self._temporary, ignore_cleanup_errors=True)

    def _copy(self, entry: ObjectEntry) -> Path:
        """A copy on this machine, fetched now unless it is there. Raises as ``header`` does."""
        if self._fetched is not None and self._fetched[0].same_bytes(entry):
            copy = Path(self._fetched[1].name) / entry.name
            if copy.is_file():  # a cleaner of temporary folders may have been here
                return copy
        self._forget()
        try:
            folder = self._temporary_folder()
        except OSError as error:
            raise _no_room(entry, error) from error
        try:
            copy = self._fetch(entry, Path(folder.name))
        except BaseException:
            folder.cleanup()
            raise
        self._fetched = (entry, folder)
        return copy

    def _forget(self) -> None:
        if self._fetched is not None:
            self._fetched[1].cleanup()
            self._fetched = None

    def _fetch(self, entry: ObjectEntry, folder: Path) -> Path:
        """The copy is in folders of the same names, which are compared with what its header says."""
        copy = folder / entry.name
        try:
            copy.parent.mkdir(parents=True)
        except OSError as error:
            raise _no_room(entry, error) from error
        if not self._remote.fetch(entry.name, entry.listed, copy):
            raise CheckpointUnusableError(f"{entry}: there is no such object")
        return copy


def _no_room(entry: ObjectEntry, error: OSError) -> StoreUnavailableError:
    return StoreUnavailableError(f"can't read {entry}: no copy can be made on this machine: {error}")


def _sweep(prefix: str, now_s: float) -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):  # gone already, or another user's
            if now_s - folder.stat().st_mtime > STALE_TEMPORARY_S:
                shutil.rmtree(folder, ignore_errors=True)
