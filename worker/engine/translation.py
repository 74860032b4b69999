"""Task seq2seq: the items of a source are fed to an encoder; where the sequence ends, a decoder begins with its answer.

No I/O, clock or logging.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.engine.beams import BeamSearch
from worker.engine.emission import EmitRule
from worker.engine.failing import spoil
from worker.engine.jobs import Job
from worker.engine.text_models import EncoderDecoderModel
from worker.engine.working import Start, Writer, worthwhile
from worker.records.arrays import FloatArray
from worker.records.events import Reset
from worker.records.failing_rows import FailingRowsError
from worker.records.random_numbers import stream_key
from worker.streams.table import StreamTable

SOURCE_ITEMS_LIMIT = 10_000  # items of a source that is read as a whole
EMPTY_REASON = "the sequence ends without any item: there is no source"
TOO_LONG_REASON = f"its source would have more than {SOURCE_ITEMS_LIMIT:,} items, and the encoder reads it as a whole"


@dataclass(slots=True)
class Source:
    """A source as a job works on it: its stream's state, and what of the record is still to be fed."""

    packed: FloatArray  # (width,)
    answer: FloatArray | None  # (units,) None: there is none yet
    items: FloatArray  # (n, features) of the record
    kept: list[Any]  # items of the whole source, where the encoder reads it as a whole
    fed: int = 0
    decoding: bool = False


class Translation:
    """Turns the jobs of a table into sources, and sources into texts. ``beams`` > 1: the text is searched for."""

    has_sources = True

    def __init__(
        self, model: EncoderDecoderModel, table: StreamTable, emit: EmitRule, seed: int = 0, beams: int = 1
    ) -> None:
        assert table.generates
        self.encoder, self.model, self.start = model.encoder, model.decoder, model.start
        self.table = table
        self.emit = emit
        self.seed = seed
        self._writer = Writer(model.decoder, np.float64, emit.mode == "every_item")  # float64 holds any state
        self.beams = beams
        self._beams = BeamSearch(model.decoder, beams) if beams > 1 else None
        self._sources: dict[Job, Source] = {}
        self._read = 0  # items of sources, since the start
        self._calls = 0  # of the encoder, since the start
        self._searched = 0  # items of texts that were searched for, since the start

    @property
    def waves(self) -> int:
        """Calls of the encoder and the decoder, since the start."""
        return self._calls + self._writer.waves + (self._beams.waves if self._beams else 0)

    @property
    def items_fed(self) -> int:
        """Items of sources, since the start."""
        return self._read

    @property
    def items_drawn(self) -> int:
        """Since the start."""
        return self._writer.drawn + self._searched

    def says(self, job: Job) -> bool:
        """Whether a whole text is sent when this job is done."""
        return job.final

    def run(self, jobs: Sequence[Job], most_steps: int) -> int:
        """Begin those that have not begun; some steps for each, at most so many; returns how many."""
        for job in jobs:
            if job not in self._sources:
                self._begin(job)
        steps = self._feed([job for job in jobs if not job.done], most_steps)
        if self.encoder.reads_whole:
            self._read_whole([job for job in jobs if not job.done], most_steps * len(jobs))
        self._decode([job for job in jobs if not job.done and self._is_fed(job)])
        decoding = [job for job in jobs if not job.done and self._sources[job].decoding]
        if self._beams is None:
            return max(steps, self._writer.run(decoding, most_steps))
        found = self._beams.run(decoding, max(1, most_steps // self._beams.beams))
        self._searched += sum(len(job.tokens) for job in decoding if job.done)
        return max(steps, found * self._beams.beams)

    def store(self, job: Job) -> None:
        """Write what the job, which is done, leaves behind into its stream's row."""
        table, row, source = self.table, job.row, self._sources[job]
        table.origins[row] = job.origin
        if job.spoilt or (job.refusal and job.reset):
            self._write(row, table.initial, None, 0, None)
        elif not job.refusal:
            kept = None if job.final or not self.encoder.reads_whole else source.kept
            self._write(row, source.packed, source.answer, job.steps, kept)
            table.drawn[row] += len(job.tokens)
        self.drop(job)

    def drop(self, job: Job) -> None:
        """The job has ended, or its partition is gone."""
        self._sources.pop(job, None)
        self._writer.end(job)
        if self._beams is not None:
            self._beams.end(job)

    def _write(self, row: int, packed: FloatArray, answer: FloatArray | None, steps: int, kept: Any) -> None:
        table = self.table
        table.states[row], table.steps[row], table.items[row] = packed, steps, kept
        if table.emitted is not None:
            table.emitted[row] = np.nan if answer is None else answer

    def _begin(self, job: Job) -> None:
        table, row, zeroed = self.table, job.row, job.reset != Reset.NONE
        items = np.asarray(job.prompt.items, np.float64).reshape(len(job.prompt.items), self.encoder.features)
        packed, answer = (table.initial if zeroed else table.states[row].copy()), None
        kept: list[Any] = [] if zeroed else table.items[row] or []
        if not zeroed and not self.encoder.reads_whole:
            assert table.emitted is not None
            answer = None if np.isnan(table.emitted[row, 0]) else table.emitted[row].copy()
        self._sources[job] = source = Source(packed, answer, items, kept)
        job.steps, job.sees_drawn = (0 if zeroed else int(table.steps[row])) + len(items), False
        if self.encoder.reads_whole:
            if len(kept) + len(items) > SOURCE_ITEMS_LIMIT:
                job.refuse("source_too_long", TOO_LONG_REASON)
                return
            source.kept, source.fed = kept + job.prompt.items.tolist(), len(items)
            self._read += len(items)
        if job.final and not len(items) and not source.kept and answer is None:
            job.refuse("empty_source", EMPTY_REASON)
        job.done = job.done or (self._is_fed(job) and not job.final)

    def _is_fed(self, job: Job) -> bool:
        source = self._sources[job]
        ready = source.fed == len(source.items) and not source.decoding
        return ready and not (job.final and source.answer is None)

    def _feed(self, jobs: Sequence[Job], most_steps: int) -> int:
        """Items of the records to the encoder, some steps for all; returns how many."""
        feeding = [job for job in jobs if self._sources[job].fed < len(self._sources[job].items)]
        if not feeding:
            return 0
        sources = [self._sources[job] for job in feeding]
        left = np.array([len(source.items) - source.fed for source in sources])
        steps = min(most_steps, worthwhile(left))
        counts = np.minimum(left, steps)
        items = np.zeros((steps, len(sources), self.encoder.features))
        for at, (source, count) in enumerate(zip(sources, counts.tolist(), strict=True)):
            items[:count, at] = source.items[source.fed : source.fed + count]
        active = np.arange(steps)[:, np.newaxis] < counts
        self._calls += 1
        try:
            answers, packed, finite = self.encoder.feed(items, active, np.stack([source.packed for source in sources]))
        except FailingRowsError as failing:
            return self._feed(spoil(feeding, failing), most_steps)
        for at, (job, source, count) in enumerate(zip(feeding, sources, counts.tolist(), strict=True)):
            source.answer, source.packed, source.fed = answers[at], packed[at], source.fed + count
            self._read += count
            job.spoilt = not finite[at]
            job.done = job.spoilt or (source.fed == len(source.items) and not job.final)
        return steps

    def _read_whole(self, jobs: Sequence[Job], most_items: int) -> None:
        """Whole sources to the encoder, of at most so many items together, one at least."""
        for job in jobs:
            source = self._sources[job]
            if source.decoding or most_items <= 0:
                continue
            most_items -= len(source.kept)
            whole = np.asarray(source.kept, np.float64).reshape(len(source.kept), self.encoder.features)
            self._calls += 1
            try:
                source.answer = self.encoder.whole(whole)
            except FailingRowsError as failing:
                spoil([job], failing)
                continue
            job.spoilt = job.done = not np.isfinite(source.answer).all()

    def _decode(self, jobs: Sequence[Job]) -> None:
        """Sources that are complete: the decoder begins."""
        if not jobs:
            return
        answers = []
        for job in jobs:
            source = self._sources[job]
            assert source.answer is not None
            source.decoding = True
            answers.append(source.answer)
            if self._beams is not None:
                self._beams.begin(job, source.answer, self.start)
        if self._beams is None:
            prompts, count = [job.prompt for job in jobs], len(jobs)
            self._writer.begin(
                jobs,
                Start(
                    packed=np.stack(answers),
                    outputs=np.full((count, self.model.units), np.nan),
                    feed=[np.array([self.start])] * count,
                    draws=np.array([prompt.length for prompt in prompts], np.int64),
                    temperatures=np.array([prompt.temperature for prompt in prompts]),
                    keys=np.array([stream_key(self.seed, job.stream.encode()) for job in jobs]),
                    numbers=self.table.drawn[[job.row for job in jobs]],
                ),
            )
