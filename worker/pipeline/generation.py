"""Records in, texts out: the pipeline of tasks that generate, whose records may be answered many turns later.

Rule of this file: no I/O, clock or logging, as in the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from worker.codecs.dead_letters import DeadLetters
from worker.codecs.decoding import Decoder
from worker.codecs.naming import KEY_BYTES_LIMIT
from worker.codecs.texts import TextEncoder
from worker.engine.feedback import FeedbackEngine
from worker.pipeline.fitting import Unwritable, fitting, of_these, one_each
from worker.pipeline.pipeline import NOTHING_UNWRITABLE, OUTPUT_BYTES_LIMIT, Answer, Outcome, nothing
from worker.records.events import Events, Refusal
from worker.records.messages import NO_MESSAGES, Messages
from worker.records.ownership import Partition
from worker.records.record_batch import RecordBatch
from worker.records.texts import Texts

OUTPUTS_LIMIT = 4096  # of a call, where nobody says


class GenerationPipeline:
    """One turn of the worker without its I/O: reads records, and works on the texts of all that are unfinished."""

    def __init__(
        self, decoder: Decoder, engine: FeedbackEngine, encoder: TextEncoder, dead_letters: DeadLetters
    ) -> None:
        self.decoder = decoder
        self.engine = engine
        self.encoder = encoder
        self.dead_letters = dead_letters
        self.output_bytes = OUTPUT_BYTES_LIMIT
        self.output_numbers = 0  # an output is text

    @property
    def busy(self) -> bool:
        """Whether records that were read have work left: ``answer`` gets on with it, also without events."""
        return self.engine.busy

    def full(self) -> Collection[Partition]:
        """Partitions of which no more records can be read now."""
        return self.engine.full()

    def pass_by(self, batches: Sequence[RecordBatch]) -> None:
        """Batches without records: up to their positions the log holds no more."""
        if batches:
            self.engine.read([_without_events(batch) for batch in batches])

    def turn(self, batches: Sequence[RecordBatch]) -> list[Outcome]:
        """The outcome of these batches, all their texts included; those of one partition must come in offset order."""
        outcomes: list[Outcome] = []
        left_over = self.decode(batches)
        while left_over or self.busy:
            answer = self.answer(left_over)
            outcomes += answer.outcomes
            left_over = answer.left_over
        return outcomes

    def decode(self, batches: Sequence[RecordBatch]) -> list[Events]:
        """The events of each batch; no state is involved."""
        return self.decoder.decode_all(batches)

    def answer(
        self,
        decoded: Sequence[Events],
        unwritable: Mapping[tuple[Partition, int], Unwritable] = NOTHING_UNWRITABLE,
        most_outputs: int = OUTPUTS_LIMIT,
        stepped: Callable[[], object] = nothing,
    ) -> Answer:
        """Read these events, as far as now possible, and work on all texts; those of one partition in offset order.

        ``unwritable``: (partition, offset) of records whose outputs, or dead letters, the cluster has refused. At most
        ``most_outputs`` outputs, beside dead letters. ``stepped`` is called when the states are where they will be, and
        only encoding is left.
        """
        reading = self.engine.read(decoded)
        worked = self.engine.work(most_outputs)
        stepped()
        outcomes = [
            self._outcome(events, texts, unwritable, events.refusals)
            for events, texts in zip(reading.accepted, reading.answers, strict=True)
        ]
        for events, texts in worked:
            outcome = self._outcome(events, texts, unwritable, [])
            outcome.advances, outcome.events = False, 0
            outcomes.append(outcome)
        return Answer(outcomes, reading.left_over)

    def _outcome(
        self,
        events: Events,
        texts: Texts,
        unwritable: Mapping[tuple[Partition, int], Unwritable],
        undecoded: Sequence[Refusal],
    ) -> Outcome:
        refusals = [] if events.batch.replay else sorted([*undecoded, *texts.refusals])
        outputs = self.encoder.encode(events, texts) if len(texts.events) else NO_MESSAGES
        largest_bytes, letters = outputs.largest_bytes(), {}
        if largest_bytes + KEY_BYTES_LIMIT > self.output_bytes or unwritable:
            outputs, others = fitting(events, outputs, texts.events, self.output_bytes, unwritable)
            refusals = one_each(refusals, _of_ended(events, texts, others))
            letters = {at: each.letter for at, each in of_these(events, unwritable).items() if each.letter}
        dead: Messages = self.dead_letters.of(events.batch, refusals, letters) if refusals else NO_MESSAGES
        return Outcome(events.batch, len(events), outputs, largest_bytes, refusals, dead)


def _of_ended(events: Events, texts: Texts, refusals: Sequence[Refusal]) -> list[Refusal]:
    """Of refused outputs those whose texts end here: a record has one dead letter, however many items it has."""
    ends = np.array([finish is not None for finish in texts.finishes], np.bool_)
    ended = {*events.records[texts.events[ends]].tolist(), *(refusal.record for refusal in texts.refusals)}
    return [refusal for refusal in refusals if refusal.record in ended]


def _without_events(batch: RecordBatch) -> Events:
    numbers = np.empty(0, np.int64)
    codes = numbers.astype(np.uint8)
    return Events(batch, numbers, numbers, codes, [], np.empty((0, 0), np.float32), numbers)
