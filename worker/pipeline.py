"""Records in, messages out: decode → process → encode, the same for ``run`` and ``replay``. Pure, as the engine is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.codecs.decoding import Decoder
from worker.codecs.encoding import Encoder, Messages, dead_letters
from worker.engine import Engine
from worker.records import Partition, RecordBatch, Refusal


@dataclass(slots=True)
class Outcome:
    """What became of one batch. A replayed batch has moved states and says nothing."""

    batch: RecordBatch
    events: int
    outputs: Messages
    refusals: list[Refusal]
    dead: Messages
    replay: bool


class Pipeline:
    """One turn of the worker without its edges."""

    def __init__(self, decoder: Decoder, engine: Engine, encoder: Encoder) -> None:
        self.decoder = decoder
        self.engine = engine
        self.encoder = encoder

    def turn(self, batches: Sequence[tuple[RecordBatch, bool]]) -> list[Outcome]:
        """``batches`` are (records, replay); of one partition they come in offset order."""
        decoded = [self.decoder.decode(batch, replay) for batch, replay in batches]
        answers = self.engine.process(decoded)
        outcomes = []
        for events, predictions in zip(decoded, answers, strict=True):
            refusals = [] if events.replay else sorted(events.refusals + predictions.refusals)
            outcomes.append(
                Outcome(
                    batch=events.batch,
                    events=len(events),
                    outputs=self.encoder.encode(events, predictions),
                    refusals=refusals,
                    dead=dead_letters(events.batch, refusals),
                    replay=events.replay,
                )
            )
        return outcomes

    def open(self, partition: Partition) -> None:
        """Begin a partition at zero."""
        self.engine.table.open(partition)
