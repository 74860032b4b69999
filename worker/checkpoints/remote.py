"""Files below a URL: listed, fetched, put and deleted, each call with a deadline.

Only a clear answer of the store is believed: silence, refusals and nonsense raise StoreUnavailableError, they never
mean "there is none".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from worker.bounded_calls import BoundedCalls
from worker.errors import StoreUnavailableError
from worker.filesystem import Filesystem, open_filesystem, without_secrets

Answer = TypeVar("Answer")

MAX_HANGING_CALLS = 8
INSTEAD = "use a folder or a URL such as s3://bucket/prefix"
ONE_REQUEST_BYTES = 64 << 20  # larger files go in parts, which appear together
VERSION_KEYS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "updated", "created")


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How long one call may take before the store counts as away."""

    call_s: float = 30.0  # to list, to delete; the loop waits for a list when a partition is assigned
    transfer_s: float = 60.0  # to fetch or put a file, beside the time for its size; the loop waits for a fetch, too
    slowest_bytes_per_s: int = 4 << 20

    def for_bytes(self, size: int) -> float:
        """Seconds that a file of this size may take."""
        return self.transfer_s + size / self.slowest_bytes_per_s


class Listed(NamedTuple):
    """What a store lists of one file. ``version`` differs for other bytes; "" where the store does not tell."""

    size_bytes: int
    version: str


class Remote:
    """The files below one URL, by their paths from there. Safe to use from several threads."""

    def __init__(self, url: str, limits: StoreLimits) -> None:
        """Connects to nothing yet. Raises WorkerError for a URL that can't be used or a package that is missing."""
        self.url = without_secrets(url.rstrip("/"))
        self._limits = limits
        self._files: Filesystem
        self._files, self._root = open_filesystem(url, "state.directory", INSTEAD)
        self._calls = BoundedCalls("store", MAX_HANGING_CALLS)

    def list(self, folder: str) -> dict[str, Listed]:
        """Names of the files that are directly in this folder ("": the URL itself). Raises StoreUnavailableError."""
        path = f"{self._root}/{folder}".rstrip("/")

        def ask() -> list[dict[str, Any]]:
            # Another worker's files come and go: an earlier listing says nothing about now.
            self._files.invalidate_cache()
            try:
                return self._files.ls(path, detail=True)
            except FileNotFoundError:
                self._check_bucket()
                return []

        listed = {}
        for each in self._ask("list", folder, self._limits.call_s, ask):
            parent, _, name = each["name"].rpartition("/")
            if each["type"] == "file" and parent.strip("/") == path.strip("/"):
                version = " ".join(str(each[key]) for key in VERSION_KEYS if each.get(key))
                listed[name] = Listed(int(each["size"] or 0), version)
        return listed

    def fetch(self, name: str, listed: Listed, file: Path) -> bool:
        """Into a new file; whether there is one of this name. Raises StoreUnavailableError, also for a part of it."""

        def ask() -> int | None:
            try:
                if listed.size_bytes > ONE_REQUEST_BYTES:
                    self._files.get_file(f"{self._root}/{name}", str(file))
                else:
                    file.write_bytes(self._files.cat_file(f"{self._root}/{name}"))
            except FileNotFoundError:
                self._check_bucket()
                return None
            return file.stat().st_size

        given = self._ask("read", name, self._limits.for_bytes(listed.size_bytes), ask)
        if given is not None and given < listed.size_bytes:
            raise StoreUnavailableError(
                f"can't read {self.url}/{name}: only {given} of {listed.size_bytes} bytes arrived"
            )
        return given is not None

    def put(self, file: Path, name: str) -> None:
        """The whole file, which appears when the store has it all. Raises StoreUnavailableError, OSError."""
        size_bytes = file.stat().st_size

        def ask() -> None:
            if size_bytes > ONE_REQUEST_BYTES:
                self._files.put_file(str(file), f"{self._root}/{name}")
            else:
                self._files.pipe_file(f"{self._root}/{name}", file.read_bytes())

        self._ask("write", name, self._limits.for_bytes(size_bytes), ask)

    def delete(self, name: str) -> None:
        """It is no error if it is gone already. Raises StoreUnavailableError."""

        def ask() -> None:
            try:
                self._files.rm_file(f"{self._root}/{name}")
            except FileNotFoundError:
                self._check_bucket()

        self._ask("delete", name, self._limits.call_s, ask)

    def try_out(self, name: str) -> None:
        """Write, list and delete a small file. Raises StoreUnavailableError."""
        put = partial(self._files.pipe_file, f"{self._root}/{name}", b"probe")
        self._ask("write", name, self._limits.call_s, put)
        self.list("")
        self.delete(name)

    def _check_bucket(self) -> None:
        """A missing bucket, unlike a missing folder, does not mean "no checkpoints". Raises FileNotFoundError."""
        bucket = self._root.partition("/")[0]
        if bucket and not self._files.exists(bucket):
            raise FileNotFoundError(f"there is no bucket '{bucket}'")

    def _ask(self, doing: str, name: str, timeout_s: float, call: Callable[[], Answer]) -> Answer:
        """Raises StoreUnavailableError for anything that the store's client raises."""
        try:
            return self._calls.run(call, timeout_s)
        except Exception as error:
            said = " ".join(without_secrets(str(error)).split())
            what = f"{self.url}/{name}".rstrip("/")
            raise StoreUnavailableError(f"can't {doing} {what}: {type(error).__name__}: {said}") from error
