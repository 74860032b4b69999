"""Looks at a model file's container before Keras does: sizes, names and links."""

from __future__ import annotations

import io
import stat
import zipfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import h5py

from worker.errors import WorkerError
from worker.model.files.foreign import AGAIN, what_archive

ZIP_MAGIC = b"PK\x03\x04"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ARCHIVE_ENTRIES_LIMIT = 10_000
CONFIG_LIMIT_BYTES = 64 * 1024**2
HDF5_OBJECTS_LIMIT = 100_000

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_NO_METADATA = b'{"keras_version": "3"}'


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries read from a `.keras` archive. ``vocabularies``: of lookup layers, by the entry's name."""

    config: bytes
    metadata: bytes
    weights: bytes
    vocabularies: dict[str, bytes]


def check_zip(path: str, data: bytes, limit_bytes: int) -> Entries:
    """The entries of a `.keras` archive that Keras reads by itself; no other entry is ever read.

    Raises WorkerError for anything that a model saved by Keras never has.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise WorkerError(f"model {path}: the archive is damaged ({error})", AGAIN) from error
    if len(entries) > ARCHIVE_ENTRIES_LIMIT:
        raise WorkerError(f"model {path}: {len(entries)} entries, more than the limit of {ARCHIVE_ENTRIES_LIMIT}")
    if (total := sum(entry.file_size for entry in entries)) > limit_bytes:
        raise WorkerError(f"model {path}: unpacks to {total} bytes, more than the limit of {limit_bytes}")
    for entry in entries:
        _check_entry(path, entry)
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise WorkerError(f"model {path}: the archive has two entries of one name")
    if _CONFIG not in names or _WEIGHTS not in names:
        raise what_archive(names).refused(path)
    vocabularies = [name for name in names if name.startswith("assets/") and name.endswith("/vocabulary.txt")]
    for name in (_CONFIG, *([_METADATA] if _METADATA in names else []), *vocabularies):
        if archive.getinfo(name).file_size > CONFIG_LIMIT_BYTES:
            raise WorkerError(f"model {path}: its {name} is larger than the limit of {CONFIG_LIMIT_BYTES} bytes")
    try:
        found = Entries(
            config=archive.read(_CONFIG),
            metadata=archive.read(_METADATA) if _METADATA in names else _NO_METADATA,
            weights=archive.read(_WEIGHTS),  # checks the CRC as well
            vocabularies={name: archive.read(name) for name in vocabularies},
        )
    except Exception as error:  # zipfile and the decompressors have no error type in common
        raise WorkerError(f"model {path}: the archive is damaged ({error})", AGAIN) from error
    check_hdf5(path, found.weights, limit_bytes)
    return found


def _check_entry(path: str, entry: zipfile.ZipInfo) -> None:
    name = entry.filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or ":" in (parts[0] if parts else ""):
        raise WorkerError(f"model {path}: refused, its entry '{entry.filename}' points outside the archive")
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise WorkerError(f"model {path}: refused, its entry '{entry.filename}' is a link or a special file")
    if entry.flag_bits & 0x1:
        raise WorkerError(f"model {path}: its entry '{entry.filename}' is encrypted")


def check_hdf5(path: str, data: bytes, limit_bytes: int) -> None:
    """An HDF5 file in memory. Raises WorkerError for links, storage outside the file, or more data than the limit."""
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            _check_objects(path, file, limit_bytes)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise WorkerError(f"model {path}: the HDF5 part is damaged ({error})", AGAIN) from error


def _check_objects(path: str, file: Any, limit_bytes: int) -> None:
    waiting, seen, total = [file], 0, 0
    while waiting:
        group = waiting.pop()
        for name in group:
            entry = f"{group.name.rstrip('/')}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise WorkerError(f"model {path}: refused, '{entry}' is a link")
            seen += 1  # hard links may form a cycle: the limit ends that as well
            if seen > HDF5_OBJECTS_LIMIT:
                raise WorkerError(f"model {path}: more than {HDF5_OBJECTS_LIMIT} objects")
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise WorkerError(f"model {path}: refused, the data of '{entry}' is outside the file")
                total += item.nbytes
                if total > limit_bytes:
                    raise WorkerError(f"model {path}: declares more than {limit_bytes} bytes of weights")
