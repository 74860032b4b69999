"""Records in, messages out: decode → process → encode, the same for ``run`` and ``replay``.

Rule of this file: no I/O, clock or logging, as in the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from worker.codecs.dead_letters import DeadLetters
from worker.codecs.decoding import Decoder
from worker.codecs.encoding import Encoder
from worker.codecs.naming import KEY_BYTES_LIMIT
from worker.engine.engine import Engine
from worker.pipeline.fitting import Unwritable, fitting, of_these, one_each
from worker.records.events import Events, Predictions, Refusal
from worker.records.messages import NO_MESSAGES, Messages
from worker.records.ownership import Partition
from worker.records.record_batch import RecordBatch

OUTPUT_BYTES_LIMIT = 990_000  # of key and value together: brokers and clients take 1 MB by default, with its framing
NOTHING_UNWRITABLE: Mapping[tuple[Partition, int], Unwritable] = MappingProxyType({})


def nothing() -> None:
    """For callers that measure nothing."""


@dataclass(slots=True)
class Outcome:
    """What became of one batch. A replayed batch has moved states and has no messages.

    ``advances``: its records were read, and the position moves on to the batch's. Of records that were read before and
    are answered now it does not.
    """

    batch: RecordBatch
    events: int
    outputs: Messages
    largest_bytes: int  # of the values and headers of its outputs
    refusals: list[Refusal]
    dead: Messages
    advances: bool = True
    predictions: Predictions | None = None  # of task score


def predictions_of(outcomes: Sequence[Outcome]) -> list[Predictions]:
    """What the model of task score has said, batch by batch."""
    return [outcome.predictions for outcome in outcomes if outcome.predictions is not None]


@dataclass(slots=True)
class Answer:
    """What became of events. ``left_over``: those that could not be read yet, to be given back to the backlog."""

    outcomes: list[Outcome] = field(default_factory=list)
    left_over: list[Events] = field(default_factory=list)


class Pipeline:
    """One turn of the worker without its I/O: for task score, where every record is answered in the turn that reads
    it. ``generation.GenerationPipeline`` has the same surface.
    """

    busy = False  # no work is left when a turn ends

    def __init__(self, decoder: Decoder, engine: Engine, encoder: Encoder, dead_letters: DeadLetters) -> None:
        self.decoder = decoder
        self.engine = engine
        self.encoder = encoder
        self.dead_letters = dead_letters
        self.output_bytes = OUTPUT_BYTES_LIMIT

    @property
    def output_numbers(self) -> int:
        """How many numbers an output holds."""
        return self.engine.model.units

    def full(self) -> Collection[Partition]:
        """Partitions of which no more records can be read now."""
        return ()

    def pass_by(self, batches: Sequence[RecordBatch]) -> None:
        """Batches without records: up to their positions the log holds no more."""

    def turn(self, batches: Sequence[RecordBatch]) -> list[Outcome]:
        """The outcome of these batches; batches of one partition must come in offset order."""
        return self.answer(self.decode(batches)).outcomes

    def decode(self, batches: Sequence[RecordBatch]) -> list[Events]:
        """The events of each batch; no state is involved."""
        return self.decoder.decode_all(batches)

    def answer(
        self,
        decoded: Sequence[Events],
        unwritable: Mapping[tuple[Partition, int], Unwritable] = NOTHING_UNWRITABLE,
        most_outputs: int = 0,
        stepped: Callable[[], object] = nothing,
    ) -> Answer:
        """Advance the states by these events; those of one partition must come in offset order.

        ``unwritable``: (partition, offset) of records whose outputs, or dead letters, the cluster has refused.
        ``most_outputs`` is for tasks that generate: here the events decide. ``stepped`` is called when the states are
        where they will be, and only encoding is left.
        """
        answers = self.engine.process(decoded)
        stepped()
        outcomes = []
        for events, predictions in zip(decoded, answers, strict=True):
            refusals = [] if events.batch.replay else sorted(events.refusals + predictions.refusals)
            outputs = self.encoder.encode(events, predictions)
            largest_bytes, letters = outputs.largest_bytes(), {}
            if largest_bytes + KEY_BYTES_LIMIT > self.output_bytes or unwritable:
                outputs, others = fitting(events, outputs, predictions.events, self.output_bytes, unwritable)
                refusals = one_each(refusals, others)
                letters = {at: each.letter for at, each in of_these(events, unwritable).items() if each.letter}
            dead = self.dead_letters.of(events.batch, refusals, letters) if refusals else NO_MESSAGES
            outcome = Outcome(events.batch, len(events), outputs, largest_bytes, refusals, dead)
            outcome.predictions = predictions
            outcomes.append(outcome)
        return Answer(outcomes)
