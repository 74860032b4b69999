"""Records in, messages out: decode → process → encode, the same for ``run`` and ``replay``.

Rule of this file: no I/O, clock or logging, as in the engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from worker.codecs.dead_letters import DeadLetters
from worker.codecs.decoding import Decoder
from worker.codecs.encoding import Encoder
from worker.codecs.naming import KEY_BYTES_LIMIT
from worker.engine.engine import Engine
from worker.pipeline.fitting import Unwritable, fitting, of_these, one_each
from worker.records.events import Events, Refusal
from worker.records.messages import NO_MESSAGES, Messages
from worker.records.ownership import Partition
from worker.records.record_batch import RecordBatch

OUTPUT_BYTES_LIMIT = 990_000  # of key and value together: brokers and clients take 1 MB by default, with its framing
NOTHING_UNWRITABLE: Mapping[tuple[Partition, int], Unwritable] = MappingProxyType({})


@dataclass(slots=True)
class Outcome:
    """What became of one batch. A replayed batch has moved states and has no messages."""

    batch: RecordBatch
    events: int
    outputs: Messages
    largest_bytes: int  # of the values of its outputs
    refusals: list[Refusal]
    dead: Messages


class Pipeline:
    """One turn of the worker without its I/O."""

    def __init__(self, decoder: Decoder, engine: Engine, encoder: Encoder, dead_letters: DeadLetters) -> None:
        self.decoder = decoder
        self.engine = engine
        self.encoder = encoder
        self.dead_letters = dead_letters
        self.output_bytes = OUTPUT_BYTES_LIMIT

    def turn(self, batches: Sequence[RecordBatch]) -> list[Outcome]:
        """The outcome of these batches; batches of one partition must come in offset order."""
        return self.answer(self.decode(batches))

    def decode(self, batches: Sequence[RecordBatch]) -> list[Events]:
        """The events of each batch; no state is involved."""
        return self.decoder.decode_all(batches)

    def answer(
        self, decoded: Sequence[Events], unwritable: Mapping[tuple[Partition, int], Unwritable] = NOTHING_UNWRITABLE
    ) -> list[Outcome]:
        """Advance the states by these events; those of one partition must come in offset order.

        ``unwritable``: (partition, offset) of records whose outputs, or dead letters, the cluster has refused.
        """
        answers = self.engine.process(decoded)
        outcomes = []
        for events, predictions in zip(decoded, answers, strict=True):
            refusals = [] if events.batch.replay else sorted(events.refusals + predictions.refusals)
            outputs = self.encoder.encode(events, predictions)
            largest_bytes, letters = outputs.largest_value(), {}
            if largest_bytes + KEY_BYTES_LIMIT > self.output_bytes or unwritable:
                outputs, others = fitting(events, outputs, predictions.events, self.output_bytes, unwritable)
                refusals = one_each(refusals, others)
                letters = {at: each.letter for at, each in of_these(events, unwritable).items() if each.letter}
            dead = self.dead_letters.of(events.batch, refusals, letters) if refusals else NO_MESSAGES
            outcomes.append(Outcome(events.batch, len(events), outputs, largest_bytes, refusals, dead))
        return outcomes
