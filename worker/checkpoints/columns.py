"""One column of a checkpoint, an HDF5 dataset with its CRC-32: written plainly, read with suspicion.

Whatever a file claims is checked against its own size before memory is taken or a byte is believed. Nothing is
followed out of the file: no soft or external links, no virtual datasets, no external storage.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

CHUNK_ROWS = 20_000  # rows converted per piece of C code: how long other threads wait for the interpreter
MAX_FIXED_BYTES = 256  # longer text is stored with variable length
REFERENCE_BYTES = 16  # what a text of variable length takes in its column: its length and where it stands
MAX_DEPTH = 3  # states/LAYER/NAME
CRC = "crc32"

Column: TypeAlias = NDArray[Any]


class UnusableColumnError(ValueError):
    """The file does not have the form of a checkpoint; the message says where."""


def text_column(values: Sequence[Any], encode: Callable[[list[Any]], list[bytes]]) -> Column:
    """(rows,) fixed-length bytes while the longest has at most MAX_FIXED_BYTES, else bytes objects.

    ``encode`` takes many values at a time: this runs beside the loop, which waits for the interpreter meanwhile.
    """
    pieces: list[Column] = []
    longest = 1
    for start in range(0, len(values), CHUNK_ROWS):
        piece = encode(list(values[start : start + CHUNK_ROWS]))
        longest_here = max(map(len, piece))
        longest = max(longest, longest_here)
        pieces.append(np.array(piece, bytes if longest_here <= MAX_FIXED_BYTES else object))
    # HDF5 ends text of variable length at the first NUL, so text that holds one always has a fixed length.
    fixed = longest <= MAX_FIXED_BYTES or any(b"\0" in text for piece in pieces for text in piece.tolist())
    column = np.empty(len(values), f"S{longest}" if fixed else object)
    for start, stored in zip(range(0, len(values), CHUNK_ROWS), pieces, strict=True):
        column[start : start + CHUNK_ROWS] = stored
    return column


def key_column(keys: Sequence[str]) -> Column:
    """(rows,) names of streams."""
    return text_column(keys, _encoded)


def keys_of(column: Column) -> list[str]:
    """The names again."""
    return [key.decode("utf-8", "surrogatepass") for key in texts(column)]


def _encoded(keys: list[str]) -> list[bytes]:
    # A lone surrogate can't come from a record's key, but from a JSON field: it must not prevent all checkpoints.
    encoded = "\0".join(keys).encode("utf-8", "surrogatepass").split(b"\0")
    if len(encoded) > len(keys):
        wrong = [key for key in keys if key.endswith("\0")]
        assert not wrong, f"key {wrong[0]!r} ends in NUL, which fixed-length text can't hold"
        encoded = [key.encode("utf-8", "surrogatepass") for key in keys]
    return encoded


def texts(column: Column) -> Iterator[bytes]:
    for start in range(0, len(column), CHUNK_ROWS):
        yield from column[start : start + CHUNK_ROWS].tolist()


def checksum(column: Column) -> int:
    """CRC-32 of the column's bytes in C order; of text with variable length, each after its length in 8 bytes."""
    if column.dtype != object:
        return zlib.crc32(np.ascontiguousarray(column).reshape(-1).view(np.uint8).data)
    crc = 0
    for text in texts(column):
        crc = zlib.crc32(text, zlib.crc32(len(text).to_bytes(8, "little"), crc))
    return crc


def write_column(file: h5py.File, name: str, column: Column) -> None:
    """A contiguous dataset: one write, no filters; text is marked as UTF-8."""
    if column.dtype.kind == "S":
        column = column.view(h5py.string_dtype("utf-8", column.dtype.itemsize))
    dtype = h5py.string_dtype("utf-8") if column.dtype == object else column.dtype
    column = np.ascontiguousarray(column)  # once, for the file and for the checksum
    dataset = file.create_dataset(name, data=column, dtype=dtype)
    dataset.attrs[CRC] = np.uint32(checksum(column))


def inventory(file: h5py.File, size_bytes: int) -> dict[str, h5py.Dataset]:
    """Every dataset by its path, each one inside this file and no larger than it. Reads no data.

    Raises UnusableColumnError.
    """
    found: dict[str, h5py.Dataset] = {}
    waiting: list[tuple[str, h5py.Group, int]] = [("", file, 1)]
    while waiting:
        prefix, group, depth = waiting.pop()
        for name in group:
            path = f"{prefix}{name}"
            if type(group.get(name, getlink=True)) is not h5py.HardLink:
                raise UnusableColumnError(f"'{path}' is a link, not data")
            child = group[name]
            if isinstance(child, h5py.Dataset):
                _check_storage(path, child, size_bytes)
                found[path] = child
            elif isinstance(child, h5py.Group) and depth < MAX_DEPTH:
                waiting.append((f"{path}/", child, depth + 1))
            else:
                raise UnusableColumnError(f"'{path}' should not be there")
    return found


def _check_storage(path: str, dataset: h5py.Dataset, size_bytes: int) -> None:
    plan = dataset.id.get_create_plist()
    if dataset.is_virtual or plan.get_layout() != h5py.h5d.CONTIGUOUS or plan.get_nfilters():
        raise UnusableColumnError(f"'{path}' is not stored in one piece in this file")
    if plan.get_external_count():
        raise UnusableColumnError(f"'{path}' is stored in another file")
    if dataset.shape is None:
        raise UnusableColumnError(f"'{path}' has no shape")
    row_bytes = REFERENCE_BYTES if dataset.dtype == object else dataset.id.get_type().get_size()
    declared = math.prod(dataset.shape) * row_bytes
    if declared > size_bytes or declared != dataset.id.get_storage_size():
        raise UnusableColumnError(f"'{path}' declares {declared} bytes that the file does not hold")


def read_column(path: str, dataset: h5py.Dataset, size_bytes: int) -> Column:
    """The data, its CRC-32 verified. Raises UnusableColumnError."""
    column = dataset[()] if dataset.dtype != object else _read_objects(path, dataset, size_bytes)
    if checksum(column) != int(dataset.attrs[CRC]):
        raise UnusableColumnError(f"'{path}' is damaged (checksum)")
    return column


def _read_objects(path: str, dataset: h5py.Dataset, size_bytes: int) -> Column:
    """Text of variable length, in pieces: many rows may point at one large text."""
    column = np.empty(dataset.shape, object)
    total_bytes = 0
    for start in range(0, len(column), CHUNK_ROWS):
        piece = dataset[start : start + CHUNK_ROWS]
        column[start : start + CHUNK_ROWS] = piece
        total_bytes += sum(map(len, piece))
        if total_bytes > size_bytes:
            raise UnusableColumnError(f"'{path}' holds more text than the file")
    return column
