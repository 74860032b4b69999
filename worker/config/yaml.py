"""From the bytes of a YAML file to a tree of plain values: keys unique, nothing read in two ways, secret files read in.

Rule of this file: a mistake becomes a line in ``problems`` with the key's path, never a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MAX_FILE_BYTES = 1 << 20
MAX_NODES = 100_000  # aliases can make a small file enormous
MAX_DEPTH = 32
MAX_SECRET_BYTES = 1 << 16
MAX_NUMBER_CHARACTERS = 40
KEYS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
OLD_NUMBER = re.compile(
    r"[-+]?(0[0-9_]+|0b[01_]+|[0-9_]+(:[0-9_.]+)+)"
)  # octal, binary, base 60: only YAML 1.1 has them
SECRETS = (("kafka.security", "username"), ("kafka.security", "password"), ("kafka.security", "key_password"))


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but ``1e-4`` is a number, as everybody expects, and a date is text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":value"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"), list("-+0123456789.")
)


def scalars_of_list(text: str) -> list[str] | None:
    """The items of a flow list, ``[ax, "a y"]``, each as its text stands; None for anything else."""
    try:
        node = yaml.compose(text, _Loader)
    except (yaml.YAMLError, RecursionError):
        return None
    if not isinstance(node, yaml.SequenceNode) or not all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return None
    return [item.value for item in node.value]


def read_tree(path: Path, problems: list[str]) -> dict[Any, Any] | None:
    """The mapping in a YAML file; None when there is none, and ``problems`` says why."""
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
        _refuse_in(node, problems)
        return None if problems else _mapping(loader, node, problems)
    except UnicodeDecodeError as error:
        problems.append(f"is not UTF-8 (byte {error.start}): save it as UTF-8")
    except yaml.reader.ReaderError as error:
        problems.append(f"not YAML: character {error.position} is a control character ({error.character:#x})")
    except yaml.MarkedYAMLError as error:
        problems.append(_not_yaml(error))
    except RecursionError:
        problems.append("not YAML: it is nested too deeply")
    return None


def _mapping(loader: _Loader, node: yaml.Node, problems: list[str]) -> dict[Any, Any] | None:
    try:
        tree = loader.construct_document(node)
    except (ValueError, LookupError, AttributeError, TypeError):
        # This is what PyYAML raises for a value that is not what its own tag says.
        problems.append("not YAML: a value is not what its tag (!!int, !!bool, ...) says: leave the tag out")
        return None
    if tree is None or isinstance(tree, dict):
        return tree or {}
    problems.append("should be a mapping of keys such as 'input:' and 'output:'")
    return None


def _not_yaml(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    said = error.problem or error.context or ""
    remedy = ""
    if "'\\t'" in said:
        remedy = " (indent with spaces)"
    elif mark and "${" in (mark.get_snippet() or ""):
        remedy = ' (put a variable in quotes: "${NAME}")'
    return f"{place}not YAML: {said}{remedy}"


def _refuse_in(root: yaml.Node, problems: list[str]) -> None:
    """Reports keys that a mapping has twice or that are not text, values with two readings, and endless structures."""
    waiting: list[tuple[yaml.Node, str, tuple[int, ...]]] = [(root, "", ())]
    visited = 0
    while waiting:
        node, path, parents = waiting.pop()
        visited += 1
        if id(node) in parents or visited > MAX_NODES:
            problems.append(f"{path}: an alias makes this {'endless' if id(node) in parents else 'too large'}")
            return
        if len(parents) > MAX_DEPTH:
            problems.append(f"line {node.start_mark.line + 1}: is nested more than {MAX_DEPTH} deep")
            return
        inside = (*parents, id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(item, f"{path}.{i}".lstrip("."), inside) for i, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            waiting += [(value, name, inside) for name, value in _named(node, path, problems)]
        elif isinstance(node, yaml.ScalarNode):
            problems += [f"{path}: {sentence}" for sentence in _scalar_problems(node)]


def _named(mapping: yaml.MappingNode, path: str, problems: list[str]) -> Iterator[tuple[str, yaml.Node]]:
    """The values of a mapping with their keys' paths, if all keys are text and none occurs twice."""
    seen: set[str] = set()
    for key, value in mapping.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            problems.append(f"{path or 'line ' + str(line)}: a key should be text (line {line})")
            continue
        name = f"{path}.{key.value}".lstrip(".")
        if key.tag not in KEYS or not _is_unicode(key.value):
            problems.append(f"{name or 'line ' + str(line)}: a key should be text (line {line}; put it in quotes)")
        if key.value in seen:
            problems.append(f"{name}: is given twice (again in line {line})")
        seen.add(key.value)
        yield name, value


def _scalar_problems(node: yaml.ScalarNode) -> Iterator[str]:
    # The value is not shown: it may be a password.
    line = node.start_mark.line + 1
    # JSON's way to write a character beyond 16 bits, "\ud83d\ude00", is read as two halves.
    node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    if node.tag in NUMBERS and OLD_NUMBER.fullmatch(node.value):
        yield f"the number in line {line} can be read in two ways (write a plain one, or quote it if it is text)"
    elif node.tag in NUMBERS and len(node.value) > MAX_NUMBER_CHARACTERS:
        yield f"the number in line {line} has more than {MAX_NUMBER_CHARACTERS} digits (quote it if it is text)"
    elif not _is_unicode(node.value):
        yield f"the text in line {line} has half of a surrogate pair, which is no character"


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


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
            section[name] = _secret(Path(file))
        except ValueError as reason:
            problems.append(f"{place}.{name}_file: {reason}")


def _secret(file: Path) -> str:
    """The stripped content of a file. Raises ValueError with the sentence that says why there is none."""
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_SECRET_BYTES + 1)
        secret = content.decode().strip()
    except OSError as error:
        raise ValueError(f"can't read '{file}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"can't read '{file}': it is not UTF-8 text") from error
    except ValueError as error:  # a zero byte in the name
        raise ValueError(f"can't read {str(file)!r}: {error}") from error
    if len(content) > MAX_SECRET_BYTES:
        raise ValueError(f"'{file}' is larger than {MAX_SECRET_BYTES} bytes: not a secret")
    if not secret:
        raise ValueError(f"'{file}' is empty")
    return secret
