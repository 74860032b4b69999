"""The kinds of values a configuration holds: durations, topic names, text that came from the environment.

Rule of this file: each value refuses what it can't be, in one sentence that says what to write instead.
"""

from __future__ import annotations

import json
import keyword
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    Strict,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from worker.records.names import TOPIC

UNITS_MS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
LONGEST_MS = 100 * 365 * 24 * UNITS_MS["h"]
MOST = 1_000_000_000_000  # of anything that is counted: sums of two such numbers fit in 64 bits
MOST_ITEMS = 100_000  # of one text: what is unfinished at a stop is drawn once more
MOST_BEAMS = 64
MAX_TEXT_CHARACTERS = 4096
DURATION = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)")


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A length of time in whole milliseconds, written ``250ms``, ``30s``, ``10m``, ``24h`` or ``7d``."""

    ms: int

    @property
    def seconds(self) -> float:
        return self.ms / 1000

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Raises ValueError for anything but whole numbers of one unit."""
        found = DURATION.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ValueError(f"{text!r} is not a duration (write 250ms, 30s, 10m or 24h)")
        number, unit = int(found[1]), found[2]
        ms = number * (24 * UNITS_MS["h"] if unit == "d" else UNITS_MS[unit])
        if ms > LONGEST_MS:
            raise ValueError(f"{text!r} is longer than a hundred years")
        return cls(ms)

    def __str__(self) -> str:
        unit = next(unit for unit, size_ms in UNITS_MS.items() if self.ms % size_ms == 0) if self.ms else "ms"
        return f"{self.ms // UNITS_MS[unit]}{unit}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def validate(value: object) -> Duration:
            return value if isinstance(value, Duration) else cls.parse(value)

        return core_schema.no_info_plain_validator_function(
            validate, serialization=core_schema.to_string_ser_schema(when_used="always")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: core_schema.CoreSchema, handler: Any) -> JsonSchemaValue:
        return {"type": "string", "pattern": rf"^({DURATION.pattern}|.*\$\{{.*)$"}


def _above_zero(value: Duration) -> Duration:
    if value.ms == 0:
        raise ValueError("should be longer than 0")
    return value


def _not_empty(value: str) -> str:
    if not value.strip():
        raise ValueError("should not be empty")
    return value


def _text(value: str) -> str:
    if len(value) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"should be at most {MAX_TEXT_CHARACTERS} characters long")
    if any(character < " " for character in value):
        raise ValueError(f"{value!r} holds a line break or another control character")
    return _not_empty(value)


def always_a_field(name: str) -> str:
    """How YAML writes ``value:NAME``: in quotes where it would be something else without."""
    text = f"value:{name}"
    return text if re.fullmatch(r"[\w.]+(:[\w.]+)+", text) else json.dumps(text)


def _field(value: str) -> str:
    """Any name that JSON may have, which is any text."""
    if not value.strip():
        wrong = "blank" if value else "empty"
        raise ValueError(f"should not be {wrong} (write {always_a_field(value)} for a field whose name is {wrong})")
    return value


def fillable(value: str) -> str:
    """A path as the system takes it: without the shell's ``~`` and without a zero byte."""
    _text(value)
    if value.startswith("~"):
        raise ValueError(f"'{value}': '~' is not filled in (write ${{HOME}} and the rest of the path)")
    return value


def _file(value: Any) -> Any:
    if isinstance(value, str):
        fillable(value)
        if re.match("[A-Za-z][A-Za-z0-9+.-]*://", value):
            raise ValueError(f"'{value}': a URL is not available yet (write the path of a file)")
    return value


def _topic(value: str) -> str:
    if not TOPIC.fullmatch(value):
        several = f"; for several write a list, [{', '.join(value.split(','))}]" if "," in value else ""
        raise ValueError(f"{value!r} is not a topic name (letters, digits, '.', '_' and '-', at most 249){several}")
    return value


def _sha256(value: str) -> str:
    if not re.fullmatch("[0-9a-fA-F]{64}", value):
        raise ValueError("should be 64 hexadecimal digits")
    return value.lower()


def _module(value: str) -> str:
    if not all(part.isidentifier() and not keyword.iskeyword(part) for part in value.split(".")):
        stem = value.rpartition("/")[2].removesuffix(".py")
        meant = f"; write {stem} for a file {stem}.py" if stem.isidentifier() and stem != value else ""
        raise ValueError(f"{value!r} is not the name of a Python module{meant}")
    return value


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise ValueError("should not be empty")
    return _each_once(values)


def _some(values: dict[str, Any]) -> dict[str, Any]:
    if not values:
        raise ValueError("should not be empty")
    return values


def _each_once(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) < len(values):
        twice = min(value for value, count in Counter(values).items() if count > 1)
        first, second, *_ = (number for number, value in enumerate(values) if value == twice)
        raise ValueError(f"{twice!r} is given twice (numbers {first} and {second}, from 0)")
    return values


Text: TypeAlias = Annotated[str, AfterValidator(_text)]
FieldName: TypeAlias = Annotated[str, AfterValidator(_field)]
Folder: TypeAlias = Annotated[str, AfterValidator(fillable)]
File: TypeAlias = Annotated[Path, BeforeValidator(_file)]
Topic: TypeAlias = Annotated[str, AfterValidator(_topic)]
Sha256: TypeAlias = Annotated[str, AfterValidator(_sha256)]
Topics: TypeAlias = Annotated[tuple[Topic, ...], AfterValidator(_unique)]
Names: TypeAlias = Annotated[tuple[Text, ...], AfterValidator(_unique)]
FieldNames: TypeAlias = Annotated[tuple[FieldName, ...], AfterValidator(_unique)]
FieldsOfInputs: TypeAlias = Annotated[dict[Text, FieldNames | FieldName], AfterValidator(_some)]
CopiedFields: TypeAlias = Annotated[tuple[FieldName, ...], AfterValidator(_each_once)]  # may be none
Choices: TypeAlias = Annotated[tuple[Text, ...], AfterValidator(_each_once)]  # may be none
Modules: TypeAlias = Annotated[tuple[Annotated[str, AfterValidator(_module)], ...], AfterValidator(_each_once)]
Items: TypeAlias = Annotated[tuple[str, ...], AfterValidator(_unique)]  # an item may be a space or a line break
Vocabulary: TypeAlias = Items | File
Item: TypeAlias = str | Annotated[int, Strict(), Field(ge=0)]
Unit: TypeAlias = Text | Annotated[int, Strict(), Field(ge=0)]
Switch: TypeAlias = Annotated[bool, Strict()]
WholeNumber: TypeAlias = Annotated[int, Strict()]
Count: TypeAlias = Annotated[int, Strict(), Field(ge=1, le=MOST)]
TextLength: TypeAlias = Annotated[int, Strict(), Field(ge=1, le=MOST_ITEMS)]
Beams: TypeAlias = Annotated[int, Strict(), Field(ge=1, le=MOST_BEAMS)]
Port: TypeAlias = Annotated[int, Strict(), Field(ge=0, le=65535)]
Amount: TypeAlias = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
Number: TypeAlias = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Share: TypeAlias = Annotated[float, Strict(), Field(gt=0, le=1)]
PositiveDuration: TypeAlias = Annotated[Duration, AfterValidator(_above_zero)]


def members(annotation: Any) -> set[Any]:
    """The plain types that a field accepts: ``Count | None`` → {int, NoneType}, a Literal → {str}."""
    if hasattr(annotation, "__metadata__"):
        return members(get_args(annotation)[0])
    arguments = get_args(annotation)
    if arguments and all(isinstance(argument, str) for argument in arguments):
        return {str}
    origin = get_origin(annotation)
    if origin in (tuple, list, dict):
        return {origin}
    return set().union(*map(members, arguments)) if arguments else {annotation}


def values_of(annotation: Any) -> Any:
    """What the values of a mapping may be: ``dict[str, Any] | None`` → Any. None where no mapping may stand."""
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    return next(filter(None, map(values_of, get_args(annotation))), None)


def _given(value: Any, annotation: Any) -> Any:
    """An empty section, ``kafka:`` with nothing below it, is one with its defaults."""
    kinds = members(annotation)
    empty = value is None and type(None) not in kinds and any(issubclass(kind, (dict, Section)) for kind in kinds)
    return {} if empty else value


class Section(BaseModel):
    """A mapping of the configuration: frozen, unknown keys refused, each key's docstring is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        fields = fields_of(cls)
        return {k: _given(v, fields[k].annotation) if k in fields else v for k, v in data.items()}


def fields_of(section: type[Section]) -> dict[str, FieldInfo]:
    """The keys of a section as the file spells them."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def attribute_of(section: type[Section], key: str) -> str:
    """The attribute that holds a key: ``copied`` for ``copy``, which pydantic has a method for."""
    return next(name for name, field in section.model_fields.items() if key in (field.alias, name))
