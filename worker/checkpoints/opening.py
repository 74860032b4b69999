"""From what ``state.directory`` says to a store: a folder, or objects below a URL."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from worker.checkpoints.contracts import Store
from worker.checkpoints.store import CheckpointStore
from worker.errors import WorkerError

URL = "://"
FOLDERS = ("file", "local")
THIS_MACHINE = ("", "localhost")


def open_store(directory: str) -> Store:
    """The store at a folder or URL; connects to nothing. Raises WorkerError for a URL that can't be used."""
    if URL not in directory:
        return CheckpointStore(directory)
    if "::" in directory:
        raise WorkerError(f"state.directory: '{directory}' is more than one URL; name the store itself")
    if directory.partition(URL)[0] in FOLDERS:
        parts = urlsplit(directory)
        if parts.netloc not in THIS_MACHINE:
            raise WorkerError(f"state.directory: '{directory}' names another machine; a folder is file:///path")
        return CheckpointStore(Path(unquote(parts.path)))
    from worker.checkpoints.objects import ObjectStore

    return ObjectStore(directory)
