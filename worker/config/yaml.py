"""From the bytes of a YAML file to a tree of plain values: keys unique, environment and secret files filled in.

Rule of this file: a mistake becomes a line in ``problems`` with the key's path, never a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

MAX_FILE_BYTES = 1 << 20
MAX_NODES = 100_000  # aliases can make a small file enormous
MAX_SECRET_BYTES = 1 << 16
VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")
SECRETS = (
    ("kafka.security", "username"),
    ("kafka.security", "password"),
    ("kafka.security", "key_password"),
    ("http", "token"),
)


class FromEnvironment(str):
    """Text that holds a variable's value: it may stand where a number is wanted."""

    __slots__ = ()


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but ``1e-4`` is a number, as everybody expects."""


_Loader.yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"), list("-+0123456789.")
)


def scalar(text: str) -> Any:
    """What YAML makes of a text that stands alone: a number, a boolean, null, or the text itself."""
    try:
        value = yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return str(text)
    return str(text) if isinstance(value, (dict, list)) else value


def read_tree(path: Path, problems: list[str]) -> dict[Any, Any] | None:
    """The mapping in a YAML file; None when there is none to go on with, and ``problems`` says why."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        problems.append(f"can't be read: {error.strerror}")
        return None
    if len(raw) > MAX_FILE_BYTES:
        problems.append(f"is larger than {MAX_FILE_BYTES} bytes: not a configuration")
        return None
    try:
        loader = _Loader(raw.decode("utf-8-sig"))
        node = loader.get_single_node()
        if node is None:
            return {}
        _refuse_repeats(node, problems)
        if problems:
            return None
        tree = loader.construct_document(node)
    except UnicodeDecodeError as error:
        problems.append(f"is not UTF-8 (byte {error.start})")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problems.append(f"{place}not YAML: {error.problem or error.context}")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problems.append(f"not YAML: {' '.join(str(error).split())}")
    else:
        if isinstance(tree, dict):
            return tree
        problems.append("should be a mapping of keys such as 'input:' and 'output:'")
    return None


def _refuse_repeats(root: yaml.Node, problems: list[str]) -> None:
    """Names every key that a mapping has twice, and structures that hold themselves."""
    waiting: list[tuple[yaml.Node, str, tuple[int, ...]]] = [(root, "", ())]
    visited = 0
    while waiting:
        node, path, parents = waiting.pop()
        visited += 1
        if id(node) in parents or visited > MAX_NODES:
            problems.append(f"{path}: an alias makes this {'endless' if id(node) in parents else 'too large'}")
            return
        inside = (*parents, id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(item, f"{path}.{i}".lstrip("."), inside) for i, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                name = f"{path}.{key.value}".lstrip(".")
                if key.value in seen and isinstance(key, yaml.ScalarNode):
                    problems.append(f"{name}: is there twice (again in line {key.start_mark.line + 1})")
                if isinstance(key, yaml.ScalarNode):
                    seen.add(key.value)
                waiting.append((value, name, inside))


def fill_in(value: Any, environ: Mapping[str, str], problems: list[str], path: str = "") -> Any:
    """The tree with ``${NAME}`` and ``${NAME:-default}`` replaced in every string value; ``$${`` stands for ``${``."""
    if isinstance(value, dict):
        return {k: fill_in(v, environ, problems, f"{path}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list):
        return [fill_in(v, environ, problems, f"{path}.{i}") for i, v in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def replace(found: re.Match[str]) -> str:
        name, default = found[1], found[2]
        if found[0] == "$${":
            return "${"
        if name is None:
            problems.append(
                f"{path}: '${{' should be followed by a name and '}}' (write $${{ for the signs themselves)"
            )
            return ""
        if name not in environ and default is None:
            problems.append(f"{path}: the environment variable {name} is not set (or write ${{{name}:-default}})")
        return environ.get(name) or default or ""

    return FromEnvironment(VARIABLE.sub(replace, value))


def read_secrets(tree: dict[Any, Any], problems: list[str]) -> None:
    """Puts the stripped content of every ``NAME_file`` into NAME, in place."""
    for place, name in SECRETS:
        section: Any = tree
        for part in place.split("."):
            section = section.get(part) if isinstance(section, dict) else None
        file = section.get(f"{name}_file") if isinstance(section, dict) else None
        if not isinstance(file, str) or not file:
            continue
        if section.get(name) is not None:
            problems.append(f"{place}.{name}: given twice, here and in {name}_file")
            continue
        try:
            with Path(file).open("rb") as opened:
                secret = opened.read(MAX_SECRET_BYTES).decode().strip()
        except (OSError, UnicodeDecodeError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            problems.append(f"{place}.{name}_file: can't read '{file}': {reason}")
            continue
        if not secret:
            problems.append(f"{place}.{name}_file: '{file}' is empty")
        section[name] = secret
