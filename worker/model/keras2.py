"""Files of Keras 2: brings their configuration to what Keras 3 takes, and their weights to what Keras 3 computes.

What has another meaning in Keras 3 under the same name is converted exactly or refused by name, never passed on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from worker.errors import ModelRefusedError
from worker.model.backend import keras
from worker.model.configuration import Config, objects

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
_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN")
_ALREADY = ("InputLayer", "Sequential", "Functional")


def is_keras_2(version: Any) -> bool:
    """Whether the ``keras_version`` of a file is of Keras 2; files so old that they have none are."""
    text = version.decode() if isinstance(version, bytes) else str(version or "2")
    return text.split(".")[0] in ("0", "1", "2")


def modernise(config: Config) -> None:
    """Bring the configuration of a Keras 2 model to what Keras 3 takes, in place.

    Raises ModelRefusedError, by the layer's name, for what Keras 3 has no equal of.
    """
    for node, _ in list(objects(config)):
        if isinstance(node.get("config"), list):  # a Sequential until 2.2
            node["config"] = {"name": str(node.get("name", "sequential")), "layers": node["config"]}
    for node, layer in list(objects(config)):
        _as_in_legacy_files(node)
        body = node.get("config")
        if isinstance(body, dict):
            if node["class_name"] == "Sequential":
                _open_with_an_input(body)
            _modernise_layer(node, body, layer)
            if isinstance(body.get("dtype"), dict):  # a policy of mixed precision: its name says it all
                body["dtype"] = body["dtype"].get("config", {}).get("name")
        if node["class_name"] in _RECURRENT and isinstance(node.get("inbound_nodes"), list):
            node["inbound_nodes"] = [_with_initial_state(call) for call in node["inbound_nodes"]]
        if node["class_name"] == "SlicingOpLambda":
            _as_get_item(node)


def _as_in_legacy_files(node: Config) -> None:
    """A class by its name alone, whichever module Keras 2 had it in."""
    kind = node["class_name"]
    registered = node.pop("registered_name", None)
    if isinstance(registered, str) and ">" in registered and kind != "function":
        kind = registered
    node["class_name"] = _RENAMED.get(kind, kind) if isinstance(kind, str) else kind
    for key in ("module", "build_config", "shared_object_id"):
        node.pop(key, None)


def _open_with_an_input(body: Config) -> None:
    """Turn ``batch_input_shape`` of a Sequential's first layer into the InputLayer that newer files have."""
    layers = body.get("layers")
    first = layers[0] if isinstance(layers, list) and layers and isinstance(layers[0], dict) else {}
    inner = first.get("config")
    shape = inner.get("batch_input_shape") if isinstance(inner, dict) else None
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
    axis = body.get("axis")
    if isinstance(axis, list):  # Keras 3 would take the last axis for any longer list, and say nothing
        if len(axis) != 1:
            raise ModelRefusedError(
                layer, f"Keras 3 does not read axis={axis} from files of Keras 2", "use one axis, or train with Keras 3"
            )
        body["axis"] = int(axis[0])


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
            raise ModelRefusedError(
                layer.name,
                "its hard_sigmoid is clip(0.2x + 0.5) in Keras 2 and clip(x/6 + 0.5) in Keras 3",
                "use hard_sigmoid as the activation of Dense or the recurrent_activation of LSTM and GRU, or sigmoid",
            )
        count, scaled = parts
        ratio = np.ones(count)
        ratio[scaled] = HARD_SIGMOID_RATIO
        layer.set_weights([w * np.repeat(ratio, w.shape[-1] // count).astype(w.dtype) for w in layer.get_weights()])


def _is_hard(activation: Any) -> bool:
    return activation is keras.activations.hard_sigmoid


def _blocks(layer: Any, hard: list[str]) -> tuple[int, list[int]] | None:
    """Into how many blocks the last axis of the weights falls, and which of them go straight into a hard_sigmoid."""
    kind = type(layer)
    if kind in (keras.layers.Dense, keras.layers.SimpleRNNCell):
        return 1, [0]
    if kind is keras.layers.LSTMCell and hard == ["recurrent_activation"]:  # i, f, c, o; c goes into `activation`
        return 4, [0, 1, 3]
    if kind is keras.layers.GRUCell:  # z, r, h
        return 3, ([0, 1] if "recurrent_activation" in hard else []) + ([2] if "activation" in hard else [])
    return None
