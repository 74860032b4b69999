"""Partitions, and how a member comes to own them and ceases to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias


class Partition(NamedTuple):
    """One partition of one topic: the unit of ownership, of order and of checkpoints."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.number}"


class Assigned(NamedTuple):
    """These partitions are ours from now on; the answer says the offset to start each from."""

    partitions: tuple[Partition, ...]


class Revoked(NamedTuple):
    """These partitions go to another member once the answer is given: commit now."""

    partitions: tuple[Partition, ...]


class Lost(NamedTuple):
    """These partitions belong to another member already: drop them, commit nothing."""

    partitions: tuple[Partition, ...]


Change: TypeAlias = Assigned | Revoked | Lost
StartOffsets: TypeAlias = Mapping[Partition, int]
