"""Task generate: a stream's state is fed a record's items and then draws more, each of which is fed back.

No I/O, clock or logging.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worker.engine.emission import EmitRule
from worker.engine.jobs import NO_SLOT, Job
from worker.engine.text_models import GeneratingModel
from worker.engine.working import Start, Writer
from worker.records.events import Reset
from worker.records.random_numbers import stream_key
from worker.streams.table import StreamTable

SEQUENCE_ITEMS_LIMIT = 1_000_000  # items kept of a sequence until it ends; only for sequence_end
SEQUENCE_GOES_ON = (Reset.NONE, Reset.INVALID_STATE)
NOTHING_REASON = "the stream is at zero and the record has no items: there is nothing to go on from"
TOO_LONG_REASON = f"the text of the whole sequence has more than {SEQUENCE_ITEMS_LIMIT:,} items"


class Generation:
    """Turns the jobs of a table into texts. ``seed``: see ``random_numbers.stream_key``."""

    has_sources = False
    beams = 1

    def __init__(self, model: GeneratingModel, table: StreamTable, emit: EmitRule, seed: int = 0) -> None:
        assert table.generates
        assert table.emitted is not None
        assert table.emitted.shape[1] == model.units
        self.model = model
        self.table = table
        self.emit = emit
        self.seed = seed
        self._keeps_items = emit.mode == "sequence_end"
        self._writer = Writer(model, table.states.dtype, emit.mode == "every_item")

    @property
    def waves(self) -> int:
        """Calls of the model, since the start."""
        return self._writer.waves

    @property
    def items_fed(self) -> int:
        """Since the start."""
        return self._writer.fed

    @property
    def items_drawn(self) -> int:
        """Since the start."""
        return self._writer.drawn

    def says(self, job: Job) -> bool:
        """Whether a whole text is sent when this job is done."""
        return job.final or not self._keeps_items

    def run(self, jobs: Sequence[Job], most_steps: int) -> int:
        """Begin those that have not begun; some steps for each, at most so many; returns how many."""
        self._begin([job for job in jobs if job.slot == NO_SLOT])
        steps = self._writer.run([job for job in jobs if not job.done], most_steps)
        if self._keeps_items:
            for job in jobs:
                if job.done and job.final and len(job.kept) + len(job.tokens) > SEQUENCE_ITEMS_LIMIT:
                    job.refusal = job.refusal or ("output_too_large", TOO_LONG_REASON)
        return steps

    def store(self, job: Job) -> None:
        """Write what the job, which is done, leaves behind into its stream's row."""
        table, row, slot = self.table, job.row, job.slot
        assert table.emitted is not None
        if job.spoilt or slot == NO_SLOT:
            if job.spoilt or job.reset:
                table.states[row], table.emitted[row], table.steps[row] = table.initial, np.nan, 0
        else:
            table.states[row], table.emitted[row] = self._writer.packed[slot], self._writer.outputs[slot]
            table.steps[row] = job.steps + len(job.tokens)
            table.drawn[row] += len(job.tokens)
        table.origins[row] = job.origin
        table.items[row] = None
        if self._keeps_items and not job.final:
            text = job.kept if job.spoilt else job.kept + job.tokens
            table.items[row] = text[: SEQUENCE_ITEMS_LIMIT + 1]
        self.drop(job)

    def drop(self, job: Job) -> None:
        """The job has ended, or its partition is gone."""
        self._writer.end(job)

    def _begin(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        table = self.table
        assert table.emitted is not None
        rows = np.array([job.row for job in jobs], np.int64)
        zeroed = np.array([job.reset != Reset.NONE for job in jobs])
        outputs = np.where(zeroed[:, np.newaxis], np.nan, table.emitted[rows])
        nothing = np.isnan(outputs[:, 0]).tolist()
        for at, job in enumerate(jobs):
            job.steps = (0 if zeroed[at] else int(table.steps[job.row])) + len(job.prompt.items)
            job.kept = (table.items[job.row] or []) if self._keeps_items and job.reset in SEQUENCE_GOES_ON else []
            if nothing[at] and not len(job.prompt.items):
                job.refuse("nothing_to_continue", NOTHING_REASON)
        chosen = [at for at, job in enumerate(jobs) if not job.done]
        begun = [jobs[at] for at in chosen]
        packed = np.where(zeroed[:, np.newaxis], table.initial, table.states[rows])
        self._writer.begin(
            begun,
            Start(
                packed=packed[chosen],
                outputs=outputs[chosen],
                feed=[np.asarray(job.prompt.items, np.int64) for job in begun],
                draws=np.array([job.prompt.length for job in begun], np.int64),
                temperatures=np.array([job.prompt.temperature for job in begun]),
                keys=np.array([stream_key(self.seed, job.stream.encode()) for job in begun]).reshape(-1, 4),
                numbers=table.drawn[rows[chosen]],
            ),
        )
