"""Long sequences: code that nobody can read may look further back than usual proofs go, or ask for the length."""

from __future__ import annotations

from typing import Any

import numpy as np

from worker.model.backend import keras, tf
from worker.model.explicit import ExplicitModel
from worker.model.graph import call_model, layers_of
from worker.model.graphs import as_graph
from worker.model.proof.prefixes import last_steps
from worker.model.proof.rounding import weights_rounded
from worker.model.proof.samples import draw, split
from worker.model.step import PackedStep
from worker.model.tracing import is_own
from worker.records.arrays import FloatArray

LENGTHS = (100, 300, 600)  # events, from the first answer on
SEQUENCES = 2


def has_code(model: Any) -> bool:
    """Whether it has Python code of its own: Lambda layers, or layers of classes that are not of Keras."""
    return any(isinstance(layer, keras.layers.Lambda) or is_own(layer) for layer in layers_of(model))


def beyond(original: Any, flexible: Any, explicit: ExplicitModel, packed: PackedStep, seed: int) -> tuple[float, int]:
    """The greatest difference between streamed and prefix at LENGTHS, and at which.

    Each prefix has a graph of its own, for its length: in one for all lengths code would be told none.
    """
    lengths = _lengths(explicit)
    if not lengths:
        return 0.0, 0
    xs = draw(original, explicit.inputs, SEQUENCES, lengths[-1], seed).vectors
    zero = np.tile(explicit.initial.astype(packed.dtype), (SEQUENCES, 1))
    streamed = np.swapaxes(packed.scan(np.swapaxes(xs, 0, 1), zero)[0], 0, 1)[..., : explicit.units]
    found = [(0.0, 0)]
    for length in lengths:
        wanted = _answer(flexible, explicit, xs[:, :length])
        if wanted is None:
            break
        difference = float(np.max(np.abs(streamed[:, length - 1].astype(np.float64) - wanted), initial=0.0))
        found.append((difference, length))
    return max(found, key=lambda item: np.inf if np.isnan(item[0]) else item[0])


def repeated(original: Any, flexible: Any, explicit: ExplicitModel, seed: int) -> float:
    """By how much Keras differs from itself at LENGTHS when every weight is a rounding away: roundings add up."""
    differences = [0.0]
    lengths = _lengths(explicit)
    xs = draw(original, explicit.inputs, SEQUENCES, max(lengths, default=1), seed).vectors
    for length in lengths:
        wanted = _answer(flexible, explicit, xs[:, :length])
        with weights_rounded(flexible):
            found = _answer(flexible, explicit, xs[:, :length])
        if wanted is None or found is None:
            break
        differences.append(float(np.max(np.abs(found - wanted), initial=0.0)))
    return float(np.inf) if np.isnan(differences).any() else max(differences)


def _lengths(explicit: ExplicitModel) -> list[int]:
    """LENGTHS, counted from the first answer; as many as the form can answer."""
    most = min(explicit.exact_steps or LENGTHS[-1], explicit.last_step or LENGTHS[-1])
    return [length + explicit.first_answer - 1 for length in LENGTHS if length + explicit.first_answer - 1 <= most]


def _answer(flexible: Any, explicit: ExplicitModel, xs: FloatArray) -> FloatArray | None:
    """(sequences, units); None where the code takes no sequence as long as this."""
    given = split(explicit.inputs, xs)
    specs = [tf.TensorSpec(x.shape, x.dtype) for x in given]
    try:
        run = as_graph(lambda *tensors: call_model(flexible, list(tensors)), specs)
        outputs = [np.asarray(y, np.float64) for y in run(*map(tf.constant, given))]
    except Exception:  # noqa: BLE001 (whatever its code may raise, such as that it wants numbers)
        try:
            outputs = [np.asarray(y, np.float64) for y in call_model(flexible, given)]
        except Exception:  # noqa: BLE001
            return None
    return np.concatenate([y.reshape(len(y), -1) for y in last_steps(explicit, outputs)], axis=1)
