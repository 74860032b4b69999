"""Rules of the layers around other layers: the inner layer must keep nothing from one step to the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from worker.model.backend import keras
from worker.model.graph import Layer, LayerCall, graph_of, is_model
from worker.model.rules import (
    StepBuilder,
    Time,
    has_rule,
    refuse,
    rule_for,
    run_as_it_is,
    streams,
    without_time,
)
from worker.model.unknown_kinds import refuse_unknown

L = keras.layers


@streams(L.TimeDistributed, tails=True)
def time_distributed(call: LayerCall, builder: StepBuilder) -> Any:
    """The inner layer sees every step alone, so any layer or model of Keras that keeps nothing for the next will do."""
    for layer, path in _inside(call.layer.layer, (*call.path, call.layer.name)):
        inner = replace(call, layer=layer, path=path)
        if not type(layer).__module__.startswith("keras.") and not has_rule(type(layer)):
            refuse_unknown(inner)
        if getattr(layer, "power_to_db", False):
            refuse(
                inner,
                "its decibels are counted from the loudest signal of a batch, so that streams affect each other",
                "set power_to_db=False and train again",
            )
        if getattr(layer, "stateful", False):
            refuse(
                inner,
                "stateful=True inside TimeDistributed keeps a state from step to step that belongs to no stream",
                "set stateful=False, so that it begins anew inside every step",
            )
        masked = call.mask is not None and len(call.mask.shape) == 2 and layer._call_has_mask_arg
        if masked and not isinstance(layer, L.BatchNormalization):
            refuse(
                inner,
                "it takes the mask of the steps for one of its own",
                "remove mask_zero or Masking and train again",
            )
    return run_as_it_is(call, builder, without_time(call, builder) or Time.EACH_STEP)


def _inside(layer: Layer, path: tuple[str, ...]) -> Iterator[tuple[Layer, tuple[str, ...]]]:
    """Every layer in it with the models and wrappers around, those of nested models too. Refuses hidden ones."""
    if is_model(layer):
        inner = [part for part in graph_of(layer, (*path, layer.name)).operations if not isinstance(part, L.InputLayer)]
    else:
        yield layer, path
        is_keras = type(layer).__module__.startswith("keras.")
        inner = [part for part in layer._layers if is_keras] if isinstance(layer, keras.Layer) else []
    for part in inner:
        yield from _inside(part, (*path, layer.name))


@streams(L.SpectralNormalization)
def spectral_normalization(call: LayerCall, builder: StepBuilder) -> Any:
    """It changes the weights only in training; otherwise it is the layer inside."""
    inner = replace(call, layer=call.layer.layer, path=(*call.path, call.layer.name))
    return rule_for(inner, builder)(inner, builder)
