"""Names that more than one room reads or writes: of topics, and short names by SHA-256."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")  # the names that Kafka allows, which are safe as folder names
DIGEST_DIGITS = 12


def short_digest(sha256: str | None) -> str:
    """The first digits of a SHA-256 in hexadecimal: a model's name in outputs, metrics and messages. "" for none."""
    return (sha256 or "")[:DIGEST_DIGITS]


def joint_digest(sha256s: Iterable[str]) -> str:
    """The SHA-256 of several files: of theirs in hexadecimal, one after the other."""
    return hashlib.sha256("".join(sha256s).encode()).hexdigest()


def identity_of(sha256: str, form: str | None) -> str:
    """What a checkpoint's states belong to: a model, and its ``form`` where that is not the streaming one."""
    return f"{sha256} {form}" if form else sha256
