"""The files that are written: what is refused beforehand, what is said of them, and when they get their names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.config.model import EncoderDecoder
from worker.config.sections import Config
from worker.errors import WorkerError
from worker.model.own_objects import within


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output, in order: ``shape`` with the open batch axis as None."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


def ports_of(tensors: Iterable[Any]) -> list[Port]:
    """Of a Keras model's inputs or outputs."""
    return [Port(tensor.name, tuple(tensor.shape), tensor.dtype) for tensor in tensors]


def own_classes(model: Any) -> list[str]:
    """Classes and functions that a reader of its file must know."""
    return sorted({f"{one.__module__}.{one.__name__}" for one in within(model).values()})


def check_output(config: Config, output: Path) -> None:
    """Refuse known mistakes before the seconds that loading a model takes."""
    path = config.model.path
    files = [path.encoder, path.decoder] if isinstance(path, EncoderDecoder) else [path]
    trained = [each for each in files if isinstance(each, Path)]
    if output.is_dir():
        raise WorkerError(f"--output {output}: this is a directory", "name a file in it")
    if not output.parent.is_dir():
        raise WorkerError(f"--output {output}: there is no folder '{output.parent}'", "make it first")
    if output.exists() and any(one.exists() and output.samefile(one) for one in trained):
        raise WorkerError(f"--output {output}: this is model.path, the trained model", "write to another file")


def publish(temporary: Path, output: Path) -> str:
    """The file gets its name, whole or not at all; its SHA-256."""
    with temporary.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    temporary.replace(output)
    folder = os.open(output.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return digest
