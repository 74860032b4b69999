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
from worker.model.backend import keras
from worker.model.explicit import ExplicitModel
from worker.model.graph import CODE_INSTEAD, call_model, graph_of, layers_of
from worker.model.proof import far
from worker.model.proof.answerable import check_first_answer
from worker.model.proof.causality import changed
from worker.model.proof.flexible import flexible_copy
from worker.model.proof.prefixes import Prefixes
from worker.model.proof.rounding import EXACT, SPARE, exact
from worker.model.proof.samples import draw, split
from worker.model.rules import Time
from worker.model.step import PackedStep
from worker.records.arrays import BoolArray, FloatArray

FREE_LENGTH_STEPS = 10
FREE_BATCH_ROWS = 2
USUAL = 1e-4  # model.parity_tolerance, when nobody has set it


@dataclass(frozen=True, slots=True)
class Parity:
    """Greatest absolute differences found; not a number where an output is not.

    ``max_abs_difference`` is the greatest of all: streamed against prefixes (long ones, too, where the model has Python
    code), a stream in a batch against the same stream alone, flexible copy against the trained model, streamed against
    streamed with later events and other streams that are not a number (``causality``). ``where`` says which, and at
    which step. ``greatest_output`` is the trained model's greatest absolute answer to a prefix. ``exact``: all are
    float32 within ±1, and plain Keras repeats them within 1e-6, so that the streamed answers must be as close.
    """

    max_abs_difference: float
    where: str
    prefixes: float
    batching: float
    original: float
    greatest_output: float
    sequences: int
    steps: int
    causality: float = 0.0
    exact: bool = False

    def limit(self, tolerance: float) -> float:
        """The difference that is allowed. Where outputs exceed ±1 it grows with them, as rounding does.

        A tolerance that is not greater than usual becomes 1e-6 where answers are ``exact``.
        """
        if self.exact and tolerance <= USUAL:
            return min(tolerance, EXACT)
        return tolerance * max(1.0, self.greatest_output)

    def within(self, tolerance: float) -> bool:
        """Whether the proof holds; False when a difference is not a number."""
        return self.max_abs_difference <= self.limit(tolerance)


def measure(
    original: Any, explicit: ExplicitModel, packed: PackedStep, sequences: int, steps: int, seed: int
) -> Parity:
    """Stream ``sequences`` random sequences of ``steps`` steps, counted from the first answer, and compare."""
    assert sequences > 0, "no sequences, no proof"
    assert steps > 0, "no steps, no proof"
    steps += explicit.first_answer - 1
    steps = min(steps, explicit.exact_steps or steps, explicit.last_step or steps)
    samples = draw(original, explicit.inputs, sequences, steps, seed)
    xs = samples.vectors
    zero = np.tile(explicit.initial.astype(packed.dtype), (sequences, 1))
    whole = np.swapaxes(packed.scan(np.swapaxes(xs, 0, 1), zero)[0], 0, 1)
    if explicit.waits:
        check_first_answer(original, explicit)
    flexible = flexible_copy(original, explicit.inputs)
    prefixes = Prefixes(flexible, explicit, xs)
    wanted = prefixes.answers(xs)
    streamed = whole[..., : explicit.units]
    # Some models have no answer to an empty sequence, such as the mean of no step.
    unanswered = samples.empty[..., np.newaxis] & ~np.isfinite(wanted)
    if explicit.waits:
        unanswered |= _unanswered(whole[..., -1], explicit.first_answer)[..., np.newaxis]
    difference, where = worst(streamed, np.where(unanswered, streamed, wanted))
    alone = np.concatenate([np.swapaxes(packed.scan(x[:, np.newaxis], zero[:1])[0], 0, 1) for x in xs])
    batching, where_batching = worst(whole, alone)
    unbound = _against_original(original, prefixes, explicit, seed)
    causality = changed(packed, explicit.inputs, xs, zero, whole)
    found = [
        (difference, f"{where}, streamed against the prefix"),
        (batching, f"{where_batching}, in a batch against alone"),
        (unbound, "flexible copy against the trained model"),
        (causality, "streamed, with later events and other streams that are not a number"),
        *_far(original, flexible, explicit, packed, seed),
    ]
    greatest, found_where = max(found, key=lambda item: np.inf if np.isnan(item[0]) else item[0])
    largest = float(np.nanmax(np.abs(wanted), initial=0))
    within = exact(flexible, explicit, prefixes, xs, wanted)
    if within and far.has_code(original):
        within = far.repeated(original, flexible, explicit, seed + 2) * SPARE <= EXACT
    return Parity(greatest, found_where, difference, batching, unbound, largest, sequences, steps, causality, within)


def _far(
    original: Any, flexible: Any, explicit: ExplicitModel, packed: PackedStep, seed: int
) -> list[tuple[float, str]]:
    if not far.has_code(original):
        return []
    difference, length = far.beyond(original, flexible, explicit, packed, seed + 2)
    return [(difference, f"after step {length}, streamed against the prefix")]


def _unanswered(answered: FloatArray, first: int) -> BoolArray:
    """(sequences, steps): where the trained model has no answer. Raises WorkerError if these are others."""
    wanted = np.broadcast_to(np.arange(1, answered.shape[1] + 1) >= first, answered.shape)
    if not np.array_equal(answered, wanted):
        raise WorkerError(
            f"parity: the streamed model doesn't answer each event from {first} on, and only these", "report this model"
        )
    return ~wanted


def suspicion(code: Sequence[str]) -> str:
    """What to do about a proof that fails with these layers of Python code."""
    layers = ", ".join(f"'{layer}'" for layer in code)
    return (
        f"the Python code of {layers} (Lambda) may look at how long the sequence is, or at other steps; {CODE_INSTEAD}"
    )


def check(parity: Parity, tolerance: float, code: Sequence[str] = ()) -> Parity:
    """Raises WorkerError when the difference is above the tolerance or not a number.

    ``code`` names the layers of Python code: what they do with time is the first thing to suspect.
    """
    if not parity.within(tolerance):
        advice = "raise model.parity_tolerance if that is acceptable, else report this model"
        raise WorkerError(
            f"parity: the streamed model differs from the trained one by {parity.max_abs_difference:.3g} "
            f"({parity.where}), outputs up to {parity.greatest_output:.3g}: more than {parity.limit(tolerance):.3g}",
            suspicion(code) if code else advice,
        )
    return parity


def _against_original(original: Any, prefixes: Prefixes, explicit: ExplicitModel, seed: int) -> float:
    shapes = [
        tensor.shape
        for tensor, part in zip(graph_of(original).inputs, explicit.inputs, strict=True)
        if part.time is Time.EACH_STEP
    ]
    batch = next((shape[0] for shape in shapes if shape[0]), FREE_BATCH_ROWS)
    steps = next((shape[1] for shape in shapes if shape[1]), FREE_LENGTH_STEPS + explicit.first_answer - 1)
    samples = draw(original, explicit.inputs, batch, steps, seed + 1)
    wanted = answers_at_zero(original, split(explicit.inputs, samples.vectors))
    given = prefixes.at_once(samples.vectors)
    differences = [worst(one, two)[0] for one, two in zip(given, wanted, strict=True)]
    return max(differences, key=lambda difference: np.inf if np.isnan(difference) else difference)


def answers_at_zero(model: Any, inputs: list[Any]) -> list[FloatArray]:
    """The model's outputs for these inputs where its own states, if it keeps any, are zero."""
    stateful = [
        variable
        for layer in layers_of(model)
        if getattr(layer, "stateful", False)
        for variable in keras.tree.flatten(layer.states)
        if variable is not None  # it was made stateful after it was built
    ]
    kept = [keras.ops.convert_to_numpy(variable) for variable in stateful]
    try:
        for variable in stateful:
            variable.assign(keras.ops.zeros_like(variable))
        return [np.asarray(y, np.float64) for y in call_model(model, inputs)]
    finally:
        for variable, value in zip(stateful, kept, strict=True):
            variable.assign(value)  # the trained model is the caller's: leave it as it was


def worst(given: FloatArray, wanted: FloatArray) -> tuple[float, str]:
    """The greatest difference and where it is; arrays (sequences, steps, units) or of any one shape."""
    difference = np.abs(given.astype(np.float64) - wanted.astype(np.float64))
    if not difference.size:
        return 0.0, "nowhere"
    index = np.unravel_index(int(np.argmax(np.where(np.isnan(difference), np.inf, difference))), difference.shape)
    words = f"sequence {index[0]}"
    if difference.ndim == 3:
        words += f", after step {index[1] + 1}, unit {index[2]}"
    return float(difference[index]), words
