"""A pair as users give it, one model or two, opened: what encodes, what decodes, and what both are compared with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.errors import WorkerError
from worker.model.backend import keras, tf
from worker.model.explicit import ExplicitModel
from worker.model.graph import first_line
from worker.model.pair.constants import always
from worker.model.pair.decoder_step import step_of
from worker.model.pair.derivation import derive, runs_by_itself
from worker.model.pair.parity import OneModel, Trained, TwoModels
from worker.model.pair.two_models import joined

_CALLED = re.compile(r"when calling (\w+)\.call")
_PLACES = (re.compile(r"variable path='(?:[^'/]+/)*?([^'/]+)/[^'/]+'"), re.compile(r"\b[Ll]ayer [\"']([^\"'\s]+)[\"']"))


@dataclass(frozen=True, slots=True)
class Opened:
    """``encoder``: source → states. ``decoder``: [x, *states] → [y, *states after], for one item at least.

    ``explicit``: its streaming form, with the same states. ``trained`` opens what both are compared with.
    """

    encoder: Any
    decoder: Any
    explicit: ExplicitModel
    trained: Callable[[], Trained]


def opened(given: Any, decoder: Any, names: tuple[str, str]) -> Opened:
    """``given``: the model that was trained, or the encoder where a ``decoder`` is given; ``names`` of these two.

    Raises ModelRefusedError.
    """
    if decoder is not None:
        encoder = joined(given, decoder, names)
        explicit = step_of(decoder)
        saved = decoder if runs_by_itself(decoder) else explicit.keras_model
        return Opened(encoder, saved, explicit, lambda: TwoModels(encoder, decoder))
    pair = derive(given)
    explicit = step_of(pair.decoder, pair.begins)

    def trained() -> Trained:
        return OneModel(given, pair.target, explicit.outputs[0].time)

    if runs_by_itself(pair.decoder) and len(explicit.states) == len(pair.cut):
        return Opened(pair.encoder, pair.decoder, explicit, trained)
    return Opened(_with_states_of_layers(pair.encoder, explicit), explicit.keras_model, explicit, trained)


@contextmanager
def foreign_refused() -> Iterator[None]:
    """What Keras or TensorFlow raises at a model that no rule has refused becomes a WorkerError of one line."""
    try:
        yield
    except WorkerError:
        raise
    except (ValueError, TypeError, tf.errors.OpError) as error:
        kind = _CALLED.search(str(error))
        where = f" in {kind[1]}" if kind else ""
        layer = next((found[1] for found in (place.search(str(error)) for place in _PLACES) if found), "")
        named = f"layer '{layer}': " if layer else ""
        raise WorkerError(
            f"{named}the model can't be run item by item: Keras ends{where} with '{first_line(error)}'"
        ) from error


def _with_states_of_layers(encoder: Any, explicit: ExplicitModel) -> Any:
    """The encoder with the first values of the states that layers of the decoder keep beside those of the pair."""
    answers, width = list(encoder.outputs), 0
    for number, tensor in enumerate(explicit.keras_model.inputs[1:]):
        size = int(np.prod(tensor.shape[1:]))
        if number >= len(encoder.outputs):
            initial = explicit.initial[width : width + size].reshape(tensor.shape[1:])
            answers.append(always(initial, encoder.outputs[0], tensor.dtype, f"{tensor.name}.first"))
        width += size
    return keras.Model(encoder.inputs, answers, name=encoder.name)
