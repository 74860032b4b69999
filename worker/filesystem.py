"""A URL as a file system of fsspec, with time-outs and without caches. fsspec is imported only when a URL is used."""

from __future__ import annotations

import re
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

from worker.errors import WorkerError

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 20  # between two pieces of an answer
ATTEMPTS = 3  # per request
USER = re.compile(r"(?<=://)[^/?#\s]*@")  # and password, in a URL
QUERY = re.compile(r"(?<=://)([^?\s]*)\?\S*")  # which may be a signature
S3_PROTOCOLS = ("s3", "s3a")


class Filesystem(Protocol):
    """The part of fsspec's file systems that is used. Any call may raise whatever the store's client raises."""

    def invalidate_cache(self) -> None:
        """Forget what was listed."""

    def ls(self, path: str, detail: bool) -> list[dict[str, Any]]:
        """What is in a folder: ``name`` (whole path), ``type``, ``size`` of each. FileNotFoundError for none."""

    def exists(self, path: str) -> bool:
        """Whether there is such an object, folder or bucket."""

    def cat_file(self, path: str) -> bytes:
        """A whole object."""

    def get_file(self, rpath: str, lpath: str, **options: Any) -> None:
        """A whole object into a file; ``callback`` among the options is told how far it is."""

    def pipe_file(self, path: str, value: bytes) -> None:
        """One object in one piece."""

    def put_file(self, lpath: str, rpath: str) -> None:
        """One object from a file, in as many parts as it takes."""

    def rm_file(self, path: str) -> None:
        """Delete one object."""


def without_secrets(text: str) -> str:
    """Without the users, passwords and queries of all URLs in it, and what follows a query up to a space."""
    return USER.sub("", QUERY.sub(r"\1", text))


def open_filesystem(url: str, place: str, instead: str) -> tuple[Filesystem, str]:
    """The file system, and the URL's path in it without a slash at the end. With object stores it connects to nothing.

    Raises WorkerError in one line for a URL that is not known and for a package that is missing: it begins with
    ``place`` and ends with ``instead``, where no package helps.
    """
    try:
        fsspec = import_module("fsspec")
    except ModuleNotFoundError as error:
        raise WorkerError(
            f"{place}: URLs need the package fsspec; pip install {_requirement(url, 'fsspec')}"
        ) from error
    protocol = url.partition("://")[0]
    try:
        files, path = import_module("fsspec.core").url_to_fs(url, **_options(protocol, fsspec))
    except ImportError as error:
        # fsspec says in words what is missing; the name of the module is in the error that caused this one.
        missing = getattr(error.__cause__, "name", None) or error.name or "the package that it names"
        raise WorkerError(
            f"{place}: {protocol}:// needs a package that is not installed ({_line(error)}); "
            f"pip install {_requirement(url, missing)}"
        ) from error
    except Exception as error:
        raise WorkerError(
            f"{place}: {protocol}:// can't be used ({type(error).__name__}: {_line(error)})", instead
        ) from error
    return files, str(path).rstrip("/")


def _options(protocol: str, fsspec: ModuleType) -> dict[str, Any]:
    options: dict[str, Any] = {"skip_instance_cache": True}
    if protocol in S3_PROTOCOLS:
        own = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
            "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
        }
        options["use_listings_cache"] = False
        # What the user has set for fsspec goes before ours, which would hide it.
        options["config_kwargs"] = own | fsspec.config.conf.get(protocol, {}).get("config_kwargs", {})
    return options


def _requirement(url: str, package: str) -> str:
    return "'rnn-stream-worker[s3]'" if url.startswith(tuple(f"{each}://" for each in S3_PROTOCOLS)) else package


def _line(error: Exception) -> str:
    return " ".join(without_secrets(str(error)).split())
