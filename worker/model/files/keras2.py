"""Files of Keras 2: converts their configuration to what Keras 3 accepts, and their weights to what Keras 3 computes.

A setting that means something else in Keras 3 under the same name is converted exactly or refused by name, never passed
on.
"""

from __future__ import annotations

from typing import Any

from worker.errors import ModelRefusedError, WorkerError
from worker.model import keras2_convolution
from worker.model.backend import keras
from worker.model.files import keras2_masks
from worker.model.files.configuration import Config, objects
from worker.model.files.keras2_gone import refuse_gone
from worker.model.files.keras2_graph import modernise_graph, of_precision
from worker.model.keras2_masks import known_as

# Written while training on a GPU: the same layers with other weights.
_CUDNN = {"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"}
_RENAMED = {
    "Model": "Functional",
    "SyncBatchNormalization": "BatchNormalization",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    **_CUDNN,
}
# Arguments for training only (weights come from the file), for how Keras 2 computed the same, or for old ways to give
# shapes.
_DROPPED = ("implementation", "input_length", "input_dtype", "batch_input_shape", "input_shape", "ragged", "fused")
_OF_TRAINING = ("_initializer", "_regularizer", "_constraint")
_CONV_LSTM = ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
_LAMBDA_NOTES = ("module", "function_type", "output_shape_type", "output_shape_module")
# Keras 3 has no such argument, and this value of it changes nothing.
_WITHOUT: dict[str, Config] = {
    **{f"{kind}Conv{n}D": {"groups": 1} for kind in ("Depthwise", "Separable") for n in (1, 2)},
    "MultiHeadAttention": dict.fromkeys(("query_shape", "key_shape", "value_shape", "softmax_robust_masking")),
    "Discretization": {"trainable": True},
    **{f"SpatialDropout{n}D": {"trainable": None, "noise_shape": None} for n in (1, 2, 3)},  # inference drops nothing
    **{f"Conv{n}DTranspose": {"groups": 1} for n in (1, 2, 3)},
}
# Layers with weights right before a hard_sigmoid, so that these can be scaled.
_SCALABLE = {
    **dict.fromkeys(("Dense", "Conv1D", "SimpleRNN", "SimpleRNNCell"), ("activation",)),
    **dict.fromkeys(("LSTM", "LSTMCell", *_CONV_LSTM), ("recurrent_activation",)),
    **dict.fromkeys(("GRU", "GRUCell"), ("activation", "recurrent_activation")),
}
# These dtypes are of a layer's output, except for layers that compute in them.
_WHOLE = ("int", "uint", "bool", "string")
_COMPUTE_WHOLE = ("InputLayer", "CategoryEncoding", "Hashing", "IntegerLookup", "StringLookup", "Rescaling")
_ALREADY = ("InputLayer", "Sequential", "Functional")


def is_keras_2(version: Any) -> bool:
    """Whether a ``keras_version`` is of Keras 2, as is a file without one. Raises WorkerError for Keras 1."""
    text = version.decode(errors="replace") if isinstance(version, bytes) else str(version or "2")
    if text.split(".")[0] in ("0", "1"):
        raise WorkerError("saved by Keras 1", "load it with Keras 2.2 or older where it was trained, and save it again")
    return text.split(".")[0] == "2"


def is_written_so(config: Config) -> bool:
    """Whether a configuration has keys that Keras 3 never writes, whatever version the file names: tools rewrite it."""
    bodies = [node["config"] for node, _ in objects(config) if isinstance(node.get("config"), dict)]
    return any("time_major" in body or "batch_input_shape" in body for body in bodies)


def refuse_cudnn(config: Config) -> None:
    """Layers of a GPU in a .keras file: its weights lie under the names of classes that Keras 3 doesn't have."""
    for node, layer in objects(config):
        if node["class_name"] in (*_CUDNN, "SyncBatchNormalization"):
            why = f"{node['class_name']} is converted from .h5 files only"
            raise ModelRefusedError(layer, why, "save the model where it was built with model.save('model.h5')")


def modernise(config: Config) -> None:
    """Convert the configuration of a Keras 2 model to what Keras 3 accepts, in place.

    Raises ModelRefusedError, by the layer's name, for anything that has no equal in Keras 3.
    """
    for node, _ in list(objects(config)):
        if isinstance(node.get("config"), list):  # a Sequential until 2.2
            node["config"] = {"name": str(node.get("name", "sequential")), "layers": node["config"]}
    masked = keras2_masks.has_masks(config)
    for node, layer in list(objects(config)):
        _at_home(node)
        if masked:
            keras2_masks.with_its_masks(node, layer)
        body = node.get("config")
        if isinstance(body, dict):
            if node["class_name"] == "Sequential":
                _open_with_an_input(body)
            _modernise_layer(node, body, layer)
            if isinstance(body.get("dtype"), dict):  # a policy of mixed precision: its name is enough
                body["dtype"] = body["dtype"].get("config", {}).get("name")
            _without_rounding(node["class_name"], body)
    for node, _ in list(objects(config)):
        if node["class_name"] == "Functional" and isinstance(node.get("config"), dict):
            modernise_graph(node["config"], masked)


def _at_home(node: Config) -> None:
    """The class in its module of Keras 3, whichever module Keras 2 had; a class not of Keras gets no module."""
    kind = node["class_name"]
    registered = node.pop("registered_name", None)
    for key in ("module", "build_config", "shared_object_id"):
        node.pop(key, None)
    if not isinstance(kind, str) or kind == "function":
        return
    if kind in _CUDNN and isinstance(node.get("config"), dict):
        node["config"].update(recurrent_activation="sigmoid", **({"reset_after": True} if kind == "CuDNNGRU" else {}))
    kind = node["class_name"] = _RENAMED.get(kind, kind)
    name = registered if isinstance(registered, str) and ">" in registered else kind
    if kind in ("Sequential", "Functional"):
        node["module"] = "keras" if kind == "Sequential" else "keras.src.models.functional"
    elif keras.saving.get_registered_object(name) is not None:
        node["registered_name"] = name
    elif hasattr(keras.layers, kind):
        node["module"] = "keras.layers"
    else:
        node["class_name"] = name


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
    refuse_gone(kind, body, layer)
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
    _convert(node, body)
    for key, value in _WITHOUT.get(kind, {}).items():
        if value is None or body.get(key) == value:
            body.pop(key, None)
    if {key for key, value in body.items() if _says_hard(value)} - set(_SCALABLE.get(kind, ())):
        raise hard_sigmoid(layer)
    axis = body.get("axis")
    if isinstance(axis, list):  # for a longer list Keras 3 would silently take the last axis
        if not axis and kind == "Normalization":  # one mean for all
            body["axis"] = None
            return
        if len(axis) != 1:
            raise ModelRefusedError(
                layer, f"Keras 3 does not read axis={axis} from files of Keras 2", "use one axis, or train with Keras 3"
            )
        body["axis"] = int(axis[0])


def _convert(node: Config, body: Config) -> None:
    """Convert settings with other names, other defaults or another precision in Keras 3."""
    kind = node["class_name"]
    if kind in ("GRU", "GRUCell"):
        body.setdefault("reset_after", False)  # files from before 2.1.5 don't say so; Keras 3 takes True
    if kind == "LeakyReLU" and "alpha" in body:
        body["negative_slope"] = float(body.pop("alpha"))
    if kind == "ThresholdedReLU":
        node.update(class_name="ReLU", module="keras.layers")
        body["threshold"] = float(body.pop("theta", 1.0))
    if kind == "Lambda":
        _modernise_lambda(body)
    if kind == "Masking":
        _mask_as_exactly(body)
    if kind == keras2_convolution.KIND and body.get("padding") == "causal" and "registered_name" not in node:
        node.update(known_as(kind))


def _without_rounding(kind: str, body: Config) -> None:
    """The dtype in which Keras 3 takes numbers as they are: it rounds inputs where Keras 2 rounds the output."""
    if not str(body.get("dtype") or "float32").startswith(_WHOLE) or kind in _COMPUTE_WHOLE:
        return
    # As exact as any input: Keras 2 compares float64 as float64 with the boundaries.
    body["dtype"] = "float64" if kind == "Discretization" else "float32"


def _mask_as_exactly(body: Config) -> None:
    """Keras 2 keeps the value of masked steps in the layer's own precision, Keras 3 in float32."""
    policy = body.get("dtype")
    name = policy.get("config", {}).get("name") if isinstance(policy, dict) else policy
    precision = str(name or "float32").removeprefix("mixed_")
    value = body.get("mask_value", 0.0)
    if precision in ("float16", "bfloat16", "float64") and isinstance(value, int | float):
        body["mask_value"] = of_precision(value, precision)


def _modernise_lambda(body: Config) -> None:
    for key in _LAMBDA_NOTES:
        body.pop(key, None)
    if isinstance(body.get("function"), str):  # its name
        body["function"] = {"class_name": "function", "config": body["function"]}
    for key in ("function", "output_shape"):
        code = body.get(key)
        if isinstance(code, list) and len(code) == 3 and isinstance(code[0], str):
            parts = dict(zip(("code", "defaults", "closure"), code, strict=True))
            body[key] = {"class_name": "__lambda__", "config": parts}


def _says_hard(value: Any) -> bool:
    return "hard_sigmoid" in ((value.get("config"),) if isinstance(value, dict) else (value,))


def hard_sigmoid(layer: str) -> ModelRefusedError:
    """The refusal of a hard_sigmoid that can't be converted by scaling the weights before it."""
    return ModelRefusedError(
        layer,
        "its hard_sigmoid is clip(0.2x + 0.5) in Keras 2 and clip(x/6 + 0.5) in Keras 3",
        "use hard_sigmoid as the activation of Dense or the recurrent_activation of LSTM and GRU, or sigmoid",
    )
