"""Why a value that could be parsed can't be used: one short code and one sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from worker.codecs.fields import InputFields, Paths
from worker.codecs.paths import MISSING, Path
from worker.codecs.times import UNIT_NAMES
from worker.codecs.unusable import HALVED, is_halved, shown
from worker.errors import counted
from worker.records.arrays import BoolArray, FloatArray

FEATURES = "(input.features)"


def explain(fields: InputFields, parsed: Any) -> tuple[str, str]:
    """(error, reason) of a value that no reader of ``fields`` accepts."""
    if not isinstance(parsed, dict):
        return "not_an_object", f"the value is {kind_of(parsed)}, not an object with fields"
    paths = Paths.of(fields)
    return (
        _features(fields, paths, parsed)
        or explain_others(fields, paths, parsed)
        or ("bad_value", "the value can't be used")
    )


def explain_others(fields: InputFields, paths: Paths, parsed: dict[str, Any]) -> tuple[str, str] | None:
    """(error, reason) of an object whose stream, time, sequence or boundaries can't be used; None where they can."""
    return _others(fields, paths, parsed) or _flags(paths, parsed)


def not_finite(fields: InputFields, given: FloatArray, finite: BoolArray, chunk: bool) -> str:
    """The reason, which names the number. ``given`` (n, width) as in the record, ``finite`` as the model takes them."""
    row, column = (int(index) for index in np.argwhere(~finite)[0])
    number = given[row, column]
    kind = "NaN" if np.isnan(number) else "too large for the model's numbers"
    if np.isinf(number):
        kind = "infinite, or too large for the model's numbers"
    where = f" of vector {row} of the chunk" if chunk else ""
    paths = Paths.of(fields).features
    if not paths:
        return f"number {column} of the value is {kind}"
    lengths = (fields.width,) if isinstance(fields.features, str) else fields.lengths or (1,) * len(paths)
    for path, length in zip(paths, lengths, strict=True):
        if column < length:
            place = f"number {column}{where}" if length > 1 else f"it{where}"
            return f"field '{path}' {FEATURES}: {place} is {kind}" if place != "it" else f"{_of(path)} is {kind}"
        column -= length
    raise AssertionError("lengths add up to the width")


def _features(fields: InputFields, paths: Paths, parsed: dict[str, Any]) -> tuple[str, str] | None:
    if isinstance(fields.features, str):
        (path,) = paths.features
        return _vector(path, path.find(parsed), fields.width)
    for path, length in zip(paths.features, fields.lengths or (1,) * len(paths.features), strict=True):
        found = path.find(parsed)
        if length > 1:
            wrong = _vector(path, found, length, "its input takes", chunks=False)
            if wrong is not None:
                return wrong
            continue
        if found is MISSING:
            return _missing(path, FEATURES)
        if not _is_number(found):
            return "not_a_number", f"{_of(path)} is {kind_of(found)}, not a number"
        if _is_huge(found):
            return _huge(path)
    return None


def _vector(
    path: Path, found: Any, width: int, takes: str = "the model takes", chunks: bool = True
) -> tuple[str, str] | None:
    if found is MISSING:
        return _missing(path, FEATURES)
    if width == 1 and _is_number(found):
        return _huge(path) if _is_huge(found) else None
    if not isinstance(found, list):
        return "not_a_number", f"{_of(path)} is {kind_of(found)}, not a list of numbers"
    if not found:
        return "wrong_length", f"{_of(path)} is an empty list; {takes} {counted(width, 'number')}"
    vectors = found if chunks and all(isinstance(vector, list) for vector in found) else [found]
    for vector in vectors:
        for number in vector:
            if not _is_number(number):
                return "not_a_number", f"{_of(path)} holds {kind_of(number)} in place of a number"
            if _is_huge(number):
                return _huge(path)
        if len(vector) != width:
            return "wrong_length", f"{_of(path)} has {counted(len(vector), 'number')}; {takes} {width}"
    return None


def _others(fields: InputFields, paths: Paths, parsed: dict[str, Any]) -> tuple[str, str] | None:
    time = f"{UNIT_NAMES[fields.time_unit]} or an ISO 8601 time"
    wanted: Iterable[tuple[Path | None, str, tuple[type, ...], str]] = (
        (paths.stream, "(input.stream)", (str, int), "a string or an integer"),
        (paths.time, "(input.time)", (str, int, float), time),
        (paths.id, "(sequence.id)", (str, int, float, bool, type(None)), "a string, a number, a boolean or null"),
    )
    for path, role, types, description in wanted:
        if path is None:
            continue
        found = path.find(parsed)
        if found is MISSING:
            return _missing(path, role)
        if not isinstance(found, types) or (isinstance(found, bool) and bool not in types):
            return "bad_field", f"field '{path}' {role} is {kind_of(found)}, not {description}"
        if is_halved(found):
            return "bad_field", f"field '{path}' {role} {HALVED}"
    return None


def _flags(paths: Paths, parsed: dict[str, Any]) -> tuple[str, str] | None:
    for path, role in ((paths.start, "(sequence.start)"), (paths.end, "(sequence.end)")):
        found = MISSING if path is None else path.find(parsed)
        if found is not MISSING and not (found is None or (isinstance(found, int) and found in (0, 1))):
            return "bad_field", f"field '{path}' {role} is {kind_of(found)}, not true or false"
    return None


def _missing(path: Path, role: str) -> tuple[str, str]:
    return "field_missing", f"field '{shown(path)}' {role} is missing"


def _of(path: Path) -> str:
    return f"field '{shown(path)}' {FEATURES}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_huge(number: Any) -> bool:
    # Integers have no limit, and the numbers of a model do.
    return isinstance(number, int) and abs(number) > sys.float_info.max


def _huge(path: Path) -> tuple[str, str]:
    return "not_finite", f"{_of(path)} holds a number too large for the model's numbers"


def kind_of(value: Any) -> str:
    """What it is, in words."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "binary data")
