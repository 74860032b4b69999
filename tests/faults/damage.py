"""Checkpoint files as bad disks and bad hands leave them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path


def truncate(file: Path, draw: random.Random) -> None:
    """The end is missing."""
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.truncate(draw.randrange(1, size))


def flip_a_bit(file: Path, draw: random.Random) -> None:
    """One bit is another."""
    place = draw.randrange(file.stat().st_size)
    with file.open("r+b") as opened:
        opened.seek(place)
        byte = opened.read(1)[0]
        opened.seek(place)
        opened.write(bytes([byte ^ 1 << draw.randrange(8)]))


def empty(file: Path, draw: random.Random) -> None:
    """Nothing is left but the name."""
    file.write_bytes(b"")


def garbage(file: Path, draw: random.Random) -> None:
    """Other bytes, as many."""
    file.write_bytes(draw.randbytes(file.stat().st_size))


DAMAGES: tuple[Callable[[Path, random.Random], None], ...] = (truncate, flip_a_bit, empty, garbage)


def checkpoints(folders: Sequence[Path], partition: int) -> list[Path]:
    """A partition's files in all folders, newest first."""
    found = [file for folder in folders for file in (folder / str(partition)).glob("*.h5")]
    return sorted(found, key=lambda file: file.name, reverse=True)
