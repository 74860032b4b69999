"""Checkpoints in a folder: DIRECTORY/GROUP_ID/TOPIC/PARTITION/OFFSET.h5, complete from the moment they have their name.

A file's name says whose it is and how far it has come; the order of generations is the order of offsets, never of
clocks. No lock is needed: any file at the same position holds the same states.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from worker.checkpoints.hdf5 import read_checkpoint, read_header, write_checkpoint
from worker.checkpoints.header import CheckpointHeader, CheckpointIdentity, is_whole, same_states
from worker.checkpoints.names import STALE_TEMPORARY_S, TEMPORARY, folder_of, group_folder, name_of, offsets_in
from worker.errors import CheckpointUnusableError, StoreUnavailableError, WorkerError
from worker.records.ownership import Partition
from worker.records.states import PartitionState, StateSpec


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One checkpoint in a folder."""

    path: Path
    next_offset: int

    def __str__(self) -> str:
        return str(self.path)


class CheckpointStore:
    """The checkpoints of one group, or of its ``shadow``, below a folder that may be shared with any others."""

    def __init__(self, directory: Path | str, group_id: str, *, shadow: bool = False) -> None:
        self.directory = Path(directory)
        self._group_id, self._group = group_id, self.directory / group_folder(group_id, shadow=shadow)

    def path_for(self, partition: Partition, offset: int) -> Path:
        """Where the checkpoint at this next offset is, or would be. Raises WorkerError for an unsafe topic name."""
        return self._folder(partition) / name_of(offset)

    def candidates(self, partition: Partition, at_most: int | None) -> list[FileEntry]:
        """Files at or below this offset (None: all), newest first. They may turn out to be unusable.

        Raises StoreUnavailableError when the folder can't be listed: not knowing is not the same as having none.
        """
        try:
            names = [entry.name for entry in self._folder(partition).iterdir()]
        except FileNotFoundError:
            return []
        except NotADirectoryError as error:
            raise self._refused("can't list", error) from error
        except OSError as error:
            raise StoreUnavailableError(f"state.directory: can't list '{self._folder(partition)}': {error}") from error
        return [FileEntry(self.path_for(partition, offset), offset) for offset in offsets_in(names, at_most)]

    def header(self, entry: object) -> CheckpointHeader:
        """See ``contracts.Store``."""
        return read_header(Path(str(entry)))

    def read(self, entry: object, identity: CheckpointIdentity, specs: Sequence[StateSpec] | None) -> PartitionState:
        """See ``contracts.Store``."""
        return read_checkpoint(Path(str(entry)), identity, specs)

    def size_bytes(self, entry: object) -> int:
        """See ``contracts.Store``."""
        return Path(str(entry)).stat().st_size

    def publish(
        self, state: PartitionState, identity: CheckpointIdentity, *, created: datetime, replace: bool = False
    ) -> FileEntry:
        """Writes the checkpoint and gives it its name once the disk has it all. Raises OSError, WorkerError.

        See ``contracts.Store`` for one that is there already.
        """
        assert identity.group_id == self._group_id, identity
        entry = FileEntry(self.path_for(state.partition, state.next_offset), state.next_offset)
        path = entry.path
        if not replace and is_whole(state) and self._is_there(path, identity):
            _sync_folder(path.parent)  # whoever gave it its name may have failed before doing this
            return entry
        _make_folder(path.parent)
        temporary = path.with_name(f".{path.stem}.{os.getpid()}.{secrets.token_hex(8)}{TEMPORARY}")
        try:
            write_checkpoint(temporary, state, identity, created=created)
            os.replace(temporary, path)  # noqa: PTH105 (the one call that must be seen here)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
        return entry

    def prune(self, partition: Partition, keep: int, *, newest: int | None, now_s: float) -> None:
        """Deletes all but the ``keep`` newest generations at or below ``newest``, and temporary files of dead writers.

        Later files stay: after offsets were set back, or the topic was created again, they are not generations of this
        one. ``now_s`` is in seconds since the epoch, as file times are. Raises OSError.
        """
        assert keep >= 1, keep
        errors = [_unlink(entry.path) for entry in self.candidates(partition, newest)[keep:]]
        for path in self._folder(partition).glob(f".*{TEMPORARY}"):
            with suppress(FileNotFoundError):
                if now_s - path.stat().st_mtime > STALE_TEMPORARY_S:
                    errors.append(_unlink(path))
        for error in filter(None, errors):
            raise error

    def delete(self, entry: object) -> None:
        """See ``contracts.Store``."""
        Path(str(entry)).unlink(missing_ok=True)

    def check_writable(self) -> None:
        """Raises WorkerError when checkpoints can't be written here, or would be mixed with another group's."""
        probe = self._group / f".{os.getpid()}.{secrets.token_hex(8)}{TEMPORARY}"
        try:
            self._group.mkdir(parents=True, exist_ok=True)
            probe.touch(exist_ok=False)
            probe.unlink()
            folders = os.listdir(self.directory)  # noqa: PTH208 (names as the file system has them)
        except OSError as error:
            raise self._refused("can't write to", error) from error
        if self._group.name not in folders:
            raise WorkerError(
                f"state.directory: '{self.directory}' does not distinguish capital from small letters, and already "
                f"holds the folder of a group whose name differs from '{self._group.name}' only in these; give each "
                "group its own directory"
            )

    def _folder(self, partition: Partition) -> Path:
        return self._group / folder_of(partition)

    def _is_there(self, path: Path, identity: CheckpointIdentity) -> bool:
        try:
            return same_states(read_header(path), identity)
        except (CheckpointUnusableError, StoreUnavailableError):
            return False  # then it is written once more, which is right whatever is there

    def _refused(self, what: str, error: OSError) -> WorkerError:
        return WorkerError(
            f"state.directory: {what} '{self.directory}': {error.strerror}; checkpoints need a folder that the worker "
            "may read and write"
        )


def _unlink(path: Path) -> OSError | None:
    """One that can't be deleted must not keep the others."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return error
    return None


def _make_folder(folder: Path) -> None:
    """Makes it, and each parent that is missing, so that a crash of the machine does not lose the entry."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
