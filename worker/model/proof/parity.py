"""The proof: outputs streamed step by step equal the trained model's outputs for each prefix of a sequence.

The trained model may be bound to one batch size and length and keep states of its own, so a flexible copy answers for
the prefixes, and the copy is compared with the trained model itself once, at the shape that the model takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.errors import WorkerError
from worker.model.backend import keras, tf
from worker.model.explicit import ExplicitModel
from worker.model.graph import CODE_INSTEAD, call_model, graph_of, layers_of
from worker.model.proof.flexible import flexible_copy
from worker.model.proof.samples import draw, split
from worker.model.rules import Time
from worker.model.step import PackedStep
from worker.records.arrays import FloatArray

FREE_LENGTH_STEPS = 10
FREE_BATCH_ROWS = 2


@dataclass(frozen=True, slots=True)
class Parity:
    """Greatest absolute differences found; not a number where an output is not.

    ``max_abs_difference`` is the greatest of the three: streamed against prefixes, a stream in a batch against the
    same stream alone, flexible copy against the trained model. ``where`` says which, and at which step.
    ``greatest_output`` is the trained model's greatest absolute answer to a prefix.
    """

    max_abs_difference: float
    where: str
    prefixes: float
    batching: float
    original: float
    greatest_output: float
    sequences: int
    steps: int

    def within(self, tolerance: float) -> bool:
        """Whether the proof holds. Where outputs exceed ±1, the tolerance grows with them, as rounding does.

        False when a difference is not a number.
        """
        return self.max_abs_difference <= tolerance * max(1.0, self.greatest_output)


def measure(
    original: Any, explicit: ExplicitModel, packed: PackedStep, sequences: int, steps: int, seed: int
) -> Parity:
    """Stream ``sequences`` random sequences of ``steps`` steps and compare."""
    assert sequences > 0, "no sequences, no proof"
    assert steps > 0, "no steps, no proof"
    samples = draw(original, explicit.inputs, sequences, steps, seed)
    xs = samples.vectors
    zero = np.tile(explicit.initial.astype(packed.dtype), (sequences, 1))
    streamed, _ = packed.scan(np.swapaxes(xs, 0, 1), zero)
    streamed = np.swapaxes(streamed, 0, 1)
    flexible = flexible_copy(original, explicit.inputs)
    wanted = _prefixes(flexible, explicit, xs)
    # Some models have no answer to an empty sequence, such as the mean of no step.
    unanswered = samples.empty[..., np.newaxis] & ~np.isfinite(wanted)
    difference, where = _worst(streamed, np.where(unanswered, streamed, wanted))
    alone = np.concatenate([np.swapaxes(packed.scan(x[:, np.newaxis], zero[:1])[0], 0, 1) for x in xs])
    batching, where_batching = _worst(streamed, alone)
    unbound = _against_original(original, flexible, explicit, seed)
    found = [
        (difference, f"{where}, streamed against the prefix"),
        (batching, f"{where_batching}, in a batch against alone"),
        (unbound, "flexible copy against the trained model"),
    ]
    greatest, found_where = max(found, key=lambda item: np.inf if np.isnan(item[0]) else item[0])
    largest = float(np.nanmax(np.abs(wanted), initial=0))
    return Parity(greatest, found_where, difference, batching, unbound, largest, sequences, steps)


def suspicion(code: Sequence[str]) -> str:
    """What to do about a proof that fails with these layers of Python code."""
    layers = ", ".join(f"'{layer}'" for layer in code)
    return f"the Python code of {layers} (Lambda) may look at other steps; {CODE_INSTEAD}"


def check(parity: Parity, tolerance: float, code: Sequence[str] = ()) -> Parity:
    """Raises WorkerError when the difference is above the tolerance or not a number.

    ``code`` names the layers of Python code: what they do with time is the first thing to suspect.
    """
    if not parity.within(tolerance):
        advice = "raise model.parity_tolerance if that is acceptable, else report this model"
        raise WorkerError(
            f"parity: the streamed model differs from the trained one by {parity.max_abs_difference:.3g} "
            f"({parity.where}), outputs up to {parity.greatest_output:.3g}: more than the tolerance {tolerance:.3g}",
            suspicion(code) if code else advice,
        )
    return parity


def _prefixes(flexible: Any, explicit: ExplicitModel, xs: FloatArray) -> FloatArray:
    """(sequences, steps, units): the model's answer to each prefix."""
    sequences, steps = xs.shape[:2]
    times, inputs = explicit.output_times, split(explicit.inputs, xs)
    if all(time is Time.EACH_STEP for time in times):
        return _side_by_side([np.asarray(y) for y in call_model(flexible, inputs)], steps)
    specs = [
        tf.TensorSpec([sequences, None, *x.shape[2:]] if part.time is Time.EACH_STEP else x.shape, x.dtype)
        for part, x in zip(explicit.inputs, inputs, strict=True)
    ]
    # One graph for all lengths.
    run = tf.function(lambda *given: call_model(flexible, list(given)), input_signature=specs, autograph=False)
    answers = []
    for length in range(1, steps + 1):
        outputs = [np.asarray(y) for y in run(*split(explicit.inputs, xs[:, :length]))]
        last = [y[:, -1] if time is Time.EACH_STEP else y for time, y in zip(times, outputs, strict=True)]
        answers.append(_side_by_side([y[:, np.newaxis] for y in last], 1))
    return np.concatenate(answers, axis=1)


def _side_by_side(outputs: list[FloatArray], steps: int) -> FloatArray:
    """Outputs (sequences, steps, …) → (sequences, steps, units)."""
    return np.concatenate([np.reshape(y, (len(y), steps, -1)) for y in outputs], axis=2)


def _against_original(original: Any, flexible: Any, explicit: ExplicitModel, seed: int) -> float:
    shapes = [
        tensor.shape
        for tensor, part in zip(graph_of(original).inputs, explicit.inputs, strict=True)
        if part.time is Time.EACH_STEP
    ]
    batch = next((shape[0] for shape in shapes if shape[0]), FREE_BATCH_ROWS)
    steps = next((shape[1] for shape in shapes if shape[1]), FREE_LENGTH_STEPS)
    samples = draw(original, explicit.inputs, batch, steps, seed + 1)
    inputs = split(explicit.inputs, samples.vectors)
    stateful = [
        variable
        for layer in layers_of(original)
        if getattr(layer, "stateful", False)
        for variable in keras.tree.flatten(layer.states)
    ]
    kept = [keras.ops.convert_to_numpy(variable) for variable in stateful]
    try:
        for variable in stateful:
            variable.assign(keras.ops.zeros_like(variable))
        wanted = [np.asarray(y, np.float64) for y in call_model(original, inputs)]
    finally:
        for variable, value in zip(stateful, kept, strict=True):
            variable.assign(value)  # the trained model is the caller's: leave it as it was
    given = [np.asarray(y, np.float64) for y in call_model(flexible, inputs)]
    differences = [_worst(one, two)[0] for one, two in zip(given, wanted, strict=True)]
    return max(differences, key=lambda difference: np.inf if np.isnan(difference) else difference)


def _worst(given: FloatArray, wanted: FloatArray) -> tuple[float, str]:
    """The greatest difference and where it is; arrays (sequences, steps, units) or of any one shape."""
    difference = np.abs(given.astype(np.float64) - wanted.astype(np.float64))
    if not difference.size:
        return 0.0, "nowhere"
    index = np.unravel_index(int(np.argmax(np.where(np.isnan(difference), np.inf, difference))), difference.shape)
    words = f"sequence {index[0]}"
    if difference.ndim == 3:
        words += f", after step {index[1] + 1}, unit {index[2]}"
    return float(difference[index]), words
