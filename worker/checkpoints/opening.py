"""From what ``state.directory`` says to a store: a folder, or objects below a URL."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from worker.checkpoints.contracts import Store
from worker.checkpoints.folder import CheckpointStore
from worker.errors import ConfigError, WorkerError

URL = "://"
SURROGATE = re.compile("[\ud800-\udfff]")
FOLDERS = ("file", "local")
THIS_MACHINE = ("", "localhost")


def open_store(directory: str, group_id: str, *, shadow: bool = False) -> Store:
    """The store of a group, or of its shadow, at a folder or URL; connects to nothing.

    Raises WorkerError for a URL that can't be used, ConfigError for a group without a folder.
    """
    if "\0" in group_id or SURROGATE.search(group_id):
        raise ConfigError(f"kafka.group_id: {group_id!r} is not text that a file can hold; use another one")
    if URL not in directory:
        return CheckpointStore(directory, group_id, shadow=shadow)
    if "::" in directory:
        raise WorkerError(f"state.directory: '{directory}' is more than one URL; name the store itself")
    if directory.partition(URL)[0] in FOLDERS:
        parts = urlsplit(directory)
        if parts.netloc not in THIS_MACHINE:
            raise WorkerError(f"state.directory: '{directory}' names another machine; a folder is file:///path")
        return CheckpointStore(Path(unquote(parts.path)), group_id, shadow=shadow)
    from worker.checkpoints.objects import ObjectStore

    return ObjectStore(directory, group_id, shadow=shadow)
