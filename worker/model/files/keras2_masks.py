"""Masks in files of Keras 2: classes that hand them on as there, or a refusal of what Keras 3 would do otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from worker.errors import ModelRefusedError
from worker.model.backend import keras
from worker.model.files.configuration import Config, objects
from worker.model.keras2_masks import NAMES, known_as, mask_of

L = keras.layers


def has_masks(config: Config) -> bool:
    """Whether anything in the model makes a mask, or a call is given one."""
    for node, _ in objects(config):
        body = node.get("config")
        if node["class_name"] == "Masking" or (isinstance(body, dict) and body.get("mask_zero")):
            return True
        if '"mask"' in json.dumps(node.get("inbound_nodes") or []):
            return True
    return False


def with_its_masks(node: Config, layer: str) -> None:
    """The class that hands masks on as Keras 2 does; refuses masks that Keras 3 would not make."""
    kind = node["class_name"]
    if "registered_name" not in node and kind in NAMES and "config" in node:
        node.update(known_as(kind))
    if kind == "TimeDistributed" and isinstance(node.get("config"), dict):
        inside = node["config"].get("layer") or {}
        body = inside.get("config")
        if inside.get("class_name") == "Masking" or (isinstance(body, dict) and body.get("mask_zero")):
            raise _inner_mask(layer, str(inside["class_name"]))


def note(layers: Iterable[Any]) -> None:
    """Mark recurrent layers of Keras 2, which look at their input's mask even where they are given an initial state.

    Raises ModelRefusedError for a model inside TimeDistributed that gives a mask with its output.
    """
    for layer in layers:
        inside = layer.layer if isinstance(layer, L.TimeDistributed) else None
        if isinstance(inside, keras.Model) and any(mask_of(output) is not None for output in inside.outputs):
            raise _inner_mask(layer.name, inside.name)
        if isinstance(layer, (L.RNN, L.ConvLSTM1D, L.ConvLSTM2D, L.ConvLSTM3D)):
            layer.of_keras_2 = True


def _inner_mask(layer: str, inside: str) -> ModelRefusedError:
    """The refusal of a mask that is made inside TimeDistributed."""
    return ModelRefusedError(
        layer,
        f"Keras 2 hands the mask of '{inside}' on from TimeDistributed, Keras 3 does not",
        f"let '{inside}' make no mask, or use it without TimeDistributed, and train again",
    )
