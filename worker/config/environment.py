"""Environment variables in a configuration: filled into its text, then read as the type of each key.

Rule of this file: a variable is read in one way or refused with a line in ``problems`` that says what to write. YAML's
own readings of text (``0100`` is 64, ``1:30`` is 90, ``no`` is false) do not apply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from worker.config.values import Section, fields_of, members, values_of
from worker.config.yaml import SECRETS, scalars_of_list

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
BARE = re.compile(rf"\$({NAME.pattern})(/.*)?")
WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
DECIMAL = re.compile(r"[-+]?((0|[1-9][0-9]{0,30})(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][-+]?[0-9]{1,3})?")
SWITCHES = {"true": True, "false": False}
OTHER_SWITCHES = {"yes": "true", "on": "true", "no": "false", "off": "false"}
TWO_READINGS = re.compile(r"[-+]?(0[0-9]+|0[xob][0-9a-fA-F]+|[0-9]+(_[0-9]+)+|[0-9]+(:[0-9]+)+|[0-9.]+[eE][-+]?[0-9]+)")
TEXT_OPTION = re.compile(r"password|passphrase|secret|username|principal|token|rack")  # digits are text there, too
SHOWN_CHARACTERS = 60


class FromEnvironment(str):
    """Text into which variables were filled; ``empty`` names one without a default that holds nothing."""

    empty: str | None = None


class _MalformedError(Exception):
    """The sentence about ``${`` signs that do not form a variable."""


def refuse_sections(tree: dict[Any, Any], problems: list[str], section: type[Section], path: str = "") -> None:
    """Reports each section that is given as a variable, whose text can't be one, and removes it from the tree."""
    for key, field in fields_of(section).items():
        value, place, kinds = tree.get(key), f"{path}.{key}".lstrip("."), members(field.annotation) - {type(None)}
        if isinstance(value, dict):
            for kind in kinds:
                if issubclass(kind, Section):
                    refuse_sections(value, problems, kind, place)
        elif isinstance(value, str) and "${" in value and all(issubclass(kind, (dict, Section)) for kind in kinds):
            problems.append(f"{place}: a section can't come from a variable (write its keys, each with one of its own)")
            del tree[key]


def fill_in(value: Any, environ: Mapping[str, str], problems: list[str], path: str = "") -> Any:
    """The tree with ``${NAME}`` and ``${NAME:-default}`` replaced in every string value; ``$${`` stands for ``${``."""
    if isinstance(value, dict):
        return {k: fill_in(v, environ, problems, f"{path}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list):
        return [fill_in(v, environ, problems, f"{path}.{i}") for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value
    bare = BARE.fullmatch(value)
    if bare and path not in {f"{section}.{name}" for section, name in SECRETS}:
        problems.append(f"{path}: '{value}' is not a variable (write ${{{bare[1]}}}{bare[2] or ''})")
    if "${" not in value:
        return value
    try:
        return _filled(value, environ, problems, path)
    except _MalformedError as sentence:
        problems.append(f"{path}: {sentence}")
        return value


def _filled(value: str, environ: Mapping[str, str], problems: list[str], path: str) -> FromEnvironment:
    pieces, empty = [], None
    for text, name, default in _pieces(value):
        if name is None:
            pieces.append(text)
            continue
        if name not in environ and default is None:
            problems.append(f"{path}: the environment variable {name} is not set (or write ${{{name}:-default}})")
        given = environ.get(name, "").rstrip("\r\n")  # the end of a mounted file's last line, never intended
        try:
            given.encode()
        except UnicodeEncodeError:
            problems.append(f"{path}: the environment variable {name} is not UTF-8 text")
        if not given and default is None:
            empty = empty or name
        pieces.append(given or default or "")
    filled = FromEnvironment("".join(pieces))
    filled.empty = empty
    return filled


def _pieces(value: str) -> Iterator[tuple[str, str | None, str | None]]:
    """(text, None, None) between variables, ("", name, default) for each. Raises _MalformedError."""
    at = 0
    while (start := value.find("${", at)) >= 0:
        if start > at and value[start - 1] == "$":
            yield value[at : start - 1] + "${", None, None
            at = start + 2
            continue
        yield value[at:start], None, None
        name = NAME.match(value, start + 2)
        if name is None or not value.startswith(("}", ":-"), name.end()):
            raise _MalformedError("'${' should be followed by a name and '}' (write $${ for a literal ${)")
        default, at = (None, name.end() + 1) if value[name.end()] == "}" else _default(value, name.end() + 2)
        yield "", name[0], default
    yield value[at:], None, None


def _default(value: str, start: int) -> tuple[str, int]:
    """The default that begins at ``start``, up to the brace that belongs to its variable, and where to continue."""
    depth = 0
    for at in range(start, len(value)):
        if value[at] == "{":
            if value[at - 1] == "$" and value[at - 2] != "$":
                raise _MalformedError("a default is text and can't hold another variable (write $${ for a literal ${)")
            depth += 1
        elif value[at] == "}":
            if depth == 0:
                return value[start:at].replace("$${", "${"), at + 1
            depth -= 1
    raise _MalformedError("a '${' has no '}' of its own (braces in a default must be in pairs)")


def settle(tree: dict[Any, Any], problems: list[str], section: type[Section], path: str = "") -> None:
    """Replaces each text from the environment by a value of the key's type: a number, true or false, a list, null."""
    fields = fields_of(section)
    for key, value in tree.items():
        if key not in fields:
            continue
        place = f"{path}.{key}".lstrip(".")
        kinds = members(fields[key].annotation)
        if isinstance(value, dict):
            for kind in kinds:
                if issubclass(kind, Section):
                    settle(value, problems, kind, place)
            if dict in kinds:
                tree[key] = _settled(value, fields[key].annotation, problems, place)
        elif isinstance(value, FromEnvironment):
            tree[key] = _wanted(value, kinds, problems, place)


def _settled(values: dict[Any, Any], annotation: Any, problems: list[str], place: str) -> dict[Any, Any]:
    """A mapping whose keys are the user's: the options of a client, or values of a given type."""
    inner = values_of(annotation)
    found = {}
    for name, value in values.items():
        if inner is Any:
            found[name] = _option(name, value, problems, f"{place}.{name}")
        elif isinstance(value, FromEnvironment):
            found[name] = _wanted(value, members(inner), problems, f"{place}.{name}")
        else:
            found[name] = value
    return found


def _wanted(text: FromEnvironment, kinds: set[Any], problems: list[str], place: str) -> Any:
    nullable, values = type(None) in kinds, kinds - {type(None)}
    if not text:
        if text.empty:
            what = f"${{{text.empty}:-}} for null" if nullable else f"${{{text.empty}:-default}}"
            problems.append(f"{place}: the environment variable {text.empty} is empty (set it, or write {what})")
        elif not nullable:
            problems.append(f"{place}: is empty (write a default after ':-')")
        return None
    if tuple in values and text.lstrip().startswith("["):
        return _list(text, problems, place)
    if not values <= {int, float, bool}:
        return str(text)
    number = _number(text.strip(), values)
    if number is None:
        wanted = "true or false" if bool in values else "a whole number" if int in values else "a number"
        problems.append(f"{place}: {_quoted(text)} is not {wanted}{_hint(text.strip(), values)}")
    return number


def _number(text: str, values: set[Any]) -> int | float | bool | None:
    if bool in values and text.lower() in SWITCHES:
        return SWITCHES[text.lower()]
    if int in values and WHOLE.fullmatch(text):
        return int(text)
    if float in values and DECIMAL.fullmatch(text):
        return float(text)
    return None


def _hint(text: str, values: set[Any]) -> str:
    """What to write for a number in another spelling, where its value is not in doubt."""
    if bool in values:
        meant = OTHER_SWITCHES.get(text.lower())
    elif re.fullmatch(r"[-+]?[0-9]{1,19}", text):
        meant = str(int(text))
    elif DECIMAL.fullmatch(text) and float(text).is_integer() and abs(float(text)) < 1e15:
        meant = str(int(float(text)))
    else:
        meant = None
    return f" (write {meant})" if meant else ""


def _list(text: FromEnvironment, problems: list[str], place: str) -> Any:
    items = scalars_of_list(text)
    if items is None:
        problems.append(f"{place}: {_quoted(text)} begins like a list, but is not one (write [first, second])")
    return items


def _option(name: Any, value: Any, problems: list[str], place: str) -> Any:
    """An option of a Kafka client: its kind is not known here, so a text with two readings is refused."""
    if isinstance(value, dict):
        return {key: _option(key, given, problems, f"{place}.{key}") for key, given in value.items()}
    if isinstance(value, list):
        return [_option(name, given, problems, f"{place}.{i}") for i, given in enumerate(value)]
    if not isinstance(value, FromEnvironment):
        return value
    if value.empty and not value:
        problems.append(
            f"{place}: the environment variable {value.empty} is empty (set it, or write ${{{value.empty}:-default}})"
        )
    if TEXT_OPTION.search(str(name)):
        return str(value)
    if value.lower() in OTHER_SWITCHES or TWO_READINGS.fullmatch(value):
        kinds = {bool} if value.lower() in OTHER_SWITCHES else {float}
        problems.append(
            f"{place}: {_quoted(value)} can be read in two ways{_hint(value, kinds) or ' (write plain digits)'}"
        )
        return value
    number = _number(value, {int, bool})
    return number if number is not None else _number(value, {float}) if DECIMAL.fullmatch(value) else str(value)


def _quoted(text: str) -> str:
    return f"'{text}'" if len(text) <= SHOWN_CHARACTERS else f"'{text[:SHOWN_CHARACTERS]}...'"
