"""How exactly plain Keras repeats a model's answers, which says how exactly a streaming form can give them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from worker.model.explicit import ExplicitModel
from worker.model.inputs import InputPart
from worker.model.proof.prefixes import Prefixes
from worker.records.arrays import FloatArray

EXACT = 1e-6  # the tolerance for float32 within ±1, where Keras itself is as exact
SPARE = 4  # a form computes the same in another order than Keras does, so it needs more than Keras alone


def exact(flexible: Any, explicit: ExplicitModel, prefixes: Prefixes, xs: FloatArray, wanted: FloatArray) -> bool:
    """Whether the answers are float32 numbers within ±1 that Keras repeats exactly enough for a tolerance of 1e-6.

    ``wanted``: its answers to each prefix of ``xs``.
    """
    kinds = {tensor.dtype for tensor in flexible.outputs} | {spec.dtype for spec in explicit.states}
    if kinds != {"float32"} or float(np.nanmax(np.abs(wanted), initial=0.0)) > 1.0:
        return False
    if repeated(prefixes, explicit.inputs, xs) * SPARE > EXACT:
        return False
    with weights_rounded(flexible):
        found = prefixes.answers(xs)
    return float(np.nanmax(np.abs(found.astype(np.float64) - wanted), initial=0.0)) * SPARE <= EXACT


def repeated(prefixes: Prefixes, parts: list[InputPart], xs: FloatArray) -> float:
    """By how much Keras differs from itself at most: a sequence alone, and with its numbers a rounding away."""
    wanted = prefixes.at_once(xs)
    near = xs.copy()
    for part in parts:
        if part.ids is None and part.dtype == "float32":
            given = xs[..., part.columns].astype(np.float32)
            near[..., part.columns] = np.nextafter(given, np.float32(np.inf))
    others = [np.concatenate(one) for one in zip(*(prefixes.at_once(x[np.newaxis]) for x in xs), strict=True)]
    differences = [
        float(np.max(np.abs(one - other), initial=0.0))
        for found in (others, prefixes.at_once(near))
        for one, other in zip(wanted, found, strict=True)
    ]
    return float(np.inf) if np.isnan(differences).any() else max(differences)


@contextmanager
def weights_rounded(flexible: Any) -> Iterator[None]:
    """Every other weight a rounding away: tells where numbers are ids, and of models that sharpen differences."""
    kept = flexible.get_weights()
    try:
        flexible.set_weights([_rounded(weight) for weight in kept])
        yield
    finally:
        flexible.set_weights(kept)


def _rounded(weight: Any) -> Any:
    """Up and down by turns: all in one direction would add up to more than roundings do."""
    if weight.dtype != np.float32 or not weight.size:
        return weight
    toward = np.where(np.arange(weight.size).reshape(weight.shape) % 2, np.float32(np.inf), np.float32(-np.inf))
    return np.nextafter(weight, toward)
