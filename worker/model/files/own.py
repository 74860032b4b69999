"""Classes and functions of the caller's own, found by the names that a file has for them.

Keras registers a class as "package>Name" and writes the bare name where a script never registered it, which is how most
files are. So objects of the named modules are found by their bare names, and it is an error if two share a name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

from worker.errors import ModelRefusedError
from worker.model.backend import keras
from worker.model.files.configuration import Config, objects
from worker.model.files.judging import KINDS, is_known, is_registered

# {name in the file: class or function}, as Keras takes them, or the modules that define them.
Objects: TypeAlias = Mapping[str, Any] | Sequence[ModuleType]

# Defined in these modules: {bare name: [(the module's name, the object)]}, each object once.
_Defined: TypeAlias = dict[str, list[tuple[str, Any]]]

_OF_TRAINING = ("_initializer", "_regularizer", "_constraint")


def find(config: Config, given: Objects) -> dict[str, Any]:
    """The caller's objects that this configuration names, by their names there: for ``keras.saving`` to know them.

    Functions that are there as plain strings become objects of the configuration, in place. Raises ModelRefusedError
    where a name may mean two things.
    """
    chosen = dict(given) if isinstance(given, Mapping) else {}
    defined = {} if isinstance(given, Mapping) else _defined(given)
    for node, _ in list(objects(config)):
        body = node.get("config")
        if isinstance(body, dict):
            _without_own_training(node, body, {*chosen, *defined})
            _name_functions(body, {*chosen, *defined})
    found = {}
    for node, layer in list(objects(config)):
        name = _name_of(node)
        if not name or _says_keras(node):
            continue
        bare = name.rsplit(">", 1)[-1]
        if name in chosen or bare in chosen:
            found[name] = chosen.get(name, chosen.get(bare))
        elif bare in defined and not is_registered(name):
            found[name] = _only(defined[bare], bare, layer, is_known(node))
    return found


def _defined(modules: Sequence[ModuleType]) -> _Defined:
    table: _Defined = {}
    for module in modules:
        for one in _own(module):
            known = table.setdefault(one.__name__, [])
            if all(one is not other for _, other in known):
                known.append((module.__name__, one))
    return table


def _own(module: ModuleType) -> Iterator[Any]:
    """What a module or the package around it defines, and layers that it has imported from elsewhere but Keras."""
    for value in vars(module).values():
        if isinstance(value, type | FunctionType):
            home = value.__module__ or ""
            imported = isinstance(value, type) and issubclass(value, KINDS) and home.split(".")[0] != "keras"
            if imported or home == module.__name__ or home.startswith(f"{module.__name__}."):
                yield value


def _name_of(node: Config) -> str | None:
    """The name by which Keras looks the object up."""
    name = node.get("config") if node["class_name"] == "function" else node.get("registered_name") or node["class_name"]
    return name if isinstance(name, str) else None


def _says_keras(node: Config) -> bool:
    module = node.get("module")
    return isinstance(module, str) and module.split(".")[0] == "keras"


def _only(candidates: list[tuple[str, Any]], name: str, layer: str, of_keras: bool) -> Any:
    (module, one), *others = candidates
    choose = f"keras.saving.get_custom_objects()['{name}'] = {name}"
    if of_keras:
        raise ModelRefusedError(
            layer,
            f"'{name}' is in Keras and in {module}, and the file does not say which of them it means",
            f"write {choose} in {module} if it means yours, or give yours another name there if it does not",
        )
    if others:
        raise ModelRefusedError(
            layer,
            f"'{name}' is defined both in {module} and in {others[0][0]}",
            f"import the one that is meant only, or write {choose} in it",
        )
    return one


def _name_functions(body: Config, names: set[str]) -> None:
    """Functions that a file has as strings, as the objects that newer files have."""
    for key, value in body.items():
        if isinstance(value, str) and (key.endswith("activation") or key == "function"):
            registered = keras.saving.get_registered_object(value)
            if value.rsplit(">", 1)[-1] in names or isinstance(registered, FunctionType):
                body[key] = {"class_name": "function", "config": value, "module": "builtins"}


def _without_own_training(node: Config, body: Config, names: set[str]) -> None:
    """Layers of Keras need no initializer and the like that nobody here knows: weights come from the file."""
    if is_known(node) and not is_registered(_name_of(node)):
        for key in [key for key in body if key.endswith(_OF_TRAINING)]:
            value = body[key]
            unknown = isinstance(value, dict) and "class_name" in value and not is_known(value)
            if unknown and value["class_name"] != "__lambda__" and str(_name_of(value)).rsplit(">", 1)[-1] not in names:
                del body[key]
