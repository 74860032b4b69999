"""The file of ``model.expect``: in which ranges the features of an event are expected. JSON, to be edited by hand, too.

``{"version": 1, "features": {"ax": {"low": -1.5, "high": 2.25}, …}, "events": 12000, "model": "<SHA-256>"}``
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from worker.errors import printable
from worker.records.arrays import FloatArray
from worker.records.ranges import Ranges

NAMES_SHOWN = 5
NAME_CHARACTERS_SHOWN = 40


class RangesError(ValueError):
    """This is no file of ranges, or one for other features: what it is or does."""


class _Range(msgspec.Struct, forbid_unknown_fields=True):
    low: float
    high: float


class _File(msgspec.Struct, forbid_unknown_fields=True):
    version: Literal[1]
    features: dict[str, _Range]
    events: int = 0
    model: str | None = None


def encode_ranges(ranges: Ranges, names: Sequence[str], events: int, model: str | None) -> bytes:
    """``names`` of the features in their order; how many events the ranges were seen in; SHA-256 of the model."""
    pairs = zip(names, _plain(ranges.low), _plain(ranges.high), strict=True)
    file = _File(1, {name: _Range(low, high) for name, low, high in pairs}, events, model)
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"


def decode_ranges(content: bytes, names: Sequence[str]) -> Ranges:
    """The ranges of these features, in this order. Raises RangesError."""
    try:
        file = msgspec.json.decode(content, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RangesError(f"is not a file of ranges ({printable(str(error))})") from None
    found = file.features
    if set(found) != set(names):
        raise RangesError(f"has ranges for {_listed(found)}, but the features are {_listed(names)}")
    for name, given in found.items():
        if given.low > given.high:
            raise RangesError(f"has a range for '{_shown(name)}' whose low, {given.low:g}, is above its high")
    return Ranges(*(np.array([getattr(found[name], end) for name in names]) for end in ("low", "high")))


def _plain(numbers: FloatArray) -> list[Any]:
    return list(numbers.astype(np.float64).tolist())


def _listed(names: Iterable[str]) -> str:
    every = sorted(names)
    shown = ", ".join(f"'{_shown(name)}'" for name in every[:NAMES_SHOWN])
    more = len(every) - NAMES_SHOWN
    return (shown or "none") + (f" and {more:,} more" if more > 0 else "")


def _shown(name: str) -> str:
    return printable(name[:NAME_CHARACTERS_SHOWN])
