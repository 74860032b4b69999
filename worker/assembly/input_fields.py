"""What a configuration says about a record's parts: for the decoder, for checks, and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations

from worker.assembly.feature_order import FeatureFields
from worker.codecs.fields import InputFields
from worker.codecs.paths import PATH_NAMES_LIMIT, Path
from worker.codecs.times import UNIT_NAMES
from worker.config.features import field_names
from worker.config.sections import Config
from worker.errors import ConfigError
from worker.records.reserved_words import HEADER, KEY, KEY_FIELD, NOT_VALUES, TIMESTAMP


@dataclass(frozen=True, slots=True)
class Readings:
    """``stream`` and ``time``: where a record's name and time are taken from, in words."""

    stream: str
    time: str


def input_fields(
    config: Config,
    features: FeatureFields,
    width: int,
    ids: tuple[tuple[slice, int], ...],
    wholes: tuple[tuple[slice, int, int], ...] = (),
) -> InputFields:
    """For the decoder. ``features`` in the order of the model's inputs, which take ``width`` numbers."""
    given, sequence = config.input, config.sequence
    return InputFields(
        width=width,
        features=features.names,
        lengths=features.lengths,
        stream=given.stream,
        stream_format=given.stream_format,
        time=given.time,
        time_unit=given.time_unit,
        id=sequence.id,
        start=sequence.start,
        end=sequence.end,
        ids=ids,
        wholes=wholes,
    )


def readings(config: Config) -> Readings:
    """For ``worker check``."""
    stream, time = config.input.stream, config.input.time
    own = "" if config.input.format == "float32" else "; a field of that name would be value:"
    if stream == KEY:
        name = f"the record's key{_read_as(config)}{own}{KEY}" if own else f"the record's key{_read_as(config)}"
    elif stream.startswith(HEADER):
        name = f"the record's header '{stream.removeprefix(HEADER)}'{_read_as(config)}"
    elif stream.startswith(KEY_FIELD):
        name = f"{_in_words(Path.in_key(stream.removeprefix(KEY_FIELD)))} of the record's key, which is JSON"
    else:
        name = f"{_in_words(Path.of(stream))} of the value"
    if time == TIMESTAMP:
        return Readings(name, f"the record's own timestamp{own}{TIMESTAMP}" if own else "the record's own timestamp")
    unit = UNIT_NAMES[config.input.time_unit]
    return Readings(name, f"{_in_words(Path.of(time))} of the value, in {unit} since the epoch or ISO 8601")


def _read_as(config: Config) -> str:
    """What is unusual about the bytes that name streams."""
    kind = config.input.stream_format
    return "" if kind == "utf8" else f", read as {kind}"


def warnings(config: Config) -> Iterator[str]:
    """Settings that may not mean what the user thinks."""
    given = config.input
    has_fields = given.format != "float32"
    for key, word, taken in (("stream", KEY, "the record's key"), ("time", TIMESTAMP, "the record's own timestamp")):
        if has_fields and key in given.model_fields_set and getattr(given, key) == word:
            yield f"input.{key}: {word} means {taken}, even where the value has a field '{word}' (that is value:{word})"
    for (outer_key, outer), (key, inner) in permutations(_roles(config), 2):
        if len(outer.names) < len(inner.names) and inner.names[: len(outer.names)] == outer.names:
            yield f"{key}: '{inner}' can only be a field of just that name, as '{outer}' ({outer_key}) is not an object"


def conditions(config: Config) -> Iterator[str]:
    """What the producers must ensure, because no single record can show it."""
    if config.input.stream != KEY:
        yield (
            f"streams are named by {readings(config).stream}: the producers must partition by it, too. Where records "
            "of one stream are in two partitions, each partition keeps its own state, and neither is right (the worker "
            "warns when it sees this)"
        )


def check_fields(config: Config) -> None:
    """Raises ConfigError where one field, however it is spelt, has two roles or is named twice."""
    features = config.input.features or ()
    by_input = isinstance(features, Mapping)
    vectors = list(features.values()) if isinstance(features, Mapping) else [features]
    single = [Path.of(name).names for name in vectors if isinstance(name, str)]
    roles = _roles(config)
    for key, path in roles:
        if key != "input.features" and path.names in single:
            number = f", or write [{path}] where it holds one number" if by_input else ""
            vector = "is the field with the vector (input.features)"
            raise ConfigError(f"{key}: '{path}' {vector}; name another one{number}")
        _check_length(key, path)
    for inputs in vectors:
        spellings: dict[tuple[str, ...], str] = {}
        for name in (inputs,) if isinstance(inputs, str) else inputs:
            first = spellings.setdefault(Path.of(name).names, name)
            if first != name:
                raise ConfigError(f"input.features: '{first}' and '{name}' are the same field; name it once")
    start, end = config.sequence.start, config.sequence.end
    if start is not None and end is not None and Path.of(start).names == Path.of(end).names:
        raise ConfigError(f"sequence.end: '{end}' is sequence.start too; one field can't mark both")
    _check_copied(config)


def _check_copied(config: Config) -> None:
    """In an output a field has its name alone, without ``value:`` and backslashes."""
    first: dict[str, str] = {}
    for name in config.output.copied:
        path = Path.of(name)
        _check_length("output.copy", path)
        other = first.setdefault(path.literal, name)
        if other != name:
            raise ConfigError(
                f"output.copy: '{other}' and '{name}' would both be '{path.literal}' in the output; name one of them"
            )


def _check_length(key: str, path: Path) -> None:
    if len(path.names) > PATH_NAMES_LIMIT:
        raise ConfigError(f"{key}: a path has at most {PATH_NAMES_LIMIT} names, this one {len(path.names)}")


def _roles(config: Config) -> list[tuple[str, Path]]:
    given, sequence = config.input, config.sequence
    in_value = given.stream != KEY and not given.stream.startswith(NOT_VALUES)
    roles = [("input.features", name) for name in field_names(given.features or ())]
    others = [
        ("input.stream", given.stream if in_value else None),
        ("input.time", None if given.time == TIMESTAMP else given.time),
        ("sequence.id", sequence.id),
        ("sequence.start", sequence.start),
        ("sequence.end", sequence.end),
    ]
    roles += [(key, name) for key, name in others if name is not None]
    return [(key, Path.of(name)) for key, name in roles]


def _in_words(path: Path) -> str:
    if len(path.names) == 1:
        return f"field '{path.literal}'"
    *outer, last = path.names
    return f"field '{path.literal}' (or else '{last}' inside '{'.'.join(outer)}')"
