"""Derives encoder and decoder from the one model that was trained with teacher forcing, by walking its graph.

The trained model is [source, target] → y, in any order. What depends on the target belongs to the decoder, the rest to
the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.errors import ModelRefusedError
from worker.model.backend import keras
from worker.model.graph import Layer, graph_of, layers_of
from worker.model.pair.split import Split
from worker.model.scopes import with_names_of_scopes

L = keras.layers
# Layers that take any number of steps as they are. With others the derived pair keeps the lengths of training; one step
# of it and flexible copies are made all the same.
_ANY_LENGTH = (
    *(L.InputLayer, L.RNN, L.Embedding, L.Masking, L.Dense, L.Dropout, L.SpatialDropout1D),
    *(L.Activation, L.Softmax, L.ReLU, L.LeakyReLU, L.ELU, L.LayerNormalization, L.BatchNormalization, L.Identity),
    *(L.Concatenate, L.Add, L.Average, L.Multiply, L.Maximum),
)
_NORMALIZATIONS = (L.LayerNormalization, L.BatchNormalization)
TEACHER_FORCING = "train it on the target as a second input, moved by one item (teacher forcing)"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two ordinary Keras models with copies of the trained layers, as the tutorials save them.

    ``encoder``: source → the first states of the decoder. ``decoder``: [target, *states] → [y, *states after]. ``cut``:
    for each state the layer that takes it, with the nested models around. ``source``, ``target``: which inputs of the
    trained model they are. ``begins``: numbers of the states that don't begin at zero.
    """

    encoder: Any
    decoder: Any
    cut: list[str]
    source: int
    target: int
    begins: frozenset[int]


def derive(model: Any) -> Pair:
    """Raises ModelRefusedError naming the layer that is in the way."""
    graph = graph_of(model)
    _check_ports(model, graph)
    any_length = all(isinstance(layer, _ANY_LENGTH) and not _along_time(layer) for layer in layers_of(model))
    refusals = []
    for target in (1, 0):
        split = Split(graph, target, any_length)
        try:
            return _pair(model, split)
        except ModelRefusedError as refusal:
            refusals.append((not split.begins_with_the_source, refusal))
    # The way in which a recurrent layer begins with states of the other side is the right one.
    raise min(refusals, key=lambda one: one[0])[1]


def _check_ports(model: Any, graph: Any) -> None:
    if len(graph.inputs) == 1:
        repeats = next((layer for layer in layers_of(model) if isinstance(layer, L.RepeatVector)), None)
        raise ModelRefusedError(
            repeats.name if repeats else model.name,
            "its decoder is not told which item came before: the model has one input, and task seq2seq needs the "
            "source and the target",
            TEACHER_FORCING,
        )
    if len(graph.inputs) != 2:
        names = ", ".join(f"'{tensor.name}'" for tensor in graph.inputs)
        raise ModelRefusedError(
            model.name,
            f"it has {len(graph.inputs)} inputs ({names}), and task seq2seq needs two, the source and the target",
            "join what belongs to an item of the source into one vector, and train again",
        )
    if len(graph.outputs) != 1:
        raise ModelRefusedError(
            model.name,
            f"it has {len(graph.outputs)} outputs, and task seq2seq needs one, the probabilities of the next item",
            "keep that output alone: keras.Model(model.inputs, one of model.outputs)",
        )


def _pair(model: Any, split: Split) -> Pair:
    source, target, y = split.run(model)
    states = split.states
    if not split.decodes(y) or not any(state.begins is not None for state in states):
        raise ModelRefusedError(
            model.name,
            "nothing in it begins with what an encoder has made of the source",
            "give the decoder's recurrent layer the encoder's last states, initial_state=[h, c], and train again",
        )
    encoder = keras.Model(source, split.first_states())
    decoder = keras.Model([target, *(state.tensor for state in states)], [y, *(state.after for state in states)])
    return Pair(
        with_names_of_scopes(encoder),
        with_names_of_scopes(decoder),
        [state.taker for state in states],
        1 - split.target,
        split.target,
        frozenset(number for number, state in enumerate(states) if state.begins is not None or np.any(state.initial)),
    )


def _along_time(layer: Layer) -> bool:
    """Whether it may have weights for each step: a normalization, which is refused by name where it is made a step."""
    axis = getattr(layer, "axis", None) if isinstance(layer, _NORMALIZATIONS) else None
    return bool({1, -2} & set(keras.tree.flatten(axis)))


def runs_by_itself(decoder: Any) -> bool:
    """Whether Keras can run it item by item, and then it answers as it does to the whole target.

    Not where its length is that of training. Nor where masks are told: to one masked item alone Keras answers zeros.
    """
    batch, steps = decoder.inputs[0].shape[:2]
    recurrent = (layer for layer in layers_of(decoder) if isinstance(layer, L.RNN))
    told = (node.arguments.kwargs.get("mask") for layer in recurrent for node in layer._inbound_nodes)
    return (
        batch is None
        and (steps == 1 or (steps is None and all(isinstance(layer, _ANY_LENGTH) for layer in layers_of(decoder))))
        and all(mask is None for mask in told)
    )
