"""What of the configuration decides what a stream's states have seen, as two JSON texts in each checkpoint.

The input is part of a checkpoint's identity: states fed with columns in another order are as wrong as states of other
weights, and look as right. The rules are told in it and judged by nobody: they say when a state returns to zero, not
what a number in it means.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from worker.config.features import Features, field_names
from worker.config.field_names import KEY, NOT_VALUES, TIMESTAMP
from worker.config.sections import Config
from worker.config.values import Vocabulary

DIGEST_DIGITS = 12  # of a vocabulary's SHA-256: the attributes of a checkpoint are small
NOTHING = "null"
# What of the section ``input`` says where records are, not what they are; and what every description names. Any other
# key is part of it where it is not as by default: a key that is new in a later version then changes no description.
WHERE = {"topic", "start", "schema"}
ALWAYS = ("format", "stream", "features", "time")
VALUE = "value:"  # before a field's name: a field, whatever its name means elsewhere
FIELDS = ("input.stream", "input.features", "input.time", "sequence.id", "sequence.start", "sequence.end")
WORDS = {"input.stream": KEY, "input.time": TIMESTAMP}  # a field of that name can only be told with ``value:``


def input_description(config: Config, inputs: Sequence[str] = ()) -> str:
    """The keys that say how numbers and streams come out of records: one JSON object of text, sorted, on one line.

    Part of it: the format (records between a checkpoint and the last commit are read once more, and in another format
    all of them would be refused in silence), the field that names the stream, the features in their order (float32 has
    no names for them), the field with the time and its unit (a stream's last time and its partition's clock are states,
    too), and for tasks that read text its vocabulary: a list by its SHA-256, a file by its path, because nothing is
    read here. Fields are named without a ``value:`` that makes no difference. Features by input are in the order of the
    model's ``inputs``: a list that says the same is the same.
    """
    given, model = config.input, config.model
    more = given.model_dump(mode="json", exclude=WHERE.union(ALWAYS), exclude_defaults=True)
    values: dict[str, Any] = {
        "input.format": given.format,
        "input.stream": given.stream,
        "input.features": None if given.format == "float32" else _features(given.features, inputs),
        "input.time": given.time,
        **{f"input.{key}": value for key, value in more.items()},
    }
    if model.task != "score":
        values["model.vocabulary"] = _vocabulary(model.vocabulary)
        values["model.source_vocabulary"] = _vocabulary(model.source_vocabulary)
    return _json(_in_plain(values))


def _features(given: Features | None, inputs: Sequence[str]) -> Features | None:
    if not isinstance(given, Mapping) or set(given) != set(inputs):
        return given
    if len(inputs) == 1:
        return given[inputs[0]]
    return tuple(name for each in inputs for name in field_names(given[each]))


def rules_description(config: Config) -> str:
    """The keys that say when a stream's state returns to zero: one JSON object of text, sorted, on one line."""
    values = {f"sequence.{key}": value for key, value in config.sequence.model_dump(mode="json").items()}
    kept = config.state.model_dump(mode="json", include={"idle", "max_streams"})
    return _json(_in_plain(values | {f"state.{key}": value for key, value in kept.items()}))


def changes(was: str, now: str) -> str:
    """Two descriptions, the keys that differ: ``input.stream was "key", is "device"``; "" when none does."""
    before, after = _object(was), _object(now)
    return "; ".join(
        f"{key} was {_json(before[key]) if key in before else NOTHING}, "
        f"is {_json(after[key]) if key in after else NOTHING}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    )


def spelt_as(was: str, now: str) -> str:
    """``was`` where the description ``now`` says the same in other words, else ``now``."""
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


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _vocabulary(value: Vocabulary | None) -> str | None:
    if value is None or isinstance(value, Path):
        return None if value is None else value.as_posix()
    return f"sha256:{hashlib.sha256(_json(value).encode()).hexdigest()[:DIGEST_DIGITS]}"
