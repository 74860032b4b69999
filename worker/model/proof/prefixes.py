"""The trained model's own answers to every prefix of sequences, from a copy that takes any number of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from worker.model.backend import tf
from worker.model.explicit import ExplicitModel
from worker.model.graph import call_model
from worker.model.graphs import as_graph
from worker.model.proof.as_trained import as_trained, needs_numbers
from worker.model.proof.samples import split
from worker.model.rules import Time
from worker.records.arrays import FloatArray


class Prefixes:
    """Answers by one graph for all lengths and numbers of sequences; without one where code needs to know these.

    ``xs`` (sequences, steps, features) are tried to see whether both say the same. Weights may be changed in between.
    """

    def __init__(self, flexible: Any, explicit: ExplicitModel, xs: FloatArray) -> None:
        self._explicit, self._flexible = explicit, flexible
        self._run = self._graph(xs) or self._plain

    def at_once(self, xs: FloatArray) -> list[FloatArray]:
        """The outputs for whole sequences, (sequences, steps, …) or (sequences, …), as float64."""
        return [np.asarray(y, np.float64) for y in self._run(*split(self._explicit.inputs, xs))]

    def answers(self, xs: FloatArray) -> FloatArray:
        """(sequences, steps, units): the model's answer to each prefix; not a number where it has none yet."""
        sequences, steps = xs.shape[:2]
        explicit, inputs = self._explicit, self._explicit.inputs
        if explicit.settled and all(time is Time.EACH_STEP for time in explicit.output_times):
            return _side_by_side([np.asarray(y) for y in self._run(*split(inputs, xs))], steps)
        answers = [np.full((sequences, min(explicit.first_answer - 1, steps), explicit.units), np.nan)]
        for length in range(explicit.first_answer, steps + 1):
            outputs = [np.asarray(y) for y in self._run(*split(inputs, xs[:, :length]))]
            last = last_steps(explicit, outputs)
            answers.append(_side_by_side([y[:, np.newaxis] for y in last], 1))
        return np.concatenate(answers, axis=1)

    def _plain(self, *given: Any) -> list[Any]:
        return call_model(self._flexible, list(given))

    def _graph(self, xs: FloatArray) -> Callable[..., list[Any]] | None:
        if needs_numbers(self._flexible):
            return None
        parts = self._explicit.inputs
        specs = [
            tf.TensorSpec([None, None, *x.shape[2:]] if part.time is Time.EACH_STEP else [None, *x.shape[1:]], x.dtype)
            for part, x in zip(parts, split(parts, xs), strict=True)
        ]
        try:
            graph = as_graph(self._plain, specs)
        except Exception:
            if as_trained(self._flexible):  # its code may raise whatever it likes
                return None
            raise
        lengths = (self._explicit.first_answer, xs.shape[1])
        prefixes = [split(parts, xs[:, :length]) for length in lengths]

        def run(*given: Any) -> list[Any]:
            return list(graph(*map(tf.constant, given)))

        alike = not as_trained(self._flexible) or all(self._alike(run, prefix) for prefix in prefixes)
        return run if alike else None

    def _alike(self, run: Any, given: list[Any]) -> bool:
        """Code may ask a shape for the number of steps: in a graph for all lengths there is none."""
        try:
            pairs = [(np.asarray(y), np.asarray(z)) for y, z in zip(run(*given), self._plain(*given), strict=True)]
        except Exception:  # noqa: BLE001 (whatever its code may raise)
            return False
        return all(x.shape == y.shape and np.allclose(x, y, 1e-5, 1e-6, equal_nan=True) for x, y in pairs)


def last_steps(explicit: ExplicitModel, outputs: Sequence[FloatArray]) -> list[FloatArray]:
    """Of outputs at each step those at the last one; (sequences, …)."""
    return [y[:, -1] if time is Time.EACH_STEP else y for time, y in zip(explicit.output_times, outputs, strict=True)]


def _side_by_side(outputs: list[FloatArray], steps: int) -> FloatArray:
    """Outputs (sequences, steps, …) → (sequences, steps, units)."""
    return np.concatenate([np.reshape(y, (len(y), steps, -1)) for y in outputs], axis=2)
