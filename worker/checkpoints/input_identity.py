"""Descriptions of the input that states were fed with, and of the rules: two JSON texts in each checkpoint, and how two
differ.

The input is part of a checkpoint's identity: states fed with columns in another order are as wrong as states of other
weights, and look just as right. The rules are recorded but never judged: they say when a state returns to zero, not
what a number in it means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from worker.records.reserved_words import KEY, NOT_VALUES, TIMESTAMP, VALUE

NOTHING = "null"
FIELDS = ("input.stream", "input.features", "input.time", "sequence.id", "sequence.start", "sequence.end")
WORDS = {"input.stream": KEY, "input.time": TIMESTAMP}  # a field of that name can only be told with ``value:``


def described(values: Mapping[str, Any]) -> str:
    """One JSON object of text, sorted, on one line. Fields are named without a ``value:`` that makes no difference."""
    return as_json(_in_plain(values))


def changes(was: str, now: str) -> str:
    """The keys in which two descriptions differ: ``input.stream was "key", is "device"``; "" when none does."""
    before, after = _object(was), _object(now)
    return "; ".join(
        f"{key} was {as_json(before[key]) if key in before else NOTHING}, "
        f"is {as_json(after[key]) if key in after else NOTHING}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    )


def spelt_as(was: str, now: str) -> str:
    """``was`` where the description ``now`` means the same in other words, else ``now``."""
    return now if changes(was, now) else was


def _plainly(key: str, value: Any) -> Any:
    """What a key names, without a ``value:`` that makes no difference."""
    if key not in FIELDS or not isinstance(value, str | list | tuple | Mapping):
        return value
    if isinstance(value, Mapping):
        return {name: _plainly(key, given) for name, given in value.items()}
    if not isinstance(value, str):
        return [_plainly(key, each) for each in value]
    name = value.removeprefix(VALUE)
    return value if name.startswith((VALUE, *NOT_VALUES)) or name == WORDS.get(key) else name


def _object(text: str) -> dict[str, Any]:
    """A description as an object; one of a later version may be anything."""
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return _in_plain(value) if isinstance(value, dict) else {"input": value}


def _in_plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plainly(key, value) for key, value in values.items()}


def as_json(value: object) -> str:
    """Sorted, on one line."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
