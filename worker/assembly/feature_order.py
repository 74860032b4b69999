"""``input.features`` of all forms as one list of fields in the order of a model's inputs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from worker.codecs.paths import Path
from worker.config.features import Features, field_names
from worker.errors import ConfigError, counted


@dataclass(frozen=True, slots=True)
class FeatureFields:
    """``names`` as the decoder takes them; ``lengths`` numbers of each field, () where each holds one."""

    names: tuple[str, ...] | str
    lengths: tuple[int, ...] = ()


def in_order(features: Features, widths: Mapping[str, int], model: str) -> FeatureFields:
    """The fields for a model whose inputs, in its order, take so many numbers. ``model`` is its file, for messages.

    Raises a ConfigError that names the input.
    """
    if isinstance(features, str):
        return FeatureFields(features)
    if isinstance(features, tuple):
        total = sum(widths.values())
        if len(features) != total:
            parts = f" ({_inputs(widths)})" if len(widths) > 1 else ""
            raise ConfigError(f"input.features: names {_count(features)}, but {model} takes {_numbers(total)}{parts}")
        return FeatureFields(features)
    problems = list(_problems(features, widths, model))
    if problems:
        raise ConfigError("\n".join(problems))
    if len(widths) == 1:
        (only,) = features.values()
        return FeatureFields(only)
    names = tuple(name for each in widths for name in field_names(features[each]))
    lengths = tuple(length for each in widths for length in _lengths(features[each], widths[each]))
    return FeatureFields(names, lengths if max(lengths) > 1 else ())


def _problems(features: Mapping[str, tuple[str, ...] | str], widths: Mapping[str, int], model: str) -> Iterator[str]:
    for name in features:
        if name not in widths:
            near = difflib.get_close_matches(name, widths, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield f"input.features.{name}: {model} has no input of this name ({_inputs(widths)}){hint}"
    for name, width in widths.items():
        given = features.get(name)
        if given is None:
            yield f"input.features.{name}: is missing, an input of {model} that takes {_numbers(width)}"
        elif isinstance(given, tuple) and len(given) != width:
            yield f"input.features.{name}: names {_count(given)}, but this input of {model} takes {_numbers(width)}"
    single = {name for name, given in features.items() if isinstance(given, str) and widths.get(name, 1) > 1}
    vectors = {Path.of(field).names: name for name in single for field in field_names(features[name])}
    for name, given in features.items():
        for field in field_names(given):
            other = vectors.get(Path.of(field).names, name)
            if other != name:
                yield f"input.features.{name}: '{field}' is the field with the vector of input {other}"


def _lengths(given: tuple[str, ...] | str, width: int) -> tuple[int, ...]:
    return (width,) if isinstance(given, str) else (1,) * len(given)


def _inputs(widths: Mapping[str, int]) -> str:
    return "its inputs: " + ", ".join(f"{name} {_numbers(width)}" for name, width in widths.items())


def _count(fields: tuple[str, ...]) -> str:
    return counted(len(fields), "field")


def _numbers(count: int) -> str:
    return counted(count, "number")
