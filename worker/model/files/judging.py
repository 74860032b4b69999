"""Judges what a model file claims to be, before Keras builds anything: only layers of Keras and of the caller, no code.

Keras' safe mode stays on, too; this is the list of what may be in a file, not of what may not.
"""

from __future__ import annotations

import sys
from typing import Any

from worker.errors import ModelRefusedError
from worker.model.backend import keras
from worker.model.files.configuration import Config, objects
from worker.model.graph import subclassed

LAMBDA_REFUSED = "its Python code comes from the file and is not run"
LAMBDA_INSTEAD = "use layers of Keras instead, or set model.allow_lambda: true if you trust this file as much as code"

# Values inside a configuration that are not objects of their own.
_VALUES = {"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"}
# They load other files, other frameworks' code, or text: none of it can be part of a recurrent model's step.
_OUTSIDE = {
    "StringLookup", "TextVectorization", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer",
}  # fmt: skip
_MODULES = ("layers", "models", "initializers", "regularizers", "constraints", "dtype_policies", "quantizers", "random")
KINDS = (
    keras.Operation,  # layers and models, and the operators of a graph
    keras.initializers.Initializer,
    keras.regularizers.Regularizer,
    keras.constraints.Constraint,
    keras.dtype_policies.DTypePolicy,
    keras.quantizers.Quantizer,
    keras.random.SeedGenerator,
)
_FUNCTIONS = ("builtins", "keras.activations", "keras.ops", "keras.initializers")


def check(config: Config, allow_lambda: bool, has_vocabularies: bool = False) -> None:
    """Raises ModelRefusedError, with the layer's name, for what is neither of Keras nor given by the caller."""
    for node, layer in objects(config):
        kind, body = str(node["class_name"]), node.get("config")
        if isinstance(body, dict) and any(_is_lost_function(key, value) for key, value in body.items()):
            raise ModelRefusedError(
                layer,
                "its activation was a function without a name, which Keras can't read back from a file",
                "write it with def, give it to the layer, save the model again, and name its module in model.imports",
            )
        if _is_code(kind, body):
            if not allow_lambda:
                raise ModelRefusedError(layer, LAMBDA_REFUSED, LAMBDA_INSTEAD)
        elif kind in _OUTSIDE:
            raise ModelRefusedError(
                layer, f"{kind} reads data outside the model", "remove it, and do it to the data beforehand"
            )
        elif kind == "IntegerLookup" and not _has_vocabulary(body, has_vocabularies):
            raise ModelRefusedError(
                layer,
                "the file does not hold its vocabulary",
                "save the model as .keras, or make the layer with vocabulary=[...], a list of integers",
            )
        elif not is_known(node):
            raise _unknown(node, layer, is_root=node is config)


def _unknown(node: Config, layer: str, is_root: bool) -> ModelRefusedError:
    kind, module = str(node["class_name"]), str(node.get("module") or "")
    name = str(node.get("config") if kind == "function" else node.get("registered_name") or kind)
    body = node.get("config")
    if is_root and not (isinstance(body, dict) and "layers" in body):
        return subclassed(layer or name)
    if "module" not in node and hasattr(keras.src.ops.numpy, kind):
        why = f"Keras can't read operations such as {kind}, of masks and operators, from .h5 files"
        return ModelRefusedError(layer, why, "save the model as .keras where it was built")
    if module.split(".")[0] == "keras" and kind != "function":
        why = f"its class '{module}.{kind}' is not in Keras {keras.__version__}"
        return ModelRefusedError(layer, why, "save the model with a layer in its place that this version has")
    bare = name.rsplit(">", 1)[-1]
    what = f"its function '{name}'" if kind == "function" else f"its class '{name}'"
    instead = f"name the module that defines it in model.imports (from Python: custom_objects={{'{bare}': {bare}}})"
    return ModelRefusedError(layer, f"{what} is not part of Keras", f"{instead}, or replace it by layers of Keras")


def _is_code(kind: str, body: Any) -> bool:
    """A Lambda whose function the file only names, without arguments, is not code in the file."""
    function = body.get("function") if isinstance(body, dict) else None
    is_named = isinstance(function, dict) and function.get("class_name") == "function" and not body.get("arguments")
    name = kind.rsplit(">", 1)[-1]
    return name == "__lambda__" or (name == "Lambda" and not is_named)


def is_known(node: Config) -> bool:
    """Whether this is of Keras, or registered with Keras by the caller."""
    kind, module = node["class_name"], node.get("module")
    if not isinstance(kind, str) or not isinstance(module, str | None):
        return False
    if kind in _VALUES:
        return True
    if kind == "function":
        return _is_function(node)
    if is_registered(node.get("registered_name") or kind):
        return True
    if module is None or module == "builtins":  # legacy .h5: the class alone
        found = [getattr(getattr(keras, each), kind, None) for each in _MODULES]
        return kind in ("Functional", "Model", "Sequential") or any(_is_allowed(one) for one in found)
    if module.split(".")[0] != "keras":
        return False
    symbol = keras.src.api_export.get_symbol_from_name(f"{module}.{kind}")
    # Keras looks up names that are not public in their module; the module is not imported here for that.
    return _is_allowed(symbol or vars(sys.modules.get(module, keras)).get(kind))


def _has_vocabulary(body: Any, has_vocabularies: bool) -> bool:
    """A list in the configuration, or one in the archive; Keras would read a path, whatever it leads to."""
    given = [body.get("vocabulary"), body.get("idf_weights")] if isinstance(body, dict) else [""]
    return (has_vocabularies or given[0] is not None) and all(isinstance(value, list | None) for value in given)


def _is_function(node: Config) -> bool:
    name, module = node.get("config"), node.get("module")
    if is_registered(name) or is_registered(node.get("registered_name")):
        return True
    if module not in _FUNCTIONS or not isinstance(name, str):
        return False
    modules = ("activations", "ops", "losses", "metrics") if module == "builtins" else (module.split(".")[-1],)
    return any(callable(getattr(getattr(keras, each), name, None)) for each in modules)


def _is_lost_function(key: str, value: Any) -> bool:
    return key.endswith("activation") and isinstance(value, dict) and "class_name" not in value


def is_registered(name: Any) -> bool:
    return isinstance(name, str) and keras.saving.get_registered_object(name) is not None


def _is_allowed(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, KINDS)
