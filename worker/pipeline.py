"""Records in, messages out: decode → process → encode, the same for ``run`` and ``replay``. Pure, as the engine is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.codecs.dead_letters import DeadLetters
from worker.codecs.decoding import Decoder
from worker.codecs.encoding import Encoder, Messages
from worker.engine import Engine
from worker.records import Events, Partition, PartitionState, RecordBatch, Refusal
from worker.streams import Slices


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

    def __init__(
        self, decoder: Decoder, engine: Engine, encoder: Encoder, slices: Slices, dead_letters: DeadLetters
    ) -> None:
        self.decoder = decoder
        self.engine = engine
        self.encoder = encoder
        self.slices = slices
        self.dead_letters = dead_letters

    def turn(self, batches: Sequence[tuple[RecordBatch, bool]]) -> list[Outcome]:
        """``batches`` are (records, replay); of one partition they come in offset order."""
        return self.answer(self.decode(batches))

    def decode(self, batches: Sequence[tuple[RecordBatch, bool]]) -> list[Events]:
        """What the records of each (records, replay) say; no state takes part in it."""
        return self.decoder.decode_all(batches)

    def answer(self, decoded: Sequence[Events]) -> list[Outcome]:
        """Move the states on by these events; of one partition they come in offset order."""
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
                    dead=self.dead_letters.of(events.batch, refusals),
                    replay=events.replay,
                )
            )
        return outcomes

    def open(self, partition: Partition, state: PartitionState | None = None) -> int:
        """Begin a partition at zero or with its restored streams; how many of those did not fit."""
        table = self.engine.table
        if state is None:
            table.open(partition)
            return 0
        return table.load(state, self.slices)

    def snapshot(self, partition: Partition, next_offset: int) -> PartitionState:
        """A copy of a partition's streams, which have seen all records below ``next_offset``."""
        return self.engine.table.snapshot(partition, next_offset, self.slices)
