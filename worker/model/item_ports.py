"""What a model that writes items takes and answers: ids or one-hot vectors in, probabilities or logits out."""

from __future__ import annotations

from typing import Any

import numpy as np

from worker.errors import ModelRefusedError, counted
from worker.model.backend import keras
from worker.model.explicit import ExplicitModel
from worker.model.graph import Layer, graph_of, is_model
from worker.model.step import PackedStep
from worker.records.arrays import FloatArray, IntArray

SUM_TOLERANCE = 1e-3
SUM_TOLERANCE_SOFTMAX = 0.1  # in half precision, over many items
SAMPLED_ROWS, SAMPLED_STEPS = 8, 12
SOFTMAX_INSTEAD = "let it end in Dense(items, activation='softmax'), or in Dense(items) trained with from_logits=True"

L = keras.layers
_AS_IT_IS = (L.Dropout, L.Reshape, L.Identity, L.Flatten)
_LINEAR = (keras.activations.linear, keras.activations.log_softmax)
_ACTIVATIONS = (L.ReLU, L.LeakyReLU, L.ELU, L.PReLU, L.Softmax)


def takes_one_hot(explicit: ExplicitModel) -> bool:
    """Whether a step's vector is an item's one-hot vector; False where it is the item's id.

    Raises ModelRefusedError for a model that takes anything else, or doesn't answer one number per item.
    """
    name = explicit.keras_model.name.removesuffix("_step")
    if len(explicit.inputs) != 1:
        raise ModelRefusedError(
            name,
            f"it has {len(explicit.inputs)} inputs, and what it writes can be fed to one only",
            "give it one input",
        )
    if len(explicit.outputs) != 1 or len(explicit.outputs[0].shape) != 1:
        shapes = ", ".join(str(part.shape) for part in explicit.outputs)
        raise ModelRefusedError(
            name,
            f"its outputs after a step have the shapes {shapes}, not one number per item of a vocabulary",
            "give it one output, the next item's probabilities",
        )
    (part,), units = explicit.inputs, explicit.units
    if part.ids is not None or (explicit.features == 1 and "int" in part.dtype):
        if part.ids is not None and part.ids < units:
            raise ModelRefusedError(
                name,
                f"its Embedding knows {counted(part.ids, 'item')}, and it answers {units}: it can't read all it writes",
                f"give the Embedding input_dim={units}",
            )
        return False
    if explicit.features != units or units == 1:
        raise ModelRefusedError(
            name,
            f"it takes {counted(explicit.features, 'number')} per step and answers {units}: what it writes can't be "
            "fed to it, neither as an id nor as a one-hot vector",
            "train it with an Embedding over ids, or with one-hot vectors of the same vocabulary that it answers",
        )
    return True


def vectors_of_ids(ids: IntArray, units: int, one_hot: bool) -> FloatArray:
    """ids (…,) → float64 vectors (…, features) of a step."""
    if not one_hot:
        return ids[..., np.newaxis].astype(np.float64)
    vectors = np.zeros((*ids.shape, units))
    np.put_along_axis(vectors, ids[..., np.newaxis], 1, axis=-1)
    return vectors


def answers_logits(model: Any, packed: PackedStep, one_hot: bool) -> bool:
    """Whether the answers are logits; False where they are probabilities, measured on random items.

    Raises ModelRefusedError for a model whose answers are neither, or NaN.
    """
    units, first = packed.units, packed.layout.initial
    ids = np.random.default_rng(0).integers(0, units, (SAMPLED_STEPS, SAMPLED_ROWS))
    ys, _ = packed.scan(vectors_of_ids(ids, units, one_hot), np.broadcast_to(first, (SAMPLED_ROWS, len(first))))
    if np.isnan(ys).any():
        name = last_layer(of_numbers(model)).name
        raise ModelRefusedError(name, "it answers NaN, and its weights hold none", SOFTMAX_INSTEAD)
    sums = ys.sum(axis=2, dtype=np.float64)
    layer, activation = last_layer(model), getattr(last_layer(model), "activation", None)
    softmax = activation is keras.activations.softmax or isinstance(layer, L.Softmax)
    tolerance = SUM_TOLERANCE_SOFTMAX if softmax else SUM_TOLERANCE
    if ys.min() >= 0 and np.abs(sums - 1).max() <= tolerance:
        return False
    bounded = ys.min() >= 0 and ys.max() <= 1
    if activation in _LINEAR or (activation is None and not isinstance(layer, _ACTIVATIONS) and not bounded):
        return True
    does = f" ({getattr(activation, '__name__', activation)})" if activation is not None else ""
    raise ModelRefusedError(
        layer.name,
        f"its answers{does} are neither probabilities of the items nor logits: from {ys.min():.3g} to {ys.max():.3g}, "
        f"and the {units} of a step add up to {sums.flat[0]:.3g}",
        SOFTMAX_INSTEAD,
    )


def of_numbers(model: Any) -> Any:
    """The model. Raises ModelRefusedError where its weights hold NaN."""
    held = [weight.path for weight in model.weights if np.isnan(np.asarray(weight, np.float64)).any()]
    if held:
        more = f" and {len(held) - 1} more" if held[1:] else ""
        raise ModelRefusedError(
            last_layer(model).name,
            f"it answers NaN, because its weights hold NaN ({held[0]}{more})",
            "save a model from before its training loss became NaN",
        )
    return model


def last_layer(model: Any) -> Layer:
    """The layer that makes the first output, nested models and TimeDistributed opened; none that hands it on only."""
    return layer_of(graph_of(model).outputs[0])


def layer_of(tensor: Any) -> Layer:
    """The layer that makes this tensor, nested models and TimeDistributed opened; none that hands it on only."""
    layer, node, index = tensor._keras_history
    while isinstance(layer, L.TimeDistributed):
        layer = layer.layer
    if is_model(layer):
        return layer_of(graph_of(layer).outputs[index])
    if isinstance(layer, _AS_IT_IS):
        inbound = layer._inbound_nodes
        return layer_of(inbound[min(node, len(inbound) - 1)].input_tensors[0]) if inbound else layer
    return layer


def refuse_waiting(name: str, waits: bool) -> None:
    """Raises ModelRefusedError for a model that ``waits``: one that generates begins with its answer to one item."""
    if waits:
        raise ModelRefusedError(
            name,
            "it makes fewer steps than there are items, and a model that generates needs an answer after each",
            "train it with padding='causal' and without strides",
        )
