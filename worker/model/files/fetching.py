"""A model file at a URL: fetched whole into a cache on this machine, under its SHA-256, before anything opens it.

With the SHA-256 in the URL (``s3://bucket/door.keras#SHA256``) or beside it, a file that is in the cache is not fetched
again, and no other file is taken.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from worker.bounded_calls import BoundedCalls
from worker.errors import WorkerError
from worker.filesystem import open_filesystem, without_secrets
from worker.records.model_url import SHA256, ModelUrl, is_url, shown

FETCH_LIMIT_S = 180.0  # less than a worker's probes wait for its model
FETCH_LIMIT_BYTES = 2 * 1024**3
CACHED_FILES = 8  # the least recently used ones are deleted
PART, STALE_PART_S = ".part", 3600.0
FORBIDDEN = (401, 403)
INSTEAD = "use the path of a file, or a URL such as s3://bucket/model.keras"


class Located(NamedTuple):
    """A file on this machine; the SHA-256 that it must have, if that is known; how messages call it."""

    path: Path
    sha256: str | None
    shown: str


def located(path: str | Path, sha256: str | None = None, limit_s: float = FETCH_LIMIT_S) -> Located:
    """The file itself, where it is on this machine, else a copy in the cache. Raises WorkerError in one line."""
    if not is_url(path):
        return Located(Path(path), sha256, str(path))
    try:
        found = ModelUrl.parse(str(path))
    except ValueError as error:
        raise WorkerError(f"model {shown(path)}: {error}") from None
    wanted = sha256.strip().lower() if sha256 is not None else found.sha256
    if found.sha256 not in (None, wanted):
        raise WorkerError(f"model {found.shown}: its URL names the SHA-256 {found.sha256}, model.sha256 says {wanted}")
    parts = urlsplit(found.url)
    if parts.scheme in ("file", "local"):
        if parts.netloc not in ("", "localhost"):
            raise WorkerError(f"model {found.shown}: names another machine", "a file is file:///path")
        return Located(Path(unquote(parts.path)), wanted, unquote(parts.path))
    return _cached(found, wanted, limit_s)


def _cached(found: ModelUrl, wanted: str | None, limit_s: float) -> Located:
    with _as_one_line(found.shown, "no copy can be made on this machine"):
        folder = cache_folder()
        if wanted is not None and _sha256(folder / wanted) == wanted:
            with suppress(FileNotFoundError):  # another process may have forgotten it just now
                os.utime(folder / wanted)
            return Located(folder / wanted, wanted, found.shown)
        handle, name = tempfile.mkstemp(PART, dir=folder)
        os.close(handle)
        copy = Path(name)
    try:
        _fetch(found, copy, limit_s)
        digest = _sha256(copy)
        if wanted is not None and digest != wanted:
            raise WorkerError(f"model {found.shown}: its SHA-256 is {digest}, not {wanted}", "it was not opened")
        assert digest is not None, "it was fetched"
        with _as_one_line(found.shown, "no copy can be made on this machine"):
            copy.replace(folder / digest)
            _forget_old(folder, copy.with_name(digest))
    finally:
        copy.unlink(missing_ok=True)
    return Located(folder / digest, digest, found.shown)


def cache_folder() -> Path:
    """Where copies are kept, for this user alone: below XDG_CACHE_HOME or ~/.cache, else where temporary files are."""
    with suppress(OSError, RuntimeError):
        return _own(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rnn-stream-worker" / "models")
    return _own(Path(tempfile.gettempdir()) / f"rnn-stream-worker-{os.getuid()}" / "models")


def _own(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in (folder.parent, folder):
        if each.stat().st_uid != os.getuid() or not os.access(each, os.W_OK):
            raise PermissionError(f"'{each}' belongs to another user, or can't be written")
    return folder


def _sha256(file: Path) -> str | None:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _forget_old(folder: Path, new: Path) -> None:
    """Copies that were not used for long, but never the ``new`` one, and parts of copies that nobody has completed."""
    files = {each: used_s for each in folder.iterdir() if (used_s := _used_s(each)) is not None}
    copies = sorted((each for each in files if SHA256.fullmatch(each.name)), key=files.__getitem__)
    stale_s = max(files.values(), default=0.0) - STALE_PART_S
    for each in [*copies[:-CACHED_FILES], *(part for part in files if part.suffix == PART and files[part] < stale_s)]:
        if each != new:
            each.unlink(missing_ok=True)


def _used_s(file: Path) -> float | None:
    """None for one that another process has renamed or deleted meanwhile."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return None


@contextmanager
def _as_one_line(shown: str, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WorkerError(f"model {shown}: {what} ({error})") from error


def _fetch(found: ModelUrl, file: Path, limit_s: float) -> None:
    files, path = open_filesystem(found.url, f"model {found.shown}", INSTEAD)
    calls = BoundedCalls("model", 1)
    given_up: list[bool] = []
    try:
        callback = _bounded_callback(found.shown, lambda: bool(given_up))
        calls.run(lambda: files.get_file(path, str(file), callback=callback), limit_s)
    except WorkerError:
        raise
    except TimeoutError as error:
        given_up.append(True)
        raise WorkerError(
            f"model {found.shown}: it was not read within {limit_s:g} s", "put it nearer, or on this machine"
        ) from error
    except Exception as error:
        raise _refused(found, error) from error
    finally:
        calls.close()


def _refused(found: ModelUrl, error: Exception) -> WorkerError:
    told = error.__cause__ if isinstance(error.__cause__, Exception) and hasattr(error.__cause__, "status") else error
    # The client may tell another URL: one that it has written anew, or to which it was sent on, with its own signature.
    said = " ".join(without_secrets(str(told).replace(found.url, found.shown)).split())
    status = getattr(told, "status", None)
    if isinstance(told, PermissionError) or status in FORBIDDEN:
        return WorkerError(f"model {found.shown}: access is denied ({said})", "give this user the right to read it")
    if isinstance(told, FileNotFoundError):
        return WorkerError(f"model {found.shown}: there is no such file", "check model.path")
    if isinstance(told, IsADirectoryError | FileExistsError):  # a folder would be made where the copy is
        return WorkerError(f"model {found.shown}: this is a folder", "name the model file in it")
    return WorkerError(f"model {found.shown}: can't be read ({type(told).__name__}: {said})")


def _bounded_callback(shown: str, given_up: Callable[[], bool]) -> Any:
    """Ends a fetch that is too large, or that nobody waits for any more."""

    class Bounded(import_module("fsspec.callbacks").Callback):  # type: ignore[misc]
        def set_size(self, size: int | None) -> None:
            self._check(size or 0)

        def relative_update(self, inc: int = 1) -> None:
            self.value += inc
            self._check(self.value)

        def _check(self, size_bytes: int) -> None:
            if size_bytes > FETCH_LIMIT_BYTES:
                raise WorkerError(f"model {shown}: more than the limit of {FETCH_LIMIT_BYTES:,} bytes")
            if given_up():
                raise TimeoutError("nobody waits for it")

    return Bounded()
