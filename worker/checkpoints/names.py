"""What a checkpoint is called, in a folder as in a store of objects: TOPIC/PARTITION/OFFSET.h5.

A name says whose the file is and how far it has come; the order of generations is the order of offsets, never of
clocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from worker.errors import WorkerError
from worker.records import Partition

TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")  # what Kafka allows, which is safe as a folder's name
NAME = re.compile(r"([0-9]{20})\.h5")
TEMPORARY = ".tmp"
STALE_TEMPORARY_S = 3600.0  # longer than any checkpoint takes: its writer is dead


def folder_of(partition: Partition) -> str:
    """TOPIC/PARTITION. Raises WorkerError for an unsafe topic name."""
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
