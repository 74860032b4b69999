"""What follows from a failed commit: smaller turns, a warning, and in the end a stop.

A turn that fails as a whole may fail for its size, or for one message in it: after it the next turn has half as many
events, down to one record, and twice as many after each one that was committed. This finds a record whose outputs the
cluster refuses; it gets a dead letter instead. A dead letter that is refused is tried smaller, and ends the worker when
even the smallest is refused. Time is an argument, in monotonic seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from worker.codecs.dead_letters import RefusedLetter
from worker.errors import (
    CommitRefusedError,
    DeliveryFailedError,
    KafkaUnavailableError,
    MessageRefusedError,
    NotAcknowledgedError,
    WorkerError,
    counted,
)
from worker.member.limits import LoopLimits
from worker.pipeline.backlog import TurnLimit
from worker.pipeline.fitting import Unwritable
from worker.pipeline.pipeline import Outcome
from worker.records.ownership import Partition

TOLD_ROLLBACKS = 2  # in a row, before the probe says so: one is what every restart of a broker brings
OUTPUT_BYTES = 512  # of an output without its numbers, until there was one to measure
NUMBER_BYTES = 16  # of a number as text
SLOWER = 0.9  # of a measure of size, per turn: how soon large outputs are forgotten


class Setbacks:
    """How large the next turn may be, and how long failures may continue.

    ``units``: numbers in each output. ``transactional``: every turn is committed by itself. ``dead_letters``: the topic
    of dead letters. ``unwritable``: records whose outputs, or dead letters, were refused.
    """

    def __init__(self, limits: LoopLimits, units: int, transactional: bool, dead_letters: str | None = None) -> None:
        self.unwritable: dict[tuple[Partition, int], Unwritable] = {}
        self._limits = limits
        self._transactional = transactional
        self._dead_letters = dead_letters
        # For messages: without transactions a turn's outputs may have been written.
        self._turns, self._undone = ("transactions", "rolled back") if transactional else ("turns", "tried again")
        self._most_events: float = math.inf  # in the next turn, according to the last ones
        self._output_bytes: float = OUTPUT_BYTES + units * NUMBER_BYTES
        self._measure()
        self._refused_since: float | None = None
        self._rolled_back = 0  # in a row
        self._lost_s = 0.0  # in turns whose transaction failed, since the last one that was committed

    @property
    def each_turn(self) -> bool:
        """Whether every turn is to be committed by itself, so that a failure is its own."""
        return self._transactional or self._most_events < math.inf

    def limit(self) -> TurnLimit:
        """The limit of the next turn."""
        return self._turn

    def sent(self, largest_bytes: int) -> None:
        """The bytes of a turn's largest output; 0 if there was none."""
        if largest_bytes > self._output_bytes or self._turn.events < self._limits.turn_events:
            self._output_bytes = max(float(largest_bytes), self._output_bytes * SLOWER)
            self._measure()

    def _measure(self) -> None:
        limits = self._limits
        events = max(1, min(limits.turn_events, int(limits.turn_bytes_out / self._output_bytes)))
        self._turn = TurnLimit(events, max(1, int(min(events, self._most_events))), limits.turn_bytes_in)

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """A commit of these positions has succeeded."""
        if self.unwritable:
            left = {record: why for record, why in self.unwritable.items() if record[1] >= offsets.get(record[0], 0)}
            self.unwritable = left
        self._refused_since = None
        self._rolled_back, self._lost_s = 0, 0.0
        if self._most_events < math.inf:
            self._most_events = math.inf if self._most_events >= self._limits.turn_events else self._most_events * 2
            self._measure()

    def assigned(self) -> None:
        """We have joined the group: earlier refusals do not count any more."""
        self._refused_since = None

    def failed(self, now: float, error: Exception) -> None:
        """A commit has failed. Raises WorkerError when it has been refused for too long."""
        if isinstance(error, (KafkaUnavailableError, MessageRefusedError, NotAcknowledgedError)):
            return
        if self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since > self._limits.commit_refused_s:
            ask = "is another process running with the same kafka.instance_id?"
            raise WorkerError(
                f"commits have been refused for {self._limits.commit_refused_s:.0f} s ({error})",
                ask if isinstance(error, CommitRefusedError) else "",
            )

    def rolled_back(self, outcomes: Sequence[Outcome], lost_s: float, error: Exception) -> str | None:
        """A turn that took so many seconds will be made again; returns what to report, if anything.

        Raises WorkerError when nothing was committed for too long, in spite of turns of one record, and
        DeliveryFailedError when even the smallest dead letter is refused.
        """
        limits, answered = self._limits, [outcome for outcome in outcomes if not outcome.batch.replay]
        events = sum(max(outcome.events, len(outcome.outputs)) + len(outcome.refusals) for outcome in answered)
        if isinstance(error, MessageRefusedError) and self.each_turn:
            self._suspect(answered, error)
        self._rolled_back += 1
        self._lost_s += lost_s
        self._most_events = max(1, min(self._most_events, events, limits.turn_events) // 2)
        self._measure()
        if self._lost_s > limits.no_progress_s:
            raise WorkerError(
                f"nothing was committed in {self._rolled_back} {self._turns} that took {self._lost_s:.0f} s together, "
                f"the last with {counted(events, 'event')}; the cause: {error}"
            )
        if self._rolled_back < TOLD_ROLLBACKS:
            return None
        return (
            f"{self._rolled_back} {self._turns} in a row were {self._undone}, after {self._lost_s:.0f} s of work; the "
            f"worker ends at {limits.no_progress_s:.0f} s; the last one: {error}"
        )

    def _suspect(self, answered: Sequence[Outcome], error: MessageRefusedError) -> None:
        """A message of this turn was refused: if the turn has messages of only one record, it is that record's."""
        found = [(outcome, at) for outcome in answered for at in sorted({*_records(outcome)})]
        if len(found) != 1:
            return
        ((outcome, at),) = found
        record = outcome.batch.partition, outcome.batch.offsets[at]
        known = self.unwritable.get(record, Unwritable())
        if self._is_letter(outcome, error):
            self.unwritable[record] = replace(known, letter=self._smaller(outcome, at, known.letter, error))
        else:
            self.unwritable[record] = replace(known, why=str(error), too_large=error.too_large)

    def _is_letter(self, outcome: Outcome, error: MessageRefusedError) -> bool:
        """Whether the message that was refused is the record's dead letter, not one of its outputs."""
        if self._dead_letters is None or not len(outcome.dead):
            return False
        return not len(outcome.outputs) or error.topic == self._dead_letters

    def _smaller(
        self, outcome: Outcome, at: int, before: RefusedLetter | None, error: MessageRefusedError
    ) -> RefusedLetter:
        """The bound for the next letter of the record at this index. Raises DeliveryFailedError when it can't be
        smaller.
        """
        before, letter_bytes = before or RefusedLetter(), outcome.dead.bytes_of(0)
        if error.too_large and (before.letter_bytes is None or letter_bytes < before.letter_bytes):
            return replace(before, letter_bytes=letter_bytes)
        if not error.too_large and outcome.dead.keys[0] is None:
            return replace(before, keyless=True)
        batch, refusal = outcome.batch, outcome.refusals[0]
        how = ", by a larger max.message.bytes" if error.too_large else ""
        raise DeliveryFailedError(
            f"the dead letter of {batch.partition} offset {batch.offsets[at]} ({refusal.error}) can't be written, not "
            f"even without the record's value (dead_letters.on_failure: stop): {error}; let topic "
            f"'{self._dead_letters}' take it{how}, or set "
            "dead_letters.topic: null, with which refused records are only counted and logged",
            self._dead_letters,
        ) from error


def _records(outcome: Outcome) -> list[int]:
    """The records that have messages, each by its index in the batch."""
    return [*outcome.outputs.records.tolist(), *outcome.dead.records.tolist()]
