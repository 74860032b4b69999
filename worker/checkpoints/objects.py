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
from worker.checkpoints.header import CheckpointHeader, CheckpointIdentity, same_states
from worker.checkpoints.names import STALE_TEMPORARY_S, TEMPORARY, folder_of, group_folder, name_of, offsets_in
from worker.checkpoints.remote import Listed, Remote, StoreLimits
from worker.errors import CheckpointUnusableError, StoreUnavailableError, WorkerError
from worker.records.names import short_digest
from worker.records.ownership import Partition
from worker.records.states import PartitionState, StateSpec

TEMPORARY_PREFIX = "rnn-stream-worker-checkpoint-"
MAX_HEADERS = 1000  # remembered: who looks at all partitions of a topic does not fetch them again and again


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    """Where one checkpoint is in a store of objects, and what the store said of it."""

    url: str
    name: str  # GROUP_ID/TOPIC/PARTITION/OFFSET.h5
    offset: int
    listed: Listed

    @property
    def stem(self) -> str:
        """The next offset, 20 digits."""
        return name_of(self.offset).removesuffix(".h5")

    def __str__(self) -> str:
        return self.url

    def same_bytes(self, other: ObjectPlace) -> bool:
        """Whether the store says so; False when it does not tell."""
        return self == other and self.listed.version != ""


class ObjectStore:
    """The checkpoints of one group below a URL, its own or shared with any others. See ``contracts.Store``."""

    def __init__(self, url: str, group_id: str, limits: StoreLimits | None = None) -> None:
        """Connects to nothing yet. Raises WorkerError for a URL that can't be used or a package that is missing."""
        self._remote = Remote(url, limits or StoreLimits())
        self._group = group_folder(group_id)
        # What other groups have left on this machine is theirs, too.
        digest = short_digest(hashlib.sha256(self._group.encode()).hexdigest())
        self._temporary = f"{TEMPORARY_PREFIX}{digest}-"
        self._headers: dict[str, tuple[ObjectPlace, CheckpointHeader]] = {}
        self._fetched: tuple[ObjectPlace, tempfile.TemporaryDirectory[str]] | None = None

    def __str__(self) -> str:
        return self._remote.url

    def candidates(self, partition: Partition, at_most: int | None) -> list[ObjectPlace]:
        """See Store."""
        found = self._remote.list(f"{self._group}/{folder_of(partition)}")
        offsets = offsets_in(found, at_most)
        return [self._place(partition, offset, found[name_of(offset)]) for offset in offsets]

    def header(self, place: object) -> CheckpointHeader:
        """See Store. The file is kept until it is read, or another one is fetched; the header for longer."""
        assert isinstance(place, ObjectPlace), place
        known = self._headers.get(place.url)
        if known is not None and known[0].same_bytes(place):
            return known[1]
        header = read_header(self._copy(place), shown=str(place))
        self._headers[place.url] = (place, header)
        while len(self._headers) > MAX_HEADERS:
            del self._headers[next(iter(self._headers))]
        return header

    def read(self, place: object, identity: CheckpointIdentity, specs: Sequence[StateSpec]) -> PartitionState:
        """See Store."""
        assert isinstance(place, ObjectPlace), place
        try:
            return read_checkpoint(self._copy(place), identity, specs, shown=str(place))
        finally:
            self._forget()

    def publish(
        self, state: PartitionState, identity: CheckpointIdentity, *, created: datetime, replace: bool = False
    ) -> ObjectPlace:
        """See Store."""
        assert group_folder(identity.group_id) == self._group, identity
        with self._temporary_folder() as folder:
            there = None if replace else next(iter(self.candidates(state.partition, state.next_offset)), None)
            if there is not None and there.offset == state.next_offset and self._holds(there, identity, Path(folder)):
                return there
            file = Path(folder) / name_of(state.next_offset)
            write_checkpoint(file, state, identity, created=created)
            place = self._place(state.partition, state.next_offset, Listed(file.stat().st_size, ""))
            self._remote.put(file, place.name)
        return place

    def size_bytes(self, place: object) -> int:
        """See Store."""
        assert isinstance(place, ObjectPlace), place
        return place.listed.size_bytes

    def prune(self, partition: Partition, keep: int, *, newest: int | None, now_s: float) -> None:
        """See Store. Objects have no temporary files, but what the dead left in this machine's folder for them goes."""
        assert keep >= 1, keep
        _sweep(self._temporary, now_s)
        for place in self.candidates(partition, newest)[keep:]:
            self._remote.delete(place.name)

    def delete(self, place: object) -> None:
        """See Store."""
        assert isinstance(place, ObjectPlace), place
        self._remote.delete(place.name)

    def check_writable(self) -> None:
        """See Store."""
        try:
            self._remote.try_out(f"{self._group}/.{os.getpid()}.{secrets.token_hex(8)}{TEMPORARY}")
        except StoreUnavailableError as error:
            raise WorkerError(
                f"state.directory: {error}; checkpoints need a place that the worker may write, list, read and delete"
            ) from error

    def _place(self, partition: Partition, offset: int, listed: Listed) -> ObjectPlace:
        name = f"{self._group}/{folder_of(partition)}/{name_of(offset)}"
        return ObjectPlace(f"{self}/{name}", name, offset, listed)

    def _holds(self, place: ObjectPlace, identity: CheckpointIdentity, folder: Path) -> bool:
        try:
            return same_states(read_header(self._fetch(place, folder), shown=str(place)).identity, identity)
        except CheckpointUnusableError:
            return False

    def _temporary_folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix=self._temporary, ignore_cleanup_errors=True)

    def _copy(self, place: ObjectPlace) -> Path:
        """A copy on this machine, fetched now unless it is there. Raises as ``header`` does."""
        if self._fetched is not None and self._fetched[0].same_bytes(place):
            copy = Path(self._fetched[1].name) / place.name
            if copy.is_file():  # whoever cleans up temporary folders may have been here
                return copy
        self._forget()
        try:
            folder = self._temporary_folder()
        except OSError as error:
            raise _no_room(place, error) from error
        try:
            copy = self._fetch(place, Path(folder.name))
        except BaseException:
            folder.cleanup()
            raise
        self._fetched = (place, folder)
        return copy

    def _forget(self) -> None:
        if self._fetched is not None:
            self._fetched[1].cleanup()
            self._fetched = None

    def _fetch(self, place: ObjectPlace, folder: Path) -> Path:
        """The copy is in folders of the same names, which are compared with what it says of itself."""
        copy = folder / place.name
        try:
            copy.parent.mkdir(parents=True)
        except OSError as error:
            raise _no_room(place, error) from error
        if not self._remote.fetch(place.name, place.listed, copy):
            raise CheckpointUnusableError(f"{place}: there is no such object")
        return copy


def _no_room(place: ObjectPlace, error: OSError) -> StoreUnavailableError:
    return StoreUnavailableError(f"can't read {place}: no place for a copy on this machine: {error}")


def _sweep(prefix: str, now_s: float) -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):  # gone already, or another user's
            if now_s - folder.stat().st_mtime > STALE_TEMPORARY_S:
                shutil.rmtree(folder, ignore_errors=True)
