"""Unfinished records as short text, for the note of a committed offset, and how long it may become.

A number is written in digits of 5 bits, the most significant first; each is a character of ALPHABET, the last one of a
number from its first half, the others from the second. A record is its distance from the one before it (the first: from
the offset that the list begins at), doubled, plus 1 where outputs of it were sent; then follows how many.
"""

from __future__ import annotations

from collections.abc import Iterable

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
BITS = 5
LAST = 1 << BITS  # digits below it are the last ones of their numbers
LIST_CHARACTERS_LIMIT = 3_600  # brokers take notes of 4,096 bytes (offset.metadata.max.bytes), with what else they say

_VALUES = {character: value for value, character in enumerate(ALPHABET)}


def most_characters(distance: int, items: int) -> int:
    """What a record costs at most, so far from the unfinished one before it, of whose text so many items may be sent.

    When the one before it is finished, the two distances become one, which costs no more than both.
    """
    return _digits(distance * 2 + 1) + _digits(items * 2 + 1)


def _digits(number: int) -> int:
    return max(1, -(-number.bit_length() // BITS))


def listed(start: int, unfinished: Iterable[tuple[int, int]]) -> str:
    """(offset, outputs sent) of each record, from ``start`` on in the order of offsets, as text."""
    written = []
    for offset, sent in unfinished:
        written.append(_written((offset - start) * 2 + (sent > 0)))
        if sent:
            written.append(_written(sent))
        start = offset
    return "".join(written)


def unlisted(start: int, text: str) -> list[tuple[int, int]]:
    """What ``listed`` has written. Raises ValueError for other text."""
    numbers = iter(_numbers(text))
    found: list[tuple[int, int]] = []
    for number in numbers:
        distance, any_sent = divmod(number, 2)
        sent = next(numbers, 0) if any_sent else 0
        if bool(sent) != bool(any_sent) or (found and not distance):
            raise ValueError(f"{text!r} lists no records")
        start += distance
        found.append((start, sent))
    return found


def _written(number: int) -> str:
    assert number >= 0, number
    characters = ALPHABET[number % LAST]
    while number := number >> BITS:
        characters = ALPHABET[LAST + number % LAST] + characters
    return characters


def _numbers(text: str) -> list[int]:
    numbers, number, open_digits = [], 0, False
    for character in text:
        digit = _VALUES.get(character)
        if digit is None:
            raise ValueError(f"{character!r} is no digit")
        number, open_digits = number << BITS | digit % LAST, digit >= LAST
        if not open_digits:
            numbers.append(number)
            number = 0
    if open_digits:
        raise ValueError(f"{text!r} ends within a number")
    return numbers
