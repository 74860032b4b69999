"""What prevents a model from streaming, as the commands report it."""

from __future__ import annotations

from dataclasses import dataclass

from worker.errors import ModelRefusedError, WorkerError


@dataclass(frozen=True, slots=True)
class Problem:
    """``layer``: where, "" for the model as a whole; ``instead``: what to do, "" where nothing helps."""

    layer: str
    why: str
    instead: str

    @property
    def what(self) -> str:
        """Where and why, as lines of text say it."""
        return f"layer '{self.layer}': {self.why}" if self.layer else self.why


def problem_of(error: WorkerError) -> Problem:
    """An error about a model, as a report tells it."""
    return Problem(error.layer if isinstance(error, ModelRefusedError) else "", error.why, error.instead)
