"""YAML → one typed, frozen, cross-checked ``Config``, or one ConfigError that lists every problem by its key's path."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import ErrorDetails

from worker.config.checks import contradictions, not_yet
from worker.config.environment import fill_in, refuse_sections, settle
from worker.config.sections import Config
from worker.config.values import Duration, Section, fields_of, members
from worker.config.yaml import read_secrets, read_tree
from worker.errors import ConfigError, printable

EMPTY_KEY = "''"
SECRET = re.compile("username|password|secret|token")
MAX_PROBLEMS = 50
MAX_PROBLEM_CHARACTERS = 500

WANTED = {
    "string_type": "text",
    "path_type": "a path",
    "tuple_type": "a list",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
}
SENTENCES: dict[str, Callable[[ErrorDetails], str]] = {
    "missing": lambda error: "is required",
    "value_error": lambda error: str(error["ctx"]["error"]),
    "string_unicode": lambda error: "holds characters that are not Unicode text",
    "literal_error": lambda error: f"{error['input']!r} is not one of {error['ctx']['expected']}",
    "greater_than_equal": lambda error: f"should be at least {error['ctx']['ge']}, not {error['input']}",
    "less_than_equal": lambda error: f"should be at most {error['ctx']['le']}, not {error['input']}",
    "greater_than": lambda error: f"should be above {error['ctx']['gt']}, not {error['input']}",
    "finite_number": lambda error: f"should be a finite number, not {error['input']}",
}


def load_config(path: Path, environ: Mapping[str, str]) -> Config:
    """The configuration in a YAML file, with environment variables and secret files filled in.

    Relative paths in it stay relative: to the current directory of the process.
    Raises ConfigError with a line per problem, each beginning with the file and the key's path.
    """
    problems: list[str] = []
    tree = read_tree(path, problems)
    if tree is not None:
        refuse_sections(tree, problems, Config)
        tree = fill_in(tree, environ, problems)
        if not problems:
            settle(tree, problems, Config)
        read_secrets(tree, problems)
    config = None
    if not problems:
        try:
            config = Config.model_validate(tree)
            problems += not_yet(config) or contradictions(config)
        except ValidationError as error:
            problems += _lines(error)
    if problems or config is None:
        raise ConfigError("\n".join(f"{printable(str(path))}: {line}" for line in _readable(problems)))
    return config


def _readable(problems: list[str]) -> list[str]:
    """One line each, without terminal control characters, and no more of them than somebody reads."""
    lines = [printable(problem) for problem in problems[:MAX_PROBLEMS]]
    lines = [line if len(line) <= MAX_PROBLEM_CHARACTERS else f"{line[:MAX_PROBLEM_CHARACTERS]}..." for line in lines]
    more = len(problems) - len(lines)
    return [*lines, f"and {more} more problems"] if more else lines


def key_paths(section: type[Section] = Config, prefix: str = "") -> Iterator[str]:
    """Every key of the configuration as a dotted path, sections before their keys."""
    for name, field in fields_of(section).items():
        yield f"{prefix}{name}"
        for kind in members(field.annotation):
            if issubclass(kind, Section):
                yield from key_paths(kind, f"{prefix}{name}.")


def _lines(refused: ValidationError) -> list[str]:
    """One line per key: the branches of ``text or a list`` are one problem to the reader, not two."""
    known = set(key_paths())
    found: dict[str, list[ErrorDetails]] = {}
    for error in refused.errors(include_url=False):
        if error["type"] == "default_factory_not_called":
            continue  # it depends on a key that is in the list already
        if error["type"] == "extra_forbidden":
            place = _place(error["loc"][:-1], known)
            found[f"{place}.{error['loc'][-1] or EMPTY_KEY}".lstrip(".")] = [error]
        else:
            found.setdefault(_place(error["loc"], known), []).append(error)
    inner = {place: any(other.startswith(f"{place}.") for other in found) for place in found}
    return [
        f"{place}: {_sentence(place, errors, known)}"
        for place, errors in found.items()
        if not (inner[place] and all(error["type"] in WANTED for error in errors))  # the inner problem says it better
    ]


def _place(loc: tuple[int | str, ...], known: set[str]) -> str:
    """The key's path in a pydantic location, without the names of union branches."""
    place = ""
    for part in loc:
        longer = f"{place}.{part}".lstrip(".")
        if longer in known or isinstance(part, int):
            place = longer
    return place


def _sentence(place: str, errors: list[ErrorDetails], known: set[str]) -> str:
    if errors[0]["type"] == "extra_forbidden":
        return _unknown(place, known)
    telling = [error for error in errors if error["type"] not in WANTED]
    if telling:
        # A branch that accepted the type says more than those that did not.
        return " or ".join(dict.fromkeys(_telling(error) for error in telling))
    wanted = " or ".join(dict.fromkeys(WANTED[error["type"]] for error in errors))
    given = errors[0]["input"]
    shown = f", not {_shown(given)}" if isinstance(given, bool | int | float) and not SECRET.search(place) else ""
    quotes = " (put it in quotes)" if "text" in wanted and isinstance(given, bool | int | float) else ""
    listed = " ([first, second])" if "a list" in wanted and isinstance(given, str) else ""
    return f"should be {wanted}{', not a list' if isinstance(given, list) else shown}{quotes}{listed}"


def _shown(given: float) -> str:
    return str(given).lower() if isinstance(given, bool) else repr(given)


def _telling(error: ErrorDetails) -> str:
    sentence = SENTENCES.get(error["type"])
    return sentence(error) if sentence else error["msg"]


def _unknown(place: str, known: set[str]) -> str:
    section, _, name = place.rpartition(".")
    siblings = {path.rpartition(".")[2]: path for path in sorted(known) if path.rpartition(".")[0] == section}
    near = difflib.get_close_matches(name, siblings, 1)
    elsewhere = [path for path in sorted(known) if path.rpartition(".")[2] == name]
    if near or elsewhere:
        return f"unknown key (did you mean {siblings[near[0]] if near else elsewhere[0]}?)"
    return f"unknown key (known here: {', '.join(siblings)})" if siblings else "unknown key"


class _Schema(GenerateJsonSchema):
    """Numbers and choices may also be ``${NAME}`` in the file: editors must not mark that as wrong."""

    def _or_variable(self, schema: JsonSchemaValue) -> JsonSchemaValue:
        return {"anyOf": [schema, {"type": "string", "pattern": r"\$\{"}]}

    def int_schema(self, schema: Any) -> JsonSchemaValue:
        return self._or_variable(super().int_schema(schema))

    def float_schema(self, schema: Any) -> JsonSchemaValue:
        return self._or_variable(super().float_schema(schema))

    def bool_schema(self, schema: Any) -> JsonSchemaValue:
        return self._or_variable(super().bool_schema(schema))

    def literal_schema(self, schema: Any) -> JsonSchemaValue:
        return self._or_variable(super().literal_schema(schema))

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, Section):
            return {}
        return str(dft) if isinstance(dft, Duration) else super().encode_default(dft)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the configuration file, for editors; ``config/worker.schema.json`` is its copy."""
    schema = Config.model_json_schema(schema_generator=_Schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
