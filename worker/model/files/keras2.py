"""Files of Keras 2: brings their configuration to what Keras 3 takes, and their weights to what Keras 3 computes.

What has another meaning in Keras 3 under the same name is converted exactly or refused by name, never passed on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from worker.errors import ModelRefusedError, WorkerError
from worker.model.backend import keras
from worker.model.files.configuration import Config, objects

# hard_sigmoid is clip(x/5 + 1/2) in Keras 2 and clip(x/6 + 1/2) in Keras 3: the first of x is the second of 1.2·x.
HARD_SIGMOID_RATIO = 1.2

_RENAMED = {
    "Model": "Functional",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
}
# Of training only (weights come from the file), of how Keras 2 computed the same, or of old ways to give shapes.
_DROPPED = ("implementation", "input_length", "input_dtype", "batch_input_shape", "input_shape", "ragged", "fused")
_OF_TRAINING = ("_initializer", "_regularizer", "_constraint")
_CONV_LSTM = ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN", *_CONV_LSTM)
_LAMBDA_NOTES = ("module", "function_type", "output_shape_type", "output_shape_module")
# Where weights stand right before a hard_sigmoid, so that they can be scaled.
_SCALABLE = {
    **dict.fromkeys(("Dense", "Conv1D", "SimpleRNN", "SimpleRNNCell"), ("activation",)),
    **dict.fromkeys(("LSTM", "LSTMCell", *_CONV_LSTM), ("recurrent_activation",)),
    **dict.fromkeys(("GRU", "GRUCell"), ("activation", "recurrent_activation")),
}
_ALREADY = ("InputLayer", "Sequential", "Functional")


def is_keras_2(version: Any) -> bool:
    """Whether the ``keras_version`` of a file is of Keras 2; a file without one is. Raises WorkerError for Keras 1."""
    text = version.decode(errors="replace") if isinstance(version, bytes) else str(version or "2")
    if text.split(".")[0] in ("0", "1"):
        raise WorkerError("saved by Keras 1; load it with Keras 2.2 or older where it was trained, and save it again")
    return text.split(".")[0] == "2"


def is_written_so(config: Config) -> bool:
    """Whether a configuration has keys that Keras 3 never writes, whatever version the file names: tools rewrite it."""
    bodies = [node["config"] for node, _ in objects(config) if isinstance(node.get("config"), dict)]
    return any("time_major" in body or "batch_input_shape" in body for body in bodies)


def modernise(config: Config) -> None:
    """Bring the configuration of a Keras 2 model to what Keras 3 takes, in place.

    Raises ModelRefusedError, by the layer's name, for what Keras 3 has no equal of.
    """
    for node, _ in list(objects(config)):
        if isinstance(node.get("config"), list):  # a Sequential until 2.2
            node["config"] = {"name": str(node.get("name", "sequential")), "layers": node["config"]}
    for node, layer in list(objects(config)):
        _at_home(node)
        body = node.get("config")
        if isinstance(body, dict):
            if node["class_name"] == "Sequential":
                _open_with_an_input(body)
            elif node["class_name"] == "Functional":
                _renumber(body)
            _modernise_layer(node, body, layer)
            if isinstance(body.get("dtype"), dict):  # a policy of mixed precision: its name says it all
                body["dtype"] = body["dtype"].get("config", {}).get("name")
        if node["class_name"] in _RECURRENT and isinstance(node.get("inbound_nodes"), list):
            node["inbound_nodes"] = [_with_initial_state(call) for call in node["inbound_nodes"]]
        if node["class_name"] == "SlicingOpLambda":
            _as_get_item(node)


def _at_home(node: Config) -> None:
    """The class where Keras 3 has it, whichever module Keras 2 had it in; what is not of Keras gets no module."""
    kind = node["class_name"]
    registered = node.pop("registered_name", None)
    for key in ("module", "build_config", "shared_object_id"):
        node.pop(key, None)
    if not isinstance(kind, str) or kind == "function":
        return
    kind = node["class_name"] = _RENAMED.get(kind, kind)
    name = registered if isinstance(registered, str) and ">" in registered else kind
    if kind in ("Sequential", "Functional"):
        node["module"] = "keras" if kind == "Sequential" else "keras.src.models.functional"
    elif keras.saving.get_registered_object(name) is not None:
        node["registered_name"] = name
    elif hasattr(keras.layers, kind):
        node["module"] = "keras.layers"


def _renumber(body: Config) -> None:
    """Keras 2 counts the calls of a nested model from one, Keras 3 from zero; and a list of one was a tensor."""
    layers = [layer for layer in body.get("layers", []) if isinstance(layer, dict)]
    calls = [call for layer in layers for call in layer.get("inbound_nodes", []) if isinstance(call, list)]
    entries = [entry for call in calls for entry in ([call] if call and isinstance(call[0], str) else call)]
    ends = [end for key in ("input_layers", "output_layers") for end in body.get(key, [])]
    references = [entry for entry in (*entries, *ends) if isinstance(entry, list) and len(entry) >= 3]
    for layer in layers:
        here = [entry for entry in references if entry[0] == layer.get("name") and isinstance(entry[1], int)]
        shift = max((entry[1] for entry in here), default=0) - max(len(layer.get("inbound_nodes", [])) - 1, 0)
        for entry in here:
            entry[1] -= max(shift, 0)
    for key in ("input_layers", "output_layers"):
        if isinstance(body.get(key), list) and len(body[key]) == 1 and isinstance(body[key][0], list):
            body[key] = body[key][0]


def _open_with_an_input(body: Config) -> None:
    """Turn ``batch_input_shape`` of a Sequential's first layer into the InputLayer that newer files have."""
    layers: list[Any] = body["layers"] if isinstance(body.get("layers"), list) else []
    first: Config = layers[0] if layers and isinstance(layers[0], dict) else {}
    inner: Config = first["config"] if isinstance(first.get("config"), dict) else {}
    shape = inner.get("batch_input_shape")
    if shape and first.get("class_name") not in (*_ALREADY, *_RENAMED):
        entry: Config = {"batch_shape": shape, "name": f"{inner.get('name', 'layer')}_input"}
        if first.get("class_name") != "Embedding" and isinstance(inner.get("dtype"), str):
            entry["dtype"] = inner["dtype"]
        layers.insert(0, {"class_name": "InputLayer", "config": entry})


def _modernise_layer(node: Config, body: Config, layer: str) -> None:
    kind = node["class_name"]
    if body.pop("time_major", False):
        raise ModelRefusedError(layer, "time_major=True puts time before the batch", "train it with (batch, time)")
    if body.pop("renorm", False) or body.pop("virtual_batch_size", None):
        raise ModelRefusedError(layer, "Keras 3 has no batch renormalization", "train it without")
    if body.get("ragged"):
        raise ModelRefusedError(layer, "its input is ragged", "train it on dense sequences")
    if kind == "InputLayer" and "batch_input_shape" in body:
        body["batch_shape"] = body["batch_input_shape"]
    for key in list(body):
        if key in _DROPPED or key.endswith(_OF_TRAINING):
            del body[key]
    if kind in ("GRU", "GRUCell"):
        body.setdefault("reset_after", False)  # files from before 2.1.5 don't say so; Keras 3 takes True
    if kind == "LeakyReLU" and "alpha" in body:
        body["negative_slope"] = float(body.pop("alpha"))
    if kind == "ThresholdedReLU":
        node["class_name"] = "ReLU"
        body["threshold"] = float(body.pop("theta", 1.0))
    if kind == "Lambda":
        _modernise_lambda(body)
    if {key for key, value in body.items() if _says_hard(value)} - set(_SCALABLE.get(kind, ())):
        raise _hard(layer)
    axis = body.get("axis")
    if isinstance(axis, list):  # Keras 3 would take the last axis for any longer list, and say nothing
        if len(axis) != 1:
            raise ModelRefusedError(
                layer, f"Keras 3 does not read axis={axis} from files of Keras 2", "use one axis, or train with Keras 3"
            )
        body["axis"] = int(axis[0])


def _modernise_lambda(body: Config) -> None:
    for key in _LAMBDA_NOTES:
        body.pop(key, None)
    for key in ("function", "output_shape"):
        code = body.get(key)
        if isinstance(code, list) and len(code) == 3 and isinstance(code[0], str):
            parts = dict(zip(("code", "defaults", "closure"), code, strict=True))
            body[key] = {"class_name": "__lambda__", "config": parts}


def _says_hard(value: Any) -> bool:
    return "hard_sigmoid" in ((value.get("config"),) if isinstance(value, dict) else (value,))


def _hard(layer: str) -> ModelRefusedError:
    return ModelRefusedError(
        layer,
        "its hard_sigmoid is clip(0.2x + 0.5) in Keras 2 and clip(x/6 + 0.5) in Keras 3",
        "use hard_sigmoid as the activation of Dense or the recurrent_activation of LSTM and GRU, or sigmoid",
    )


def _with_initial_state(call: Any) -> Any:
    """A recurrent layer's call on [x, h, c], as Keras 2 wrote initial states: x with the states named."""
    if not isinstance(call, list) or len(call) < 2 or not all(isinstance(entry, list) for entry in call):
        return call
    tensors = [_tensor(entry) for entry in call]
    return {"args": tensors[:1], "kwargs": {"initial_state": tensors[1:]}}


def _tensor(entry: list[Any]) -> Config:
    # Shape and dtype are filled in by Keras from the layer that the history names.
    body = {"shape": [None], "dtype": "float32", "keras_history": entry[:3]}
    return {"class_name": "__keras_tensor__", "config": body}


def _as_get_item(node: Config) -> None:
    """x[:, -1] in a graph of Keras 2."""
    calls = node.get("inbound_nodes") or []
    entries = [entry for entry in calls if isinstance(entry, list) and len(entry) == 4]
    if not entries or len(entries) != len(calls):
        return  # left as it is: refused as a class that Keras does not know
    node.update({"class_name": "GetItem", "module": "keras.src.ops.numpy", "registered_name": "GetItem"})
    node["config"] = {"name": node["config"]["name"]}
    node["inbound_nodes"] = [
        {"args": [_tensor(entry), [_part(part) for part in entry[3]["slice_spec"]]], "kwargs": {}} for entry in entries
    ]


def _part(part: Any) -> Any:
    return {"class_name": "__slice__", "config": part} if isinstance(part, dict) and "start" in part else part


def set_right(model: Any) -> None:
    """Make Keras 3 compute with these weights what Keras 2 did: scale what goes into a hard_sigmoid, in place.

    Raises ModelRefusedError for a hard_sigmoid where no weights stand before it.
    """
    for layer in model._flatten_layers(include_self=False):
        hard = [name for name in ("activation", "recurrent_activation") if _is_hard(getattr(layer, name, None))]
        if not hard or hasattr(layer, "cell"):  # a recurrent layer shows its cell's activations
            continue
        parts = _blocks(layer, hard)
        if parts is None:
            raise _hard(layer.name)
        count, scaled = parts
        ratio = np.ones(count)
        ratio[scaled] = HARD_SIGMOID_RATIO
        layer.set_weights([w * np.repeat(ratio, w.shape[-1] // count).astype(w.dtype) for w in layer.get_weights()])


def _is_hard(activation: Any) -> bool:
    return activation is keras.activations.hard_sigmoid


def _blocks(layer: Any, hard: list[str]) -> tuple[int, list[int]] | None:
    """Into how many blocks the last axis of the weights falls, and which of them go straight into a hard_sigmoid."""
    kind = type(layer)
    if kind in (keras.layers.Dense, keras.layers.Conv1D, keras.layers.SimpleRNNCell):
        return 1, [0]
    lstm = (keras.layers.LSTMCell, keras.src.layers.rnn.conv_lstm.ConvLSTMCell)
    if kind in lstm and hard == ["recurrent_activation"]:  # i, f, c, o; c goes into `activation`
        return 4, [0, 1, 3]
    if kind is keras.layers.GRUCell:  # z, r, h
        return 3, ([0, 1] if "recurrent_activation" in hard else []) + ([2] if "activation" in hard else [])
    return None
