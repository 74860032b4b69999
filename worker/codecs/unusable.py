"""The error of a record that can't be used, and how its sentence is kept short."""

from __future__ import annotations

from typing import Any

REASON_CHARACTERS_LIMIT = 500
SHOWN_CHARACTERS_LIMIT = 60  # of what a record says, in a reason
SHOWN_BITS_LIMIT = 200  # of an integer: longer ones are not even turned into text, which takes for ever or fails
HALVED = "has half a surrogate pair, which is no text"
COUNTED_BITS_LIMIT = 10_000
BITS_PER_DIGIT = 3.3219


class UnusableError(Exception):
    """This record can't be used: ``error`` is the code, ``reason`` the sentence."""

    def __init__(self, error: str, reason: str) -> None:
        super().__init__(reason)
        self.error = error
        self.reason = cut(reason).encode(errors="replace").decode()  # it may show half a surrogate pair


def is_halved(found: Any) -> bool:
    """Whether it is a text with half a surrogate pair, which JSON may say, and no bytes can."""
    if not isinstance(found, str) or found.isascii():
        return False
    return any("\ud800" <= character <= "\udfff" for character in found)


def cut(reason: str) -> str:
    """The reason in REASON_CHARACTERS_LIMIT characters at most."""
    return reason if len(reason) <= REASON_CHARACTERS_LIMIT else f"{reason[: REASON_CHARACTERS_LIMIT - 1]}…"


def shown(value: Any) -> str:
    """A name, text or number of a record as a reason says it: short, whatever it is."""
    if isinstance(value, int) and value.bit_length() > SHOWN_BITS_LIMIT:
        digits = int(value.bit_length() / BITS_PER_DIGIT) + 1
        return f"an integer of {digits if value.bit_length() < COUNTED_BITS_LIMIT else 'thousands of'} digits"
    text = str(value)
    return text if len(text) <= SHOWN_CHARACTERS_LIMIT else f"{text[: SHOWN_CHARACTERS_LIMIT - 1]}…"
