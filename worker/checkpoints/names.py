"""What a checkpoint is called, in a folder as in a store of objects: GROUP_ID/TOPIC/PARTITION/OFFSET.h5.

A name says whose the file is and how far it has come; the order of generations is the order of offsets, never of
clocks. Whatever a group's name is, its folder is its own and lies below the directory.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from worker.errors import WorkerError
from worker.records.names import TOPIC
from worker.records.ownership import Partition

NAME = re.compile(r"([0-9]{20})\.h5")
TEMPORARY = ".tmp"
STALE_TEMPORARY_S = 3600.0  # longer than writing any checkpoint takes: its writer is dead

UNSAFE = re.compile(rb"[^A-Za-z0-9._-]")  # in the name of a group, which may hold anything
MAX_GROUP_BYTES = 200  # of a group's folder: file systems take 255; a longer one is cut and told by its SHA-256
CUT = "~"  # stands in no name that is not cut
SHADOW = f"{CUT}shadow"  # ends no group's name: in a cut one 64 digits of a SHA-256 follow


def group_folder(group_id: str, *, shadow: bool = False) -> str:
    """The name of a group's folder: as it is where that is safe, other bytes of its UTF-8 as %XX.

    One to one: no two groups have one folder, and the ``shadow`` of a group has one that no group has.
    """
    return f"{_encoded(group_id)}{SHADOW if shadow else ''}"


def _encoded(group_id: str) -> str:
    assert group_id, "a group without a name"
    name = UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], group_id.encode("utf-8", "surrogatepass")).decode()
    if not name.strip("."):
        return name.replace(".", "%2E")
    if len(name) <= MAX_GROUP_BYTES:
        return name
    digest = hashlib.sha256(group_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{name[: MAX_GROUP_BYTES - len(CUT) - len(digest)]}{CUT}{digest}"


def folder_of(partition: Partition) -> str:
    """TOPIC/PARTITION, below the group's folder. Raises WorkerError for an unsafe topic name."""
    if not TOPIC.fullmatch(partition.topic):
        raise WorkerError(f"'{partition.topic}' is not a topic name")
    assert partition.number >= 0, partition
    return f"{partition.topic}/{partition.number}"


def name_of(offset: int) -> str:
    """OFFSET.h5, which sorts as the offsets do."""
    assert 0 <= offset < 10**20, offset
    return f"{offset:020d}.h5"


def offsets_in(names: Iterable[str], at_most: int | None) -> list[int]:
    """The offsets of those names that are checkpoints' and at or below ``at_most`` (None: all), highest first."""
    found = (int(name[1]) for each in names if (name := NAME.fullmatch(each)))
    return sorted((offset for offset in found if at_most is None or offset <= at_most), reverse=True)
