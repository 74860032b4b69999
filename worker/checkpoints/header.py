"""What a checkpoint says about itself: the attributes of the file, under one checksum with the list of its datasets.

A file of another format version is refused before anything else in it is looked at.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

import h5py
import numpy as np

from worker.checkpoints.columns import CRC, UnusableColumnError
from worker.errors import InputChangedError, ModelChangedError
from worker.records.names import short_digest
from worker.records.ownership import Partition
from worker.records.states import NO_OFFSET, PartitionState

FORMAT_VERSION = 4
SHOWN_INPUT_CHARACTERS = 160  # of the description of the input, in messages

ATTRIBUTES: Mapping[str, type] = {
    "format_version": int,
    "model_sha256": str,
    "topic": str,
    "topic_id": str,
    "partition": int,
    "partitions": int,
    "next_offset": int,
    "read_to": int,
    "group_id": str,
    "created": str,
    "worker_version": str,
    "clock": int,
    "input": str,
    "rules": str,
    "cpu": str,
}


@dataclass(frozen=True, slots=True)
class CheckpointIdentity:
    """Whose states these are, what input they were fed with, and under which rules and on which processor they arose.

    ``topic_id`` is empty where it is not known; ``model_sha256`` where any model will do. ``partitions`` is how many
    the topic has (0 = not known). ``input`` is a canonical JSON text of what makes vectors of records, ``rules`` of
    what returns states to zero, ``cpu`` the level of the processor's instructions; "" = not known.
    """

    model_sha256: str
    topic_id: str
    group_id: str
    worker_version: str
    partitions: int = 0
    input: str = ""
    rules: str = ""
    cpu: str = ""

    def of_topic(self, topic_id: str, partitions: int = 0, *, any_model: bool = False) -> CheckpointIdentity:
        """The same for this topic. ``any_model`` also accepts states fed with any input; it is for reading only."""
        topic = replace(self, topic_id=topic_id, partitions=partitions)
        return replace(topic, model_sha256="", input="") if any_model else topic


@dataclass(frozen=True, slots=True)
class CheckpointHeader:
    """The attributes of a checkpoint file; ``created`` is ISO 8601, ``read_to`` never NO_OFFSET."""

    identity: CheckpointIdentity
    partition: Partition
    next_offset: int
    read_to: int
    clock: int
    created: str


def attributes_of(state: PartitionState, identity: CheckpointIdentity, created: datetime) -> dict[str, Any]:
    """The attributes of a new file."""
    return {
        "format_version": FORMAT_VERSION,
        "model_sha256": identity.model_sha256,
        "topic": state.partition.topic,
        "topic_id": identity.topic_id,
        "partition": state.partition.number,
        "partitions": identity.partitions,
        "next_offset": state.next_offset,
        "read_to": read_to(state),
        "group_id": identity.group_id,
        "created": created.isoformat(),
        "worker_version": identity.worker_version,
        "clock": state.clock,
        "input": identity.input,
        "rules": identity.rules,
        "cpu": identity.cpu,
    }


def write_attributes(file: h5py.File, values: Mapping[str, Any]) -> None:
    """The attributes and their checksum; every dataset must be there already."""
    for key, value in values.items():
        file.attrs[key] = np.int64(value) if isinstance(value, int) else value
    datasets: dict[str, h5py.Dataset] = {}
    file.visititems(lambda name, item: datasets.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    file.attrs[CRC] = np.uint32(_seal(values, datasets))


def check_version(file: h5py.File) -> None:
    """Raises UnusableColumnError for a format version that is not this one's."""
    version = file.attrs.get("format_version")
    if not isinstance(version, np.integer) or int(version) != FORMAT_VERSION:
        raise UnusableColumnError(f"format_version {version} is not known (this version reads {FORMAT_VERSION})")


def header_of(file: h5py.File, datasets: Mapping[str, h5py.Dataset]) -> CheckpointHeader:
    """The attributes, verified. Raises UnusableColumnError."""
    values: dict[str, Any] = {}
    check_version(file)
    for name, kind in ATTRIBUTES.items():
        value = file.attrs.get(name)
        if value is None:
            raise UnusableColumnError(f"attribute {name} is missing")
        if not isinstance(value, str if kind is str else np.integer):
            raise UnusableColumnError(f"attribute {name} has the wrong type")
        values[name] = kind(value)
    if _seal(values, datasets) != int(file.attrs[CRC]):
        raise UnusableColumnError("its attributes are damaged (checksum)")
    return CheckpointHeader(
        CheckpointIdentity(**{each.name: values[each.name] for each in fields(CheckpointIdentity)}),
        Partition(values["topic"], values["partition"]),
        values["next_offset"],
        values["read_to"],
        values["clock"],
        values["created"],
    )


def check_identity(name: object, found: CheckpointIdentity, wanted: CheckpointIdentity) -> None:
    """Raises UnusableColumnError, ModelChangedError, InputChangedError.

    The number of partitions, the rules and the processor are not judged here: they make no state unusable.
    """
    if found.topic_id and wanted.topic_id and found.topic_id != wanted.topic_id:
        raise UnusableColumnError(f"its topic has since been deleted (id {found.topic_id}, now {wanted.topic_id})")
    if wanted.model_sha256 and found.model_sha256 != wanted.model_sha256:
        raise ModelChangedError(f"{name}: {another_model(found, wanted)}", found.model_sha256)
    if found.input and wanted.input and found.input != wanted.input:
        inputs = f"{_shortened(found.input)}, now {_shortened(wanted.input)}"
        raise InputChangedError(f"{name}: its states were fed with another input ({inputs})", found.input)


def another_model(found: CheckpointIdentity, wanted: CheckpointIdentity) -> str:
    """In words: of other weights, or of the same in another form."""
    models = [each.model_sha256.partition(" ") for each in (found, wanted)]
    digests = [short_digest(digest) for digest, _, _ in models]
    if models[0][0] != models[1][0]:
        return f"it is of another model ({digests[0]}, now {digests[1]})"
    forms = [form or "streamed" for _, _, form in models]
    return f"it is of another form of the model ({forms[0]}, now {forms[1]})"


def same_states(found: CheckpointHeader, identity: CheckpointIdentity) -> bool:
    """Whether a checkpoint that is there holds, for the same readers, what any without unfinished records holds there.

    Where a record is unfinished, others after it may since have been finished: see ``is_whole``.
    """
    whole = found.read_to == found.next_offset
    return whole and replace(found.identity, worker_version="") == replace(identity, worker_version="")


def is_whole(state: PartitionState) -> bool:
    """Whether no record is unfinished; then all checkpoints at this position hold the same states."""
    return read_to(state) == state.next_offset


def read_to(state: PartitionState) -> int:
    """The position up to which these states have read."""
    return state.next_offset if state.read_to == NO_OFFSET else state.read_to


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_INPUT_CHARACTERS else f"{line[: SHOWN_INPUT_CHARACTERS - 1]}…"


def _seal(values: Mapping[str, Any], datasets: Mapping[str, h5py.Dataset]) -> int:
    """CRC-32 over the attributes and over each dataset's name, shape, type and CRC-32."""
    listed = {name: [d.shape, d.dtype.str, int(d.attrs[CRC])] for name, d in datasets.items()}
    return zlib.crc32(json.dumps([values, listed], sort_keys=True).encode())
