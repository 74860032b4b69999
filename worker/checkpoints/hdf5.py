"""The checkpoint file: every stream of one partition at one position, as HDF5 that plain h5py reads.

A file is believed only as a whole: seal, name, attributes, list of datasets and every byte of data must agree.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np

from worker.checkpoints.columns import (
    Column,
    UnusableColumnError,
    inventory,
    key_column,
    keys_of,
    read_column,
    text_column,
    texts,
    write_column,
)
from worker.checkpoints.generating import generating_fields, unfinished_columns
from worker.checkpoints.header import (
    CheckpointHeader,
    CheckpointIdentity,
    attributes_of,
    check_identity,
    check_version,
    header_of,
    write_attributes,
)
from worker.checkpoints.names import group_folder
from worker.checkpoints.schema import (
    GENERATING_NUMBERS,
    ITEMS,
    NUMBERS,
    STREAM_NUMBERS,
    check_schema,
    specs_in,
    state_path,
)
from worker.checkpoints.sealed_file import SEAL_BYTES, SafeFile, SealedFile
from worker.errors import CheckpointUnusableError, StoreUnavailableError
from worker.records.events import Reset
from worker.records.states import UNKNOWN_ID, PartitionState, StateSpec

# Metadata with checksums of its own, which HDF5 1.10 and everything later reads.
LIBRARY = ("v110", "v110")

JSON = msgspec.json.Encoder()
MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)  # no file has this name
NO_MEMORY = "memory allocation failed"  # as HDF5 says it
NOT_KNOWN = b"{}"  # the sequence of a stream that has had no event with an id yet


def write_checkpoint(file: Path, state: PartitionState, identity: CheckpointIdentity, *, created: datetime) -> None:
    """Writes a new file and waits until the disk has it. Raises OSError; the file is then incomplete."""
    columns = _columns(state)
    with SafeFile(file) as disk:
        with h5py.File(disk, "w", libver=LIBRARY, userblock_size=SEAL_BYTES) as opened:
            for name, column in columns.items():
                write_column(opened, name, column)
            opened.require_group("states")
            write_attributes(opened, attributes_of(state, identity, created))
        disk.settle()


def _columns(state: PartitionState) -> dict[str, Column]:
    rows = len(state.keys)
    columns: dict[str, Column] = {
        "keys": key_column(state.keys),
        **{name: getattr(state, name) for name in STREAM_NUMBERS},
        "sequences": text_column(state.sequences, _sequences),
        **{state_path(layer, name): values for (layer, name), values in state.states.items()},
    }
    if state.emitted is not None:
        columns["emitted"] = state.emitted
    if state.items is not None:
        columns |= {name: getattr(state, name) for name in GENERATING_NUMBERS}
        columns[ITEMS] = text_column(state.items, _sequences)
    wrong = {name: column.shape for name, column in columns.items() if len(column) != rows}
    assert not wrong, f"{rows} streams, but {wrong}"
    columns["forgotten/keys"] = key_column(list(state.forgotten))
    columns["forgotten/resets"] = np.fromiter(state.forgotten.values(), np.uint8, len(state.forgotten))
    if state.items is not None:
        columns |= unfinished_columns(state.unfinished)
    return {name: column.astype(NUMBERS.get(name, column.dtype), copy=False) for name, column in columns.items()}


def _sequences(values: list[object]) -> list[bytes]:
    if len(set(map(id, values))) == 1:  # where events have no ids
        return _json_of(values[:1]) * len(values)
    try:
        return _json_of(values)
    except UnicodeEncodeError:  # a lone surrogate
        return [b"" if value is None else json.dumps(value).encode() for value in values]


def _json_of(values: list[object]) -> list[bytes]:
    lines = JSON.encode_lines(values).split(b"\n")[:-1]  # JSON itself has no line breaks
    return [b"" if line == b"null" else line for line in lines]


def _sequence_of(text: bytes) -> object:
    if not text:
        return None
    return UNKNOWN_ID if text == NOT_KNOWN else json.loads(text)


@contextmanager
def _opened(path: Path, shown: str) -> Iterator[tuple[h5py.File, int]]:
    """The file and its size in bytes. Whatever reading it may raise becomes one sentence that names it.

    Only a missing file and bad content count as damage. A file that could not be read may be sound.
    """
    try:
        source = SealedFile(path)
    except OSError as error:
        raise _unreadable(shown or path, error) from error
    except ValueError as error:
        raise CheckpointUnusableError(f"{shown or path}: {error}") from error
    with source:
        try:
            source.check_seal()
            with h5py.File(source, "r") as file:
                # Before anything else: what another version writes may look wrong to this one in any way.
                check_version(file)
                yield file, source.size_bytes
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            if source.error is not None or isinstance(error, MemoryError) or NO_MEMORY in said:
                raise _unreadable(shown or path, source.error or error) from error
            raise CheckpointUnusableError(f"{shown or path}: {said}") from error


def _unreadable(shown: object, error: Exception) -> Exception:
    if isinstance(error, OSError) and error.errno in MISSING:
        return CheckpointUnusableError(f"{shown}: there is no such file")
    said = " ".join(str(error).split())
    return StoreUnavailableError(
        f"can't read {shown}: {type(error).__name__}: {said}; if this persists, delete the file: an older one gives "
        "the same states; without one, state.recover decides"
    )


def read_header(path: Path, *, shown: str = "") -> CheckpointHeader:
    """What the file says about itself, verified but for the data.

    Raises CheckpointUnusableError, StoreUnavailableError when it can't be read now. ``shown`` names the file in
    messages, when it is a copy of another.
    """
    with _opened(path, shown) as (file, size_bytes):
        header = header_of(file, inventory(file, size_bytes))
        _check_name(path, header)
        return header


def read_checkpoint(
    path: Path, identity: CheckpointIdentity, specs: Sequence[StateSpec] | None, *, shown: str = ""
) -> PartitionState:
    """The partition's streams with states of exactly these specs; None: of those that the file has.

    Raises CheckpointUnusableError (its message is one line that begins with the file), of that ModelChangedError when
    the weights differ and InputChangedError when the input does; StoreUnavailableError when the file can't be read now.
    An identity without ``model_sha256`` takes states of any weights with these shapes. ``shown``: see ``read_header``.
    """
    with _opened(path, shown) as (file, size_bytes):
        datasets = inventory(file, size_bytes)
        header = header_of(file, datasets)
        _check_name(path, header)
        check_identity(shown or path, header.identity, identity)
        specs = specs_in(datasets) if specs is None else specs
        check_schema(datasets, specs)
        columns = {name: read_column(name, dataset, size_bytes) for name, dataset in datasets.items()}
        return _state(header, columns, specs)


def _check_name(path: Path, header: CheckpointHeader) -> None:
    named = (*path.parts[-4:-1], path.stem)
    whose, partition = header.identity.group_id, header.partition
    shadow = path.parts[-4:-3] == (whose and group_folder(whose, shadow=True),)  # of the same group
    inside = (
        whose and group_folder(whose, shadow=shadow),
        partition.topic,
        str(partition.number),
        f"{header.next_offset:020d}",
    )
    if named != inside:
        raise UnusableColumnError(f"it is the checkpoint of {'/'.join(inside)}, but its name says {'/'.join(named)}")


def _state(header: CheckpointHeader, columns: dict[str, Column], specs: Sequence[StateSpec]) -> PartitionState:
    keys, forgotten = keys_of(columns["keys"]), keys_of(columns["forgotten/keys"])
    if len(set(keys)) < len(keys) or len(set(forgotten)) < len(forgotten):
        raise UnusableColumnError("a stream occurs twice")
    for name in ("pending", "forgotten/resets"):
        if columns[name].max(initial=0) > max(Reset):
            raise UnusableColumnError(f"'{name}' holds an unknown reason")
    numbers: dict[str, Any] = {name: columns[name] for name in STREAM_NUMBERS}
    return PartitionState(
        partition=header.partition,
        next_offset=header.next_offset,
        clock=header.clock,
        keys=keys,
        **numbers,
        sequences=[_sequence_of(text) for text in texts(columns["sequences"])],
        states={(spec.layer, spec.name): columns[state_path(spec.layer, spec.name)] for spec in specs},
        emitted=columns.get("emitted"),
        forgotten=dict(zip(forgotten, columns["forgotten/resets"].tolist(), strict=True)),
        **generating_fields(header, columns),
    )
