"""msgspec types that read just the fields that are asked for, and the ways to their parts.

Fields that nobody asked for are skipped by the parser without being built. A path may be read in several ways, and
which one is right depends on the record: a reader made for one way refuses a record that may have another. What it
accepts equals what ``Path.find`` finds; what it refuses is left to ``flat_reader``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from worker.codecs.fields import InputFields, Paths
from worker.codecs.paths import MISSING, Path
from worker.codecs.unusable import is_halved

ScalarId = str | int | float | bool | None
Flag = bool | int | None
ABSENT = (UnsetType, UNSET)  # of a field that must not be there
NOTHING = UnsetType  # fits no value: of a field that is wanted as two things which no value is at once
UNREADABLE = object()  # no type takes it
Leaf: TypeAlias = tuple[Any, ...]  # the type, and its default if the field may be missing
Way: TypeAlias = tuple[str, ...]  # the names from the outermost object to a field
Ways: TypeAlias = dict[Path, Way]
Tree: TypeAlias = dict[str, Any]  # of a name: a Leaf, or the tree of the object there
Guard: TypeAlias = Callable[[Tree, Paths], None]  # adds the fields that must not be there


@dataclass(frozen=True, slots=True)
class Reader:
    """``type`` is what bytes or objects become, the others are the ways to its parts; None: read nothing."""

    type: type[msgspec.Struct]
    features: Callable[[Any], Any]
    stream: Callable[[Any], Any] | None
    time: Callable[[Any], Any] | None
    id: Callable[[Any], Any] | None
    start: Callable[[Any], Any] | None
    end: Callable[[Any], Any] | None


class ContradictionError(Exception):
    """No value has all fields in these ways, or no msgspec type can say it."""


def shapes(fields: InputFields) -> list[Any]:
    """What a field of the features may hold, most likely first: a number; or one vector, a chunk of vectors."""
    if not isinstance(fields.features, str):
        return [float]
    return [list[float], list[list[float]], *([float] if fields.width == 1 else [])]


def fast_readers(fields: InputFields, shape: Any) -> list[Reader]:
    """Readers of bytes: all paths nested, and where names have dots all of them literal. No record fits two."""
    found = []
    paths = Paths.of(fields)
    nested: Ways = {path: path.names for path in paths.every()}
    literal: Ways = {path: (path.literal,) for path in nested}
    if any("\\" in path.text for path in paths.optional()):
        return []  # where it is missing it may be there under its literal name, and the parser can't read both
    both = ((nested, _guard_nested), (literal, _guard_literal))
    for ways, guard in both[:1] if nested == literal else both:
        try:
            found.append(_reader(fields, paths, shape, ways, guard))
        except ContradictionError:
            continue
    return found


def flat_reader(fields: InputFields, shape: Any) -> Reader:
    """A reader of what ``flat`` has found, whatever the way."""
    paths = Paths.of(fields)
    return _reader(fields, paths, shape, {path: (_flat_name(path),) for path in paths.every()}, guard=None)


def flat(paths: Sequence[Path], value: Any) -> dict[str, Any]:
    """The fields of an object as ``flat_reader`` takes them."""
    found = ((_flat_name(path), path.find(value)) for path in paths)
    return {name: UNREADABLE if is_halved(value) else value for name, value in found if value is not MISSING}


def _flat_name(path: Path) -> str:
    return path.text.encode(errors="surrogatepass").hex()  # a type takes fewer names than JSON


def _reader(fields: InputFields, paths: Paths, shape: Any, ways: Ways, guard: Guard | None) -> Reader:
    others = (paths.stream, paths.time, paths.id, paths.start, paths.end)
    tree: Tree = {}
    _plant_features(tree, fields, paths, shape, ways)
    # The first to name a path decides its type; what a later role needs of it is checked after parsing.
    types: tuple[Leaf, ...] = ((str | int,), (int | float | str,), (ScalarId,), (Flag, None), (Flag, None))
    for other, types_of_role in zip(others, types, strict=True):
        if other is not None:
            _plant(tree, ways[other], types_of_role)
    if guard is not None:
        guard(tree, paths)

    def getter(path: Path | None) -> Callable[[Any], Any] | None:
        return None if path is None else attrgetter(_attribute(ways[path]))

    get_features: Callable[[Any], Any] = attrgetter(*(_attribute(ways[path]) for path in paths.features))
    if fields.lengths:
        get_features = _one_vector(get_features, fields.lengths)
    elif len(paths.features) == 1 and not isinstance(fields.features, str):
        only = get_features

        def get_features(value: Any) -> Any:
            return (only(value),)

    stream, time, sequence, start, end = map(getter, others)
    return Reader(_struct("Value", tree), get_features, stream, time, sequence, start, end)


def _one_vector(get_all: Callable[[Any], Any], lengths: tuple[int, ...]) -> Callable[[Any], Any]:
    """Numbers and lists of numbers as one vector; an empty one where a list has another length."""

    def get_features(value: Any) -> Any:
        vector: list[float] = []
        for given, length in zip(get_all(value), lengths, strict=True):
            if length == 1:
                vector.append(given)
            elif len(given) == length:
                vector += given
            else:
                return ()
        return vector

    return get_features


def _attribute(way: Way) -> str:
    # Field names are any text; attribute names are not.
    return ".".join("f_" + name.encode(errors="surrogatepass").hex() for name in way)


def _plant_features(tree: Tree, fields: InputFields, paths: Paths, shape: Any, ways: Ways) -> None:
    shared = {ways[path] for path in paths.others()}
    for path, length in zip(paths.features, fields.lengths or (1,) * len(paths.features), strict=True):
        leaf = list[float] if length > 1 else shape
        if ways[path] in shared:
            leaf = NOTHING if length > 1 else int | float  # 7 names stream 7, not 7.0
        _plant(tree, ways[path], (leaf,))


def _plant(tree: Tree, way: Way, leaf: Leaf) -> None:
    *branches, last = way
    for branch in branches:
        tree = tree.setdefault(branch, {})
        if not isinstance(tree, dict):
            raise ContradictionError
    if isinstance(tree.setdefault(last, leaf), dict):
        raise ContradictionError


def _guard_nested(tree: Tree, paths: Paths) -> None:
    """A record with a longer name on a way is refused: that name comes first."""
    for path in paths.every():
        way, branch = path.names, tree
        for first, name in enumerate(way):
            for last in range(first + 2, len(way) + 1):
                if branch.setdefault(".".join(way[first:last]), ABSENT) != ABSENT:
                    raise ContradictionError
            if first + 1 < len(way):
                branch = branch[name]


def _guard_literal(tree: Tree, paths: Paths) -> None:
    """A record that may have elsewhere what is missing here is refused: it has an object on the way."""
    for path in paths.optional():
        for count in range(1, len(path.names)):
            tree.setdefault(".".join(path.names[:count]), ABSENT)  # what is a field already is no object


def _struct(name: str, tree: Tree) -> type[msgspec.Struct]:
    required: list[Any] = []
    optional: list[Any] = []
    rename: dict[str, str] = {}
    for field_name, leaf in tree.items():
        attribute = _attribute((field_name,))
        rename[attribute] = field_name
        if isinstance(leaf, dict):
            inner = _struct("Part", leaf)
            if inner.__struct_defaults__ and len(inner.__struct_defaults__) == len(inner.__struct_fields__):
                optional.append((attribute, inner, msgspec.field(default_factory=inner)))
            else:
                required.append((attribute, inner))
        elif len(leaf) == 1:
            required.append((attribute, leaf[0]))
        else:
            optional.append((attribute, *leaf))
    try:
        return msgspec.defstruct(name, required + optional, rename=rename, gc=False)
    except ValueError as error:  # of names with quotes, backslashes or control characters
        raise ContradictionError from error
