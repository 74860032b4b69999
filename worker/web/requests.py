"""HTTP requests as bytes → values. No I/O: the input is a whole head; bodies are never read, because no route takes
one.

Rule of this file: whatever the bytes are, the answer is a Request or the status with which to refuse it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 100
REQUEST_LINE = re.compile(rb"([!-~]+) ([!-~]+) HTTP/([0-9])\.([0-9])")
METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*)")
END_OF_HEAD = re.compile(rb"\n\r?\n")
# Methods of HTTP that exist but are not allowed here; any other is unknown.
OTHER_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
OPENMETRICS = "application/openmetrics-text"
VERSIONS = {OPENMETRICS: ("", "1.0.0"), "text/plain": ("", "0.0.4", "1.0.0"), "text/*": ("",), "*/*": ("",)}
ESCAPINGS = ("allow-utf-8", "underscores", "dots", "values")
QUALITY = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


@dataclass(frozen=True, slots=True)
class Request:
    """``path`` without its query, ``accept`` all Accept headers with commas between them."""

    method: str
    path: str
    accept: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that can't be answered, and why."""

    status: HTTPStatus
    reason: str


def is_complete(received: bytes) -> bool:
    """Whether there is nothing more to wait for: the head has ended, or its first line can be refused already."""
    first, end, _ = received.partition(b"\n")
    if not end:
        return False
    return END_OF_HEAD.search(received) is not None or REQUEST_LINE.fullmatch(first.rstrip(b"\r")) is None


def read_request(head: bytes) -> Request | Refused:
    """Parses a whole head, with whatever came after it."""
    first, *lines = (line.removesuffix(b"\r") for line in head.split(b"\n"))
    found = REQUEST_LINE.fullmatch(first)
    method = found[1].decode("ascii") if found else ""
    if found is None or not METHOD.fullmatch(method):
        return Refused(HTTPStatus.BAD_REQUEST, "the first line is not METHOD PATH HTTP/1.1")
    if found[3] != b"1":
        return Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this server speaks HTTP/1.1")
    accept = _accept(lines[: lines.index(b"")] if b"" in lines else lines)
    if isinstance(accept, Refused):
        return accept
    if method not in {"GET", "HEAD"} | OTHER_METHODS:
        return Refused(HTTPStatus.NOT_IMPLEMENTED, "this method is not known")
    path = _path(found[2].decode("ascii"))
    if path is None and method not in ("OPTIONS", "CONNECT"):
        return Refused(HTTPStatus.BAD_REQUEST, "the path does not begin with /")
    return Request(method, path or "/", accept)


def _accept(lines: list[bytes]) -> str | Refused:
    if len(lines) > MAX_HEADERS:
        return Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"more than {MAX_HEADERS} headers")
    accepted = []
    for line in lines:
        found = HEADER.fullmatch(line)
        if found is None:
            return Refused(HTTPStatus.BAD_REQUEST, "a header is not NAME: VALUE")
        if found[1].lower() == b"accept":
            accepted.append(found[2].decode("latin-1"))
    return ", ".join(accepted)


def _path(target: str) -> str | None:
    """The path of ``/path?query`` or ``http://host/path``; None for a target without one."""
    if target.startswith("/"):
        return re.split("[?#]", target, maxsplit=1)[0]
    try:
        parts = urlsplit(target)
    except ValueError:  # http://[
        return None
    return (parts.path or "/") if parts.scheme in ("http", "https") and parts.netloc else None


def metrics_format(accept: str) -> str:
    """The Prometheus format that an Accept header prefers, spelt as prometheus_client understands it.

    "" is its plain text, also for a client that accepts only unknown formats: HTTP leaves that to the server, and a
    scraper can do more with numbers than with status 406.
    """
    ranges = [_media_range(text) for text in accept.split(",")]
    for media, parameters, quality in sorted(ranges, key=lambda found: -found[2]):
        version = parameters.get("version", "")
        if quality <= 0 or version not in VERSIONS.get(media, ()):
            continue
        escaping = f"; escaping={parameters['escaping']}" if parameters.get("escaping") in ESCAPINGS else ""
        if media == OPENMETRICS:
            return f"{OPENMETRICS}; version=1.0.0{escaping}" if version else OPENMETRICS
        return f"text/plain; version=1.0.0{escaping}" if version == "1.0.0" else ""
    return ""


def _media_range(text: str) -> tuple[str, dict[str, str], float]:
    """``text/plain; version=1.0.0; q=0.5`` → the type, its parameters, its weight (0 when that is not valid HTTP)."""
    media, *rest = (piece.strip() for piece in text.split(";"))
    parameters = {}
    for piece in rest:
        name, _, value = piece.partition("=")
        parameters[name.strip().lower()] = value.strip().strip('"')
    quality = parameters.get("q", "1")
    return media.lower(), parameters, float(quality) if QUALITY.fullmatch(quality) else 0.0
