"""Names that more than one room reads or writes: of topics, and short names by SHA-256."""

from __future__ import annotations

import re

TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")  # the names that Kafka allows, which are safe as folder names
DIGEST_DIGITS = 12


def short_digest(sha256: str | None) -> str:
    """The first digits of a SHA-256 in hexadecimal: a model's name in outputs, metrics and messages. "" for none."""
    return (sha256 or "")[:DIGEST_DIGITS]
