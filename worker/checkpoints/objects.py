"""Checkpoints as objects below a URL, such as s3://bucket/prefix: URL/TOPIC/PARTITION/OFFSET.h5.

A file is made complete on this machine's disk and put in one piece, and fetched whole before it is judged as a local
file is. Every call of the store has a deadline. Only what the store says is believed: silence is no answer.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from worker.checkpoints.bounded import BoundedCalls
from worker.checkpoints.filesystem import Filesystem, open_filesystem
from worker.checkpoints.hdf5 import read_checkpoint, read_header, write_checkpoint
from worker.checkpoints.header import CheckpointHeader, CheckpointIdentity, same_states
from worker.checkpoints.names import TEMPORARY, folder_of, name_of, offsets_in
from worker.errors import CheckpointUnusableError, StoreUnavailableError, WorkerError
from worker.records import Partition, PartitionState, StateSpec

Answer = TypeVar("Answer")

ONE_REQUEST_BYTES = 64 << 20  # larger files go in parts, which appear together
SECRET = re.compile(r"(?<=://)[^/@]*@")  # user and password in a URL


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How long one call may take before the store counts as away."""

    list_s: float = 30.0  # the loop waits for it when a partition comes
    download_s: float = 120.0  # the loop waits for it when a partition comes
    upload_s: float = 300.0
    delete_s: float = 30.0


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    """Where one checkpoint is in a store of objects."""

    url: str
    partition: Partition
    offset: int
    size_bytes: int = field(compare=False)

    @property
    def stem(self) -> str:
        """The next offset, 20 digits."""
        return name_of(self.offset).removesuffix(".h5")

    def __str__(self) -> str:
        return self.url


class ObjectStore:
    """The checkpoints below one URL, of its own or shared with other workers. See ``contracts.Store``."""

    def __init__(self, url: str, limits: StoreLimits | None = None) -> None:
        """Connects to nothing yet. Raises WorkerError for a URL that can't be used or a package that is missing."""
        self.url = SECRET.sub("", url.rstrip("/"))
        self.limits = limits or StoreLimits()
        self._files: Filesystem
        self._files, self._root = open_filesystem(url)
        self._calls = BoundedCalls()
        self._fetched: tuple[ObjectPlace, tempfile.TemporaryDirectory[str]] | None = None

    def candidates(self, partition: Partition, at_most: int | None) -> list[ObjectPlace]:
        """See Store."""
        sizes = self._list(folder_of(partition))
        offsets = offsets_in(sizes, at_most)
        return [self._place(partition, offset, sizes[name_of(offset)]) for offset in offsets]

    def header(self, place: object) -> CheckpointHeader:
        """See Store. The file is kept until it is read, or another one is fetched."""
        return read_header(self._fetch(place), shown=str(place))

    def read(self, place: object, identity: CheckpointIdentity, specs: Sequence[StateSpec]) -> PartitionState:
        """See Store."""
        try:
            return read_checkpoint(self._fetch(place), identity, specs, shown=str(place))
        finally:
            self._forget()

    def publish(self, state: PartitionState, identity: CheckpointIdentity, *, created: datetime) -> ObjectPlace:
        """See Store."""
        with _temporary_folder() as folder:
            there = self._there(state.partition, state.next_offset)
            if there is not None and self._holds(there, identity, Path(folder)):
                return there
            file = Path(folder) / name_of(state.next_offset)
            write_checkpoint(file, state, identity, created=created)
            place = self._place(state.partition, state.next_offset, file.stat().st_size)
            self._ask("write", place, self.limits.upload_s, partial(self._put, file, self._key(place)))
        return place

    def size_bytes(self, place: object) -> int:
        """See Store."""
        assert isinstance(place, ObjectPlace), place
        return place.size_bytes

    def prune(self, partition: Partition, keep: int, *, newest: int | None, now_s: float) -> None:
        """See Store. Objects have no temporary files; what a dead process left on its machine is not this store's."""
        assert keep >= 1, keep
        for place in self.candidates(partition, newest)[keep:]:
            self._ask("delete", place, self.limits.delete_s, partial(self._delete, self._key(place)))

    def check_writable(self) -> None:
        """See Store."""
        probe = f"{self._root}/.{os.getpid()}.{secrets.token_hex(8)}{TEMPORARY}"
        limits = self.limits
        try:
            self._ask("write to", self, limits.upload_s, partial(self._files.pipe_file, probe, b"probe"))
            self._ask("list", self, limits.list_s, partial(self._files.ls, self._root, detail=True))
            self._ask("delete from", self, limits.delete_s, partial(self._delete, probe))
        except StoreUnavailableError as error:
            raise WorkerError(
                f"state.directory: {error}; checkpoints need a place that the worker may write, list, read and delete"
            ) from error

    def __str__(self) -> str:
        return self.url

    def _place(self, partition: Partition, offset: int, size_bytes: int) -> ObjectPlace:
        return ObjectPlace(f"{self.url}/{folder_of(partition)}/{name_of(offset)}", partition, offset, size_bytes)

    def _key(self, place: ObjectPlace) -> str:
        return f"{self._root}/{folder_of(place.partition)}/{name_of(place.offset)}"

    def _list(self, folder: str) -> dict[str, int]:
        """Name → bytes of what is directly in this folder. Raises StoreUnavailableError."""

        def ask() -> list[dict[str, Any]]:
            try:
                return self._files.ls(f"{self._root}/{folder}", detail=True)
            except FileNotFoundError:
                self._check_bucket()
                return []

        found = self._ask("list", f"{self.url}/{folder}", self.limits.list_s, ask)
        parts = ((each["name"].rpartition("/"), each) for each in found if each["type"] == "file")
        wanted = f"{self._root}/{folder}".strip("/")
        return {name: int(each["size"] or 0) for (parent, _, name), each in parts if parent.strip("/") == wanted}

    def _there(self, partition: Partition, offset: int) -> ObjectPlace | None:
        return next((place for place in self.candidates(partition, offset)[:1] if place.offset == offset), None)

    def _holds(self, place: ObjectPlace, identity: CheckpointIdentity, folder: Path) -> bool:
        try:
            return same_states(read_header(self._download(place, folder), shown=str(place)).identity, identity)
        except CheckpointUnusableError:
            return False

    def _fetch(self, place: object) -> Path:
        """A copy on this machine, in folders of the same names. Raises as ``header`` does."""
        assert isinstance(place, ObjectPlace), place
        if self._fetched is None or self._fetched[0] is not place:
            self._forget()
            folder = _temporary_folder()
            try:
                self._download(place, Path(folder.name))
            except BaseException:
                folder.cleanup()
                raise
            self._fetched = (place, folder)
        return _copy(place, Path(self._fetched[1].name))

    def _forget(self) -> None:
        if self._fetched is not None:
            self._fetched[1].cleanup()
            self._fetched = None

    def _download(self, place: ObjectPlace, folder: Path) -> Path:
        copy = _copy(place, folder)

        def ask() -> int | None:
            copy.parent.mkdir(parents=True)
            try:
                self._get(place, copy)
            except FileNotFoundError:
                self._check_bucket()
                return None
            return copy.stat().st_size

        given = self._ask("read", place, self.limits.download_s, ask)
        if given is None:  # deleted since it was listed
            raise CheckpointUnusableError(f"{place}: there is no such object")
        if given < place.size_bytes:
            raise StoreUnavailableError(f"can't read {place}: {given} bytes of {place.size_bytes} came")
        return copy

    def _check_bucket(self) -> None:
        """A bucket that is not there, unlike a folder that is not there, says nothing. Raises FileNotFoundError."""
        bucket = self._root.partition("/")[0]
        if bucket and not self._files.exists(bucket):
            raise FileNotFoundError(f"there is no bucket '{bucket}'")

    def _get(self, place: ObjectPlace, copy: Path) -> None:
        if place.size_bytes > ONE_REQUEST_BYTES:
            self._files.get_file(self._key(place), str(copy))
        else:
            copy.write_bytes(self._files.cat_file(self._key(place)))

    def _put(self, file: Path, key: str) -> None:
        if file.stat().st_size > ONE_REQUEST_BYTES:
            self._files.put_file(str(file), key)
        else:
            self._files.pipe_file(key, file.read_bytes())

    def _delete(self, key: str) -> None:
        try:
            self._files.rm_file(key)
        except FileNotFoundError:
            return  # another worker was quicker

    def _ask(self, doing: str, what: object, timeout_s: float, call: Callable[[], Answer]) -> Answer:
        """Raises StoreUnavailableError, whatever the store's client raises for what the store does or does not do."""
        try:
            return self._calls.run(call, timeout_s)
        except Exception as error:
            said = " ".join(SECRET.sub("", str(error)).split())
            raise StoreUnavailableError(f"can't {doing} {what}: {type(error).__name__}: {said}") from error


def _copy(place: ObjectPlace, folder: Path) -> Path:
    return folder / folder_of(place.partition) / name_of(place.offset)


def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="rnn-stream-worker-", ignore_cleanup_errors=True)
