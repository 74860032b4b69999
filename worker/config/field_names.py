"""Names of fields that can't be right as they are written: lines that begin with the key's path."""

from __future__ import annotations

from collections.abc import Iterator

from worker.config.features import field_names
from worker.config.sections import Config
from worker.config.values import always_a_field
from worker.records.reserved_words import KEY, KEY_FIELD, NOT_VALUES, TIMESTAMP


def field_names_that_can_not_be_meant(config: Config) -> list[str]:
    """What is wrong with the names alone; whether they fit each other and the model is checked later."""
    checks = (_lists, _elsewhere, _unit, _without_fields, _required)
    return [line for check in checks for line in check(config)]


def _fields(config: Config) -> list[tuple[str, str]]:
    """(key, name) of every field that is named, but for the stream's."""
    sequence, time = config.sequence, config.input.time
    named = [("input.features", name) for name in field_names(config.input.features or ())]
    others = {"input.time": None if time == TIMESTAMP else time, "sequence.id": sequence.id}
    others |= {"sequence.start": sequence.start, "sequence.end": sequence.end}
    named += [("output.copy", name) for name in config.output.copied]
    return named + [(key, name) for key, name in others.items() if name is not None]


def _lists(config: Config) -> Iterator[str]:
    """One name that looks like several: a variable that is not a list, or a list among names."""
    features = config.input.features or ()
    for given in features.values() if isinstance(features, dict) else (features,):
        names = (given,) if isinstance(given, str) else given
        for at, name in enumerate(names):
            alone = isinstance(given, str)
            if name.startswith("value:") or not ("," in name or (alone and (name[0] == "{" or len(name.split()) > 1))):
                continue
            whole = f"[{', '.join([*names[:at], *_parts(name), *names[at + 1 :]])}]"
            told = f"is one name; write a list, {whole}" if alone else f"is one name of the list; write {whole}"
            if alone and name[0] == "{":
                told = "is one name; write a mapping in the file itself, without quotes or a variable"
            yield f"input.features: '{name}' {told} (or {always_a_field(name)} for such a field)"


def _parts(text: str) -> list[str]:
    """The names in a list that is written in some other way: with commas, dashes on lines, or spaces."""
    text = text.strip("[] \n")
    if "," in text:
        parts = text.split(",")
    elif text.startswith("- ") or "\n" in text:
        parts = [line.strip().removeprefix("- ") for line in text.splitlines()]
    else:
        parts = text.split()
    return [part for part in map(str.strip, parts) if part]


def _elsewhere(config: Config) -> Iterator[str]:
    for key, name in _fields(config):
        if name.startswith(NOT_VALUES):
            field = always_a_field(name)
            yield f"{key}: takes a field of the value, and '{name}' is not one (write {field} for a field of that name)"
    stream = config.input.stream
    if stream in NOT_VALUES:
        wanted, field = "header:NAME" if stream == "header:" else "key:PATH", always_a_field(stream)
        yield f"input.stream: '{stream}' names nothing; write {wanted}, or {field} for a field of that name"
    kind = config.input.stream_format
    if kind != "utf8" and stream.startswith(KEY_FIELD):
        yield f"input.stream_format: {kind} is for keys that are no text; {stream} reads a key as JSON (leave it out)"


def _unit(config: Config) -> Iterator[str]:
    unit, time = config.input.time_unit, config.input.time
    if time == TIMESTAMP and unit != "ms":
        yield (
            f"input.time_unit: {unit} is for a field, but input.time is timestamp, the record's own in ms (write "
            "value:timestamp for a field of that name)"
        )


def _without_fields(config: Config) -> Iterator[str]:
    if config.input.format != "float32":
        return
    if config.model.task == "generate":
        yield "input.format: float32 holds no text; task generate needs json or msgpack"
    stream, one_field = config.input.stream, isinstance(config.input.features, str)
    fields = [each for each in _fields(config) if each[0] != "input.features" or one_field]
    if stream != KEY and not stream.startswith(NOT_VALUES):
        fields.insert(0, ("input.stream", stream))
    for key, name in fields:
        yield f"{key}: there is no field '{name}' in a value of input.format float32"
    if isinstance(config.input.features, dict):
        yield "input.features: a value of input.format float32 has no fields, only numbers in the model's order"


def _required(config: Config) -> Iterator[str]:
    wanted = config.input.format != "float32" and config.model.task == "score"
    if wanted and config.input.features is None:
        yield "input.features: is required for task score (the fields in order, or the one field with the vector)"
