"""Which fields of a value mean what, and the msgspec types that read them.

A path such as ``device.id`` is the field ``id`` of the object ``device``. Fields that nobody asked for are skipped
by the parser without being built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec

KEY = "key"  # InputFields.stream: the record's key names the stream
TIMESTAMP = "timestamp"  # InputFields.time: the record's timestamp is the event time

ScalarId = str | int | float | bool | None
Flag = bool | int | None


@dataclass(frozen=True, slots=True)
class InputFields:
    """What to read: names as in the configuration, ``width`` numbers per vector.

    ``ids``: columns whose numbers must be whole, from 0 to below a limit. ``lengths``: how many numbers each of the
    fields holds, in a list where more than one; () where each holds one.
    """

    width: int
    features: tuple[str, ...] | str  # one field per number, or the one field that holds the vector
    stream: str = KEY
    time: str = TIMESTAMP
    id: str | None = None
    start: str | None = None
    end: str | None = None
    ids: tuple[tuple[slice, int], ...] = ()
    lengths: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Reader:
    """A msgspec type and the ways to its parts; None where nothing is to be read."""

    type: type[msgspec.Struct]
    features: Callable[[Any], Any]
    stream: Callable[[Any], Any] | None
    time: Callable[[Any], Any] | None
    id: Callable[[Any], Any] | None
    start: Callable[[Any], Any] | None
    end: Callable[[Any], Any] | None


def readers(fields: InputFields) -> list[Reader]:
    """The readers to try, one per shape that the features can have: numbers, one vector, a chunk of vectors."""
    if not isinstance(fields.features, str):
        return [_reader(fields, float)]
    shapes: list[Any] = [list[float], list[list[float]]]
    if fields.width == 1:
        shapes.append(float)
    return [_reader(fields, shape) for shape in shapes]


def _reader(fields: InputFields, number: Any) -> Reader:
    tree: dict[str, Any] = {}
    paths = (fields.features,) if isinstance(fields.features, str) else fields.features
    # The first to name a path decides its type; what a later role needs of it is checked after parsing.
    others = (fields.stream, fields.time, fields.id, fields.start, fields.end)
    for path, length in zip(paths, fields.lengths or (1,) * len(paths), strict=True):
        # 7 names stream 7, not 7.0
        _plant(tree, path, (list[float] if length > 1 else int | float if path in others else number,))
    if fields.stream != KEY:
        _plant(tree, fields.stream, (str | int,))
    if fields.time != TIMESTAMP:
        _plant(tree, fields.time, (int | float | str,))
    if fields.id is not None:
        _plant(tree, fields.id, (ScalarId,))
    for flag in (fields.start, fields.end):
        if flag is not None:
            _plant(tree, flag, (Flag, None))

    def way(path: str | None, unless: str | None = None) -> Callable[[Any], Any] | None:
        return None if path is None or path == unless else attrgetter(_attribute(path))

    get_features: Callable[[Any], Any] = attrgetter(*(_attribute(path) for path in paths))
    if fields.lengths:
        get_features = _one_vector(get_features, fields.lengths)
    elif len(paths) == 1 and not isinstance(fields.features, str):
        only = get_features

        def get_features(value: Any) -> Any:
            return (only(value),)

    return Reader(
        type=_struct("Value", tree),
        features=get_features,
        stream=way(fields.stream, unless=KEY),
        time=way(fields.time, unless=TIMESTAMP),
        id=way(fields.id),
        start=way(fields.start),
        end=way(fields.end),
    )


def _one_vector(parts: Callable[[Any], Any], lengths: tuple[int, ...]) -> Callable[[Any], Any]:
    """Numbers and lists of numbers as one vector; an empty one where a list has another length."""

    def get_features(value: Any) -> Any:
        vector: list[float] = []
        for part, length in zip(parts(value), lengths, strict=True):
            if length == 1:
                vector.append(part)
            elif len(part) == length:
                vector += part
            else:
                return ()
        return vector

    return get_features


def _attribute(path: str) -> str:
    # Field names are any text; attribute names are not.
    return ".".join("f_" + part.encode().hex() for part in path.split("."))


def _plant(tree: dict[str, Any], path: str, leaf: tuple[Any, ...]) -> None:
    *branches, last = path.split(".")
    for branch in branches:
        tree = tree.setdefault(branch, {})
        assert isinstance(tree, dict), f"'{path}' goes through a field that is read as a value"
    tree.setdefault(last, leaf)


def _struct(name: str, tree: dict[str, Any]) -> type[msgspec.Struct]:
    required: list[Any] = []
    optional: list[Any] = []
    rename: dict[str, str] = {}
    for field_name, leaf in tree.items():
        attribute = _attribute(field_name)
        rename[attribute] = field_name
        if isinstance(leaf, dict):
            required.append((attribute, _struct(f"{name}.{field_name}", leaf)))
        elif len(leaf) == 1:
            required.append((attribute, leaf[0]))
        else:
            optional.append((attribute, *leaf))
    return msgspec.defstruct(name, required + optional, rename=rename, gc=False)
