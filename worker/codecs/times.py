"""A field with an event's time → ms since the epoch, checked against the record's own timestamp.

A number in the wrong unit looks like a time, too, but of another century: gaps would be seen never or always.
"""

from __future__ import annotations

import math
import re
from calendar import isleap
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from operator import itemgetter
from typing import Any

import numpy as np

from worker.codecs.unusable import UnusableError, shown
from worker.records.arrays import IntArray

TIME_MS_LIMIT = 2**53  # as far as JSON numbers are exact
APART_MS_LIMIT = 3653 * 86_400_000  # ten years, from the record's own timestamp
UNITS = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}  # ms = number * the first / the second
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
EXAMPLE = "2024-07-08T12:00:00Z"
DATE_DIGITS = (7, 8)  # 2024190 and 20240708 are dates of ISO 8601; longer digits are a number made into text
# Parts of ISO 8601 that Python's datetime lacks: the day of a year, the midnight that ends a day, leap seconds.
ORDINAL = re.compile(r"([0-9]{4})-?([0-9]{3})(?=[Tt ]|$)")
MIDNIGHT = re.compile(r"(?<=[Tt ])24(?=(:?00){0,2}(?:[.,]0+)?(?:[Zz+-]|$))")
LEAP_SECOND = re.compile(r"(?<=[Tt ])([0-9]{2}:[0-9]{2}:|[0-9]{4})60(?=[.,Zz+-]|$)")
DAY_S = 86_400
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
AFTER_YEAR = itemgetter(slice(4, 5))  # a digit: a number in text, or a date without dashes

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class EventTimes:
    """For numbers in one unit; text is ISO 8601, and without a zone UTC."""

    def __init__(self, unit: str) -> None:
        self._unit = unit

    def of_all(self, given: Sequence[Any], timestamps: Sequence[int]) -> IntArray | None:
        """(records,) of what one field says in each record; None when one of them needs a closer look."""
        times = self._columns(given)
        if times is None:
            return None
        own = np.array(timestamps, np.int64)
        apart = (np.abs(times - own) > APART_MS_LIMIT) & (own >= 0)
        return None if apart.any() else times

    def of(self, given: Any, timestamp: int) -> int:
        """Of one record, whose own timestamp is negative where it has none. Raises UnusableError."""
        ms = self._text(given) if isinstance(given, str) else _milliseconds(given, self._unit)
        if ms is None or not 0 <= ms <= TIME_MS_LIMIT:
            wrong = f"a time in {UNIT_NAMES[self._unit]} since the epoch"
            if isinstance(given, str):
                wrong = "a time from 1970 on"
            raise UnusableError("bad_time", f"{shown(given)} (input.time) is not {wrong}{self._hint(given, timestamp)}")
        if timestamp >= 0 and abs(ms - timestamp) > APART_MS_LIMIT:
            in_unit = "" if isinstance(given, str) else f" in {UNIT_NAMES[self._unit]}"
            apart = f"more than ten years from the record's own timestamp, {_day(timestamp)}"
            reason = f"{shown(given)} (input.time) is {_day(ms)}{in_unit}, {apart}{self._hint(given, timestamp)}"
            raise UnusableError("bad_time", reason)
        return ms

    def _columns(self, given: Sequence[Any]) -> IntArray | None:
        """As ``_milliseconds`` for each, to the same bit; None when one of them is not a time."""
        kinds = set(map(type, given))
        factor, divisor = UNITS[self._unit]
        try:
            if kinds == {int}:
                whole = np.fromiter(given, np.int64, len(given))
                if whole.min() < 0 or whole.max() > TIME_MS_LIMIT * divisor // factor:
                    return None
                times = (whole * factor + divisor // 2) // divisor
            elif kinds == {float}:
                numbers = np.array(given, np.float64)
                if numbers.min() < 0:
                    return None
                with np.errstate(over="ignore"):
                    times = np.floor(numbers * factor / divisor + 0.5)
            elif kinds == {str} and not any(map(str.isdigit, map(AFTER_YEAR, given))):
                seconds = list(map(_seconds, given))
                times = np.floor(np.array(seconds) * 1000 + 0.5)
            else:
                times = np.array([self.of(each, -1) for each in given], np.int64)
        except (OverflowError, ValueError, UnusableError):
            return None
        in_range = bool(((times >= 0) & (times <= TIME_MS_LIMIT)).all())  # NaN is not
        return times.astype(np.int64) if in_range else None

    def _text(self, given: str) -> int:
        if NUMBER.fullmatch(given) and not (given.isdigit() and len(given) in DATE_DIGITS):
            raise UnusableError("bad_time", f"'{shown(given)}' (input.time) is a number in text, not an ISO 8601 time")
        try:
            return math.floor(_seconds(given) * 1000 + 0.5)
        except ValueError:
            raise UnusableError("bad_time", f"'{shown(given)}' (input.time) is not a time like {EXAMPLE}") from None

    def _hint(self, given: Any, timestamp: int) -> str:
        """The unit in which the number would be a time near the record's own."""
        for unit in UNITS if timestamp >= 0 and not isinstance(given, str) else ():
            ms = _milliseconds(given, unit)
            if ms is not None and abs(ms - timestamp) <= APART_MS_LIMIT:
                return f"; in {UNIT_NAMES[unit]} it would be {_day(ms)}: set input.time_unit: {unit}"
        return ""


def _seconds(text: str) -> float:
    """Since the epoch. Raises ValueError for what is not ISO 8601."""
    try:
        return _since_epoch(datetime.fromisoformat(text))
    except ValueError:
        plain, later_s = _plain(text)
        if plain == text:
            raise
    return _since_epoch(datetime.fromisoformat(plain)) + later_s


def _plain(text: str) -> tuple[str, int]:
    """The time as Python's datetime knows it, and how much later it is. Raises ValueError for no day of its year."""
    later_s = 0
    if ordinal := ORDINAL.match(text):
        year, day = int(ordinal[1]), int(ordinal[2])
        if not 1 <= day <= (366 if isleap(year) else 365):
            raise ValueError(text)
        text = date.fromordinal(date(year, 1, 1).toordinal() + day - 1).isoformat() + text[ordinal.end() :]
    for found, instead, more_s in ((MIDNIGHT, "00", DAY_S), (LEAP_SECOND, r"\g<1>59", 1)):
        text, count = found.subn(instead, text)
        later_s += count * more_s
    return text, later_s


def _since_epoch(moment: datetime) -> float:
    # A time without a zone is UTC: the machine's own zone must not decide about gaps.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _milliseconds(number: float, unit: str) -> int | None:
    """To the nearest; None for what is negative or not finite."""
    factor, divisor = UNITS[unit]
    if number < 0:
        return None
    if isinstance(number, int):
        return (number * factor + divisor // 2) // divisor
    in_ms = number * factor / divisor + 0.5
    return math.floor(in_ms) if math.isfinite(in_ms) else None


def _day(ms: int) -> str:
    try:
        return (EPOCH + timedelta(milliseconds=ms)).date().isoformat()
    except OverflowError:
        return "after the year 9999"
