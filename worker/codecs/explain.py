"""Why a value can't be used: one short code and one sentence. Runs only once parsing has failed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from worker.codecs.fields import KEY, TIMESTAMP, InputFields

_MISSING = object()
FORM_NAMES = {"json": "JSON", "msgpack": "MessagePack"}


def explain(fields: InputFields, value: bytes, parse: Callable[[bytes], Any], form: str) -> tuple[str, str]:
    """(error, reason) of a value that no reader of ``fields`` accepts."""
    if form == "json":
        try:
            value.decode()
        except UnicodeDecodeError as error:
            return "not_utf8", f"the value is not UTF-8: byte {error.start} is {value[error.start]:#04x}"
    try:
        parsed = parse(value)
    except RecursionError:
        return f"not_{form}", f"the value is not usable {FORM_NAMES[form]}: it is nested too deeply"
    except Exception as error:  # noqa: BLE001 - whatever the parser objects to is the answer
        if "out of range" in str(error):
            return "not_finite", "the value holds a number that is too large for any field"
        if form == "json" and _says_nan(value):
            return "not_finite", "the value holds NaN or Infinity, which JSON does not have; leave such events out"
        return f"not_{form}", f"the value is not {FORM_NAMES[form]}: {error}"
    if not isinstance(parsed, dict):
        return "not_an_object", f"the value is {_kind(parsed)}, not an object with fields"
    return _features(fields, parsed) or _others(fields, parsed) or ("bad_value", "the value can't be used")


def _says_nan(value: bytes) -> bool:
    """Whether this is JSON but for NaN and Infinity, which Python's json.dumps writes."""
    found: list[str] = []
    try:
        json.loads(value, parse_constant=found.append)
    except (ValueError, RecursionError):
        return False
    return bool(found)


def _features(fields: InputFields, parsed: dict[str, Any]) -> tuple[str, str] | None:
    if isinstance(fields.features, str):
        return _vector(fields.features, _find(parsed, fields.features), fields.width)
    for path, length in zip(fields.features, fields.lengths or (1,) * len(fields.features), strict=True):
        found = _find(parsed, path)
        if length > 1:
            wrong = _vector(path, found, length, "its input takes", chunks=False)
            if wrong is not None:
                return wrong
            continue
        if found is _MISSING:
            return "field_missing", f"field '{path}' (input.features) is missing"
        if not _is_number(found):
            return "not_a_number", f"field '{path}' (input.features) is {_kind(found)}, not a number"
        if _is_huge(found):
            return _huge(path)
    return None


def _vector(
    path: str, found: Any, width: int, takes: str = "the model takes", chunks: bool = True
) -> tuple[str, str] | None:
    if found is _MISSING:
        return "field_missing", f"field '{path}' (input.features) is missing"
    if width == 1 and _is_number(found):
        return _huge(path) if _is_huge(found) else None
    if not isinstance(found, list):
        return "not_a_number", f"field '{path}' (input.features) is {_kind(found)}, not a list of numbers"
    if not found:
        return "wrong_length", f"field '{path}' (input.features) is an empty list; {takes} {width} numbers"
    vectors = found if chunks and all(isinstance(vector, list) for vector in found) else [found]
    for vector in vectors:
        for number in vector:
            if not _is_number(number):
                return "not_a_number", f"field '{path}' (input.features) holds {_kind(number)} in place of a number"
            if _is_huge(number):
                return _huge(path)
        if len(vector) != width:
            return "wrong_length", f"field '{path}' (input.features) has {len(vector)} numbers; {takes} {width}"
    return None


def _others(fields: InputFields, parsed: dict[str, Any]) -> tuple[str, str] | None:
    wanted = (
        (fields.stream, KEY, "input.stream", (str, int), "a string or an integer"),
        (fields.time, TIMESTAMP, "input.time", (str, int, float), "milliseconds or an ISO 8601 time"),
        (fields.id, None, "sequence.id", (str, int, float, bool, type(None)), "a string, a number, a boolean or null"),
    )
    for path, unless, role, types, description in wanted:
        if path is None or path == unless:
            continue
        found = _find(parsed, path)
        if found is _MISSING:
            return "field_missing", f"field '{path}' ({role}) is missing"
        if not isinstance(found, types) or (isinstance(found, bool) and bool not in types):
            return "bad_field", f"field '{path}' ({role}) is {_kind(found)}, not {description}"
    for path, role in ((fields.start, "sequence.start"), (fields.end, "sequence.end")):
        found = _MISSING if path is None else _find(parsed, path)
        if found is not _MISSING and not (found is None or (isinstance(found, int) and found in (0, 1))):
            return "bad_field", f"field '{path}' ({role}) is {_kind(found)}, not true or false"
    return None


def _find(parsed: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(parsed, dict) or part not in parsed:
            return _MISSING
        parsed = parsed[part]
    return parsed


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_huge(number: Any) -> bool:
    # Integers have no limit, and the numbers of a model do.
    return isinstance(number, int) and abs(number) > sys.float_info.max


def _huge(path: str) -> tuple[str, str]:
    return "not_finite", f"field '{path}' (input.features) holds a number too large for the model's numbers"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "binary data")
