"""The error of a record that can't be used, and how its sentence is kept short."""

from __future__ import annotations

from typing import Any

from worker.errors import printable

REASON_CHARACTERS_LIMIT = 500
SHOWN_CHARACTERS_LIMIT = 60  # of what a record says, in a reason
SHOWN_BITS_LIMIT = 200  # of an integer: longer ones are not turned into text, which would take for ever or fail
HALVED = "has half a surrogate pair, which is not text"
COUNTED_BITS_LIMIT = 10_000
BITS_PER_DIGIT = 3.3219


class UnusableError(Exception):
    """This record can't be used: ``error`` is the code, ``reason`` the sentence."""

    def __init__(self, error: str, reason: str) -> None:
        super().__init__(reason)
        self.error = error
        self.reason = in_one_line(reason)


def is_halved(found: Any) -> bool:
    """Whether it is a text with half a surrogate pair, which JSON may say, and no bytes can."""
    if not isinstance(found, str) or found.isascii():
        return False
    return any("\ud800" <= character <= "\udfff" for character in found)


def in_one_line(reason: str) -> str:
    """A reason as letters and logs say it, in REASON_CHARACTERS_LIMIT characters at most: it may quote any record."""
    return _cut(printable(_cut(reason)))  # cut before it, too: records are long, and what is escaped gets longer


def _cut(reason: str) -> str:
    return reason if len(reason) <= REASON_CHARACTERS_LIMIT else f"{reason[: REASON_CHARACTERS_LIMIT - 1]}…"


def shown(value: Any) -> str:
    """A name, text or number of a record as a reason says it: short, whatever it is."""
    if isinstance(value, int) and value.bit_length() > SHOWN_BITS_LIMIT:
        digits = int(value.bit_length() / BITS_PER_DIGIT) + 1
        return f"an integer of {digits if value.bit_length() < COUNTED_BITS_LIMIT else 'thousands of'} digits"
    text = printable(str(value)[: SHOWN_CHARACTERS_LIMIT + 1])
    return text if len(text) <= SHOWN_CHARACTERS_LIMIT else f"{text[: SHOWN_CHARACTERS_LIMIT - 1]}…"
