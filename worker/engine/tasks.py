"""What the engine of tasks that generate needs from a task: how jobs become texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from worker.engine.emission import EmitRule
from worker.engine.jobs import Job
from worker.engine.text_models import TextDecoder
from worker.streams.table import StreamTable


class Task(Protocol):
    """A job is begun and run until it is done, and then stored; or it is dropped, begun or not."""

    table: StreamTable
    emit: EmitRule
    beams: int  # rows of the model for each job, at most
    has_sources: bool  # what a stream's state has seen is a source, which a boundary may end too early

    @property
    def model(self) -> TextDecoder:
        """The model that draws."""

    @property
    def waves(self) -> int:
        """Calls of a model, since the start."""

    @property
    def items_fed(self) -> int:
        """Items of records that a model was fed, since the start."""

    @property
    def items_drawn(self) -> int:
        """Since the start."""

    def says(self, job: Job) -> bool:
        """Whether a whole text is sent when this job is done."""

    def run(self, jobs: Sequence[Job], most_steps: int) -> int:
        """Begin those that have not begun; some steps for each, at most so many; returns how many."""

    def store(self, job: Job) -> None:
        """Write what a job that is done leaves behind into its stream's row."""

    def drop(self, job: Job) -> None:
        """The job's partition is gone."""
