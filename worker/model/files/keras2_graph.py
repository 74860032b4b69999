"""The graph of a functional model of Keras 2 as Keras 3 has it: which layer is called with what, and operators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from worker.errors import ModelRefusedError
from worker.model.files.configuration import Config
from worker.model.files.keras2_operations import Equal, equal_of, node_of, of_node, settings_of
from worker.model.keras2_masks import known_as

_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
_CONSTANT = "_CONSTANT_VALUE"  # in place of a layer's name: a number follows
_OPERATIONS = {"TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"}
_COMPARING = ("Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "NotEqual")
# Python of Keras 2 around a tensor, such as x.shape: a model of Keras 3 can't hold it.
_PYTHON = {"ClassMethod", "InstanceMethod", "InstanceProperty"}
_AGAIN = "build the model with layers in its place (Add, Multiply, ReLU, Concatenate, Reshape, ...), copy the weights "
_AGAIN += "with set_weights(old.get_weights()), and save it again"
_LAYERS = {
    "nn.dropout": "the layer Dropout, which drops nothing outside of training",
    "pad": "the layer ZeroPadding1D",
    "einsum": "the layer EinsumDense",
}


def modernise_graph(body: Config, masked: bool = False) -> None:
    """Change the calls of a Functional model's configuration in place; ``masked`` where the model has masks.

    Raises ModelRefusedError, by the layer's name, for an operation of TensorFlow that has no equal in Keras 3.
    """
    layers = [layer for layer in body.get("layers", []) if isinstance(layer, dict)]
    names = {layer.get("name") for layer in layers}
    for layer in layers:
        calls = layer.get("inbound_nodes")
        if isinstance(calls, list):
            layer["inbound_nodes"] = [_entries(call) for call in calls]
    _renumber(body, layers, names)
    dtypes = _dtypes(layers, names)
    for layer in layers:
        if layer.get("class_name") in _PYTHON:
            raise ModelRefusedError(str(layer.get("name")), "it is Python around a tensor, as Keras 2 had it", _AGAIN)
        calls = layer.get("inbound_nodes")
        if not isinstance(calls, list):
            continue
        if layer.get("class_name") in _OPERATIONS:
            _as_operation(layer, calls, names, dtypes)
            if masked and layer.get("module") == "keras.layers":  # operations of Keras 2 drop masks
                kind = "AddN" if layer["class_name"] == "Add" else layer["class_name"]
                layer.update(class_name=kind, **known_as(kind))
        else:
            layer["inbound_nodes"] = [_call(layer, call, names) for call in calls]


def _entries(call: Any) -> Any:
    """[[layer, call, tensor, arguments], …]; until TensorFlow 2.0, and for operations, one alone has no outer list."""
    return [call] if isinstance(call, list) and call and isinstance(call[0], str) else call


def _renumber(body: Config, layers: list[Config], names: set[Any]) -> None:
    """Keras 2 counts the calls of a nested model from one, Keras 3 from zero; and a list of one was a tensor."""
    calls = [call for layer in layers for call in layer.get("inbound_nodes") or [] if isinstance(call, list)]
    ends = [end for key in ("input_layers", "output_layers") for end in body.get(key, [])]
    references = [entry for call in calls for entry in call if isinstance(entry, list) and len(entry) >= 3]
    references += [end for end in ends if isinstance(end, list) and len(end) >= 3]
    references += [found for entry in references if len(entry) > 3 for found in _references(entry[3], names)]
    for layer in layers:
        here = [entry for entry in references if entry[0] == layer.get("name") and isinstance(entry[1], int)]
        shift = max((entry[1] for entry in here), default=0) - max(len(layer.get("inbound_nodes") or []) - 1, 0)
        for entry in here:
            entry[1] -= max(shift, 0)
    for key in ("input_layers", "output_layers"):
        if isinstance(body.get(key), list) and len(body[key]) == 1 and isinstance(body[key][0], list):
            body[key] = body[key][0]


def _references(value: Any, names: set[Any]) -> Iterator[list[Any]]:
    """The tensors of this graph among the arguments of a call."""
    if _is_reference(value, names):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _references(one, names)


def _is_reference(value: Any, names: set[Any]) -> bool:
    whole = isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)
    return whole and value[0] in names and isinstance(value[1], int) and isinstance(value[2], int)


def _call(layer: Config, call: Any, names: set[Any]) -> Any:
    """A layer's call: tensors among its arguments, and a recurrent layer's initial states [x, h, c], named."""
    if not isinstance(call, list) or not call or not all(_is_entry(entry) for entry in call):
        return call
    arguments = call[0][3] if len(call[0]) > 3 else {}
    states = call[1:] if layer.get("class_name") in _RECURRENT else []
    if not states and not any(_references(arguments, names)):
        return call
    kwargs = {key: _revived(value, names) for key, value in arguments.items()}
    if states:
        return {"args": [_tensor(call[0])], "kwargs": {**kwargs, "initial_state": [_tensor(one) for one in states]}}
    tensors = [_tensor(entry) for entry in call]
    return {"args": tensors if len(tensors) == 1 else [tensors], "kwargs": kwargs}


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) >= 3 and (len(entry) == 3 or isinstance(entry[3], dict))


def _revived(value: Any, names: set[Any]) -> Any:
    if _is_reference(value, names):
        return _tensor(value)
    return [_revived(one, names) for one in value] if isinstance(value, list) else value


def _tensor(entry: list[Any]) -> Config:
    # Shape and dtype are filled in by Keras from the layer that the history names.
    body = {"shape": [None], "dtype": "float32", "keras_history": entry[:3]}
    return {"class_name": "__keras_tensor__", "config": body}


def _as_operation(layer: Config, calls: list[Any], names: set[Any], dtypes: dict[str, str]) -> None:
    """An operation of TensorFlow as that of Keras."""
    if len(calls) != 1 or not isinstance(calls[0], list) or not calls[0] or not all(_is_entry(one) for one in calls[0]):
        raise _refused(layer, "")
    entries, function = calls[0], str(layer["config"].get("function"))
    arguments = dict(entries[0][3]) if len(entries[0]) > 3 else {}
    if layer["class_name"] == "TensorFlowOpLayer":
        function, entries, arguments = of_node(layer["config"], entries)
    if function in ("__operators__.getitem", "None") and "slice_spec" in arguments:
        if any(_references(arguments, names)):
            raise _refused(layer, " of places that are tensors")
        spec = arguments["slice_spec"]  # x[...] alone is not a list of one
        parts = [_part(part) for part in (spec if isinstance(spec, list) else [spec])]
        _put(layer, Equal("GetItem"), [_tensor(entries[0]), parts], {})
        return
    equal = equal_of(function)
    if equal is None:
        raise _refused(layer, "")
    arguments = {key: value for key, value in arguments.items() if value is not None and key != "name"}
    tensors = [entry for entry in (*entries, *_references(arguments, names)) if entry[0] != _CONSTANT]
    dtype = dtypes.get(str(layer.get("name")), "float32") if tensors else "float32"
    beside = "int32" if equal.kind == "Take" else dtype
    exact = equal.kind in _COMPARING and dtype in ("float16", "bfloat16", "float64")
    operands = [_operand(arguments.pop(key), names, beside, exact) for key in equal.operands if key in arguments]
    settings, odd = settings_of(equal, arguments)
    if not odd and len(operands) != len(equal.operands):
        odd = f" with {', '.join(sorted(arguments))}" if arguments else f" without {', '.join(equal.operands)}"
    if odd:
        raise _refused(layer, odd)
    given = [_operand(entry[2] if entry[0] == _CONSTANT else entry, names, dtype, exact) for entry in entries]
    together = equal.kind in ("Concatenate", "Stack") or function == "math.add_n"
    _put(layer, equal, [given, *operands] if together else [*given, *operands], settings)


def _put(layer: Config, equal: Equal, args: list[Any], settings: Config) -> None:
    layer.update(class_name=equal.kind, module=equal.module, registered_name=equal.kind)
    layer["config"] = {"name": layer["name"], **settings}
    layer["inbound_nodes"] = [{"args": args, "kwargs": {}}]


def _dtypes(layers: list[Config], names: set[Any]) -> dict[str, str]:
    """The dtype in which each layer computes, or an operation takes, as far as known: for arrays beside tensors."""
    found: dict[str, str] = {}
    for layer in layers:
        config = layer.get("config") or {}
        first = next(_references([entry[:3] for call in layer.get("inbound_nodes") or [] for entry in call], names), [])
        if layer.get("class_name") in _OPERATIONS:
            found[str(layer.get("name"))] = found.get(first[0] if first else "", "float32")
        elif isinstance(config.get("dtype"), str):
            found[str(layer.get("name"))] = config["dtype"].removeprefix("mixed_")
    return found


def _operand(value: Any, names: set[Any], dtype: str, exact: bool) -> Any:
    """A tensor, a number, or an array of numbers, which TensorFlow reads in the type of the tensor beside it.

    ``exact``: so it does with a number alone, which Keras 3 takes for float32 there.
    """
    if isinstance(value, list) and _is_reference(value[:3], names):
        return _tensor(value)
    return of_precision(value, dtype) if isinstance(value, list) or (exact and isinstance(value, float)) else value


def of_precision(value: Any, dtype: str) -> Config:
    """A number, or an array of numbers, that Keras 3 does not take for float32."""
    return {"class_name": "__numpy__", "config": {"value": value, "dtype": dtype}}


def _part(part: Any) -> Any:
    if isinstance(part, dict):
        return {"class_name": "__slice__", "config": part} if "start" in part else {**part, "config": {}}
    return part


def _refused(layer: Config, more: str) -> ModelRefusedError:
    config = layer["config"]
    function = config.get("function") or f"raw_ops.{node_of(config).get('op')}"
    hint = _LAYERS.get(function.removeprefix("compat.v1."))
    why = f"it is tf.{function}{more}, an operation of Keras 2 that is not converted to Keras 3"
    return ModelRefusedError(str(layer.get("name")), why, f"use {hint}: {_AGAIN}" if hint else _AGAIN)
