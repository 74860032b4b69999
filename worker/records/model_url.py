"""Where a model file is that is not on this machine: a URL, with the file's SHA-256 behind a # if that is known."""

from __future__ import annotations

import re
from typing import NamedTuple

URL = re.compile("[A-Za-z][A-Za-z0-9+.:-]*://")
SHA256 = re.compile("[0-9a-fA-F]{64}")
USER = re.compile(r"(?<=://)[^/?#\s]*@")  # and password, which may hold an @ itself


class ModelUrl(NamedTuple):
    """A URL without its fragment, and the SHA-256 that was its fragment."""

    url: str
    sha256: str | None

    @classmethod
    def parse(cls, text: str) -> ModelUrl:
        """Raises ValueError for a fragment that is no SHA-256, and for URLs in URLs."""
        url, _, fragment = text.partition("#")
        if fragment and not SHA256.fullmatch(fragment):
            raise ValueError(
                f"what follows # should be the file's SHA-256, 64 hex digits, not '{fragment.partition('?')[0]}'"
            )
        if "::" in url:
            raise ValueError("this is more than one URL; name the file itself")
        return cls(url, fragment.lower() or None)

    @property
    def shown(self) -> str:
        """Without user, password and query, which may be a signature."""
        return shown(self.url)


def is_url(path: object) -> bool:
    """Whether this names a place by a URL."""
    return isinstance(path, str) and URL.match(path) is not None


def shown(path: object) -> str:
    """A path or URL as messages call it."""
    return USER.sub("", str(path).partition("#")[0].partition("?")[0]) if is_url(path) else str(path)
