"""What follows from a commit that failed: smaller turns, a word to whoever looks, and in the end to stop.

What fails as a whole may fail for its size, or for one message in it: after it the next turn has half as many events,
down to one record, and twice as many after each one that was committed. A record whose outputs the cluster takes from
nobody is found in this way, and has a dead letter instead. Time is an argument, in monotonic seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from worker.backlog import TurnLimit
from worker.errors import CommitRefusedError, KafkaUnavailableError, MessageRefusedError, WorkerError
from worker.fitting import Unwritable
from worker.limits import LoopLimits
from worker.pipeline import Outcome
from worker.records import Partition

TOLD_ROLLBACKS = 2  # in a row, before the probe says so: one is what every restart of a broker brings
OUTPUT_BYTES = 512  # of an output without its numbers, until there was one to measure
NUMBER_BYTES = 16  # of a number as text
SLOWER = 0.9  # of a measure of size, per turn: how soon large outputs are forgotten


class Setbacks:
    """How large the next turn may be, and how long it may go on like this.

    ``units``: numbers in each output. ``transactional``: every turn is committed by itself. ``unwritable``: records
    whose outputs, or dead letters, were refused.
    """

    def __init__(self, limits: LoopLimits, units: int, transactional: bool) -> None:
        self.unwritable: dict[tuple[Partition, int], Unwritable] = {}
        self._limits = limits
        self._transactional = transactional
        self._most_events: float = math.inf  # in the next turn, by how the last ones went
        self._output_bytes: float = OUTPUT_BYTES + units * NUMBER_BYTES
        self._measure()
        self._refused_since: float | None = None
        self._rolled_back = 0  # in a row
        self._lost_s = 0.0  # in turns whose transaction failed, since the last one that was committed

    @property
    def each_turn(self) -> bool:
        """Whether every turn is to be committed by itself, so that it alone fails."""
        return self._transactional or self._most_events < math.inf

    def limit(self) -> TurnLimit:
        """What the next turn holds at most."""
        return self._turn

    def sent(self, largest_bytes: int) -> None:
        """What the largest of a turn's outputs came to; 0 if there was none."""
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
            left = {place: why for place, why in self.unwritable.items() if place[1] >= offsets.get(place[0], 0)}
            self.unwritable = left
        self._refused_since = None
        self._rolled_back, self._lost_s = 0, 0.0
        if self._most_events < math.inf:
            self._most_events = math.inf if self._most_events >= self._limits.turn_events else self._most_events * 2
            self._measure()

    def assigned(self) -> None:
        """The group has let us in: what was refused before it is no reason any more."""
        self._refused_since = None

    def failed(self, now: float, error: Exception) -> None:
        """A commit has failed. Raises WorkerError when it has been refused for too long."""
        if isinstance(error, (KafkaUnavailableError, MessageRefusedError)):
            return
        if self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since > self._limits.commit_refused_s:
            refused = isinstance(error, CommitRefusedError)
            raise WorkerError(
                f"commits have been refused for {self._limits.commit_refused_s:.0f} s ({error})"
                + "; is another process running with the same kafka.instance_id?" * refused
            )

    def rolled_back(self, outcomes: Sequence[Outcome], lost_s: float, error: Exception) -> str | None:
        """A turn that took so many seconds will be made again; what to tell of it, if it is told.

        Raises WorkerError when nothing was committed for too long, in spite of turns of one record.
        """
        limits, answered = self._limits, [outcome for outcome in outcomes if not outcome.replay]
        events = sum(outcome.events + len(outcome.refusals) for outcome in answered)
        if isinstance(error, MessageRefusedError) and self.each_turn:
            self._suspect(answered, error)
        self._rolled_back += 1
        self._lost_s += lost_s
        self._most_events = max(1, min(self._most_events, events, limits.turn_events) // 2)
        self._measure()
        if self._lost_s > limits.no_progress_s:
            raise WorkerError(
                f"nothing was committed in {self._rolled_back} transactions, of {self._lost_s:.0f} s together, the "
                f"last of {events} events; the cause: {error}"
            )
        if self._rolled_back < TOLD_ROLLBACKS:
            return None
        return (
            f"{self._rolled_back} transactions in a row were rolled back, after {self._lost_s:.0f} s of work; the "
            f"worker ends at {limits.no_progress_s:.0f} s; the last one: {error}"
        )

    def _suspect(self, answered: Sequence[Outcome], error: MessageRefusedError) -> None:
        """A message of this turn was refused: if there is one record only, it is of that."""
        batches = [outcome.batch for outcome in answered if len(outcome.batch)]
        if [len(batch) for batch in batches] == [1]:
            place = batches[0].partition, batches[0].offsets[0]
            # The second time it was the dead letter.
            self.unwritable[place] = Unwritable(str(error), error.too_large, silent=place in self.unwritable)
