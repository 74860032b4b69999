"""Events → predictions: where streams, boundaries and the model meet.

No I/O, clock or logging. A turn's events are cut into *waves*: the k-th event of each stream is in wave k, so that two
events of one stream are never in one step of the model and every stream sees its events in order. A wave is gather →
step → check finite → scatter; many small waves become one scan over time, with the same results.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worker.engine.boundaries import (
    Before,
    BoundaryRules,
    Incoming,
    are_late,
    ended_after,
    ended_before,
    pending_after,
    resets_before,
)
from worker.engine.commanded import command
from worker.engine.emission import EmitRule
from worker.engine.failing import finite_rows, stepped
from worker.engine.packed_model import PackedModel
from worker.engine.placement import place_events
from worker.engine.sampling import Sampler
from worker.engine.scans import (
    SCAN_ROWS,
    SCAN_STEPS_LIMIT,
    SCAN_STEPS_MIN,
    Runs,
    ScannedRuns,
    plan_boundaries,
    scan_runs,
    stretches,
)
from worker.engine.turns import Turn, Wave, numbered, waves
from worker.records.arrays import CodeArray, FloatArray, IntArray
from worker.records.events import Events, Kind, Predictions, Reset
from worker.streams.reserving import RowValues
from worker.streams.rows import NO_ROW
from worker.streams.table import StreamTable


class Engine:
    """Steps the model over all streams. State changes only here, and only by events in log order.

    ``scan_rows``: see ``scans.stretches``; without any, all events go by waves.
    """

    busy = False  # ``process`` leaves nothing to do

    def __init__(
        self,
        model: PackedModel,
        table: StreamTable,
        rules: BoundaryRules,
        emit: EmitRule,
        scan_rows: tuple[int, ...] = SCAN_ROWS,
    ) -> None:
        self.model = model
        self.table = table
        self.rules = rules
        self.emit = emit
        self.scan_rows = scan_rows
        self.waves = 0  # steps of the model, since the start
        self.rows = 0  # of these steps, each for an event, since the start
        self._computed_before = model.rows_computed
        self.unanswered = 0  # events without an answer yet, since the start
        self.late = 0  # events older than the greatest event time of their stream, since the start
        self.without_stream = 0  # tombstones and resets that name no known stream, since the start
        self.resets = np.zeros(len(Reset), np.int64)  # returns to zero by Reset, since the start
        self.sampler = Sampler()
        self.ended = np.zeros(len(Reset), np.int64)  # sequences by the Reset that events have ended them with

    @property
    def padding(self) -> int:
        """Rows that the model has computed for no event, since the start."""
        return self.model.rows_computed - self._computed_before - self.rows

    def process(self, batches: Sequence[Events]) -> list[Predictions]:
        """One turn: the predictions of each batch, row by row. Batches of one partition must be in offset order."""
        if not batches:
            return []
        table, dtype = self.table, self.table.states.dtype
        turn = Turn.of(batches, table.partitions, self.model.units, dtype)
        start = 0
        while start < len(turn):
            placed = place_events(table, turn, start)
            self._advance(turn, start, placed)
            self._release(turn)
            if turn.commands:
                self.without_stream += int(np.count_nonzero(turn.rows[start:placed] == NO_ROW))
            start = placed
        if self.model.waits:
            self.unanswered += int(np.count_nonzero(~turn.answered & (turn.steps > 0)))
        if self.sampler.wanted:
            self.sampler.look(turn, table)
        return turn.predictions()

    def _advance(self, turn: Turn, start: int, stop: int) -> None:
        if stop - start <= len(self.table) and turn.is_one_wave(start, stop):
            self.waves += 1
            self._step(turn, slice(start, stop))
            return
        order, nth = numbered(turn.rows[start:stop])
        order += start
        self.waves += int(np.count_nonzero(np.bincount(nth[turn.kinds[order] == Kind.STEP])))
        for events, numbers, worth_a_scan in stretches(order, nth, self.scan_rows):
            if worth_a_scan:
                self._hot(turn, Runs.of(events, turn.rows[events]))
            else:
                self._waves(turn, events, numbers)

    def _waves(self, turn: Turn, events: IntArray, nth: IntArray) -> None:
        for wave in waves(events, nth):
            self._wave(turn, wave)

    def _hot(self, turn: Turn, runs: Runs | None) -> None:
        """Few streams with many events each: scans, and between them a wave for the commands."""
        while runs is not None:
            ahead = runs.until(turn.kinds[runs.events] != Kind.STEP) & (runs.nth < SCAN_STEPS_LIMIT)
            head, runs = runs.only(ahead), runs.only(~ahead)
            if head is not None and head.nth.max() + 1 >= SCAN_STEPS_MIN:
                self._scan(turn, head)
            elif head is not None:
                self._waves(turn, head.events, head.nth)
            if runs is not None:
                self._wave(turn, np.sort(runs.events[runs.begins]))
                runs = runs.only(runs.nth > 0)

    def _scan(self, turn: Turn, runs: Runs) -> None:
        """Step through these events in one call of the model over time."""
        rows, incoming = turn.rows[runs.events[runs.begins]], turn.incoming(runs.events)
        found = self.table.read(rows)
        late = are_late(runs.greatest(found["times"], incoming.times), incoming.times)
        if self.rules.late != "accept" and late.any():
            self._waves(turn, runs.events, runs.nth)
            return
        plan = plan_boundaries(self.rules, runs, self._before(rows, found, incoming), found["steps"], incoming)
        vectors = turn.vectors[runs.events]
        scanned = scan_runs(self.model.scan_packed, runs, plan, vectors, found["states"], self.table.initial)
        whole = scanned.finite[runs.number]
        self.late += int(np.count_nonzero(late & whole))
        if whole.any():
            self._finish(turn, rows[scanned.finite], found[scanned.finite], scanned.only(scanned.finite))
        if not whole.all():
            # A result that is not finite changes the boundaries planned after it: such streams are stepped event by
            # event.
            self._waves(turn, runs.events[~whole], runs.nth[~whole])

    def _finish(self, turn: Turn, rows: IntArray, found: RowValues, scanned: ScannedRuns) -> None:
        table, runs, plan, events = self.table, scanned.runs, scanned.plan, scanned.runs.events
        self.rows += len(events)
        lasts, zeroed, outputs = runs.lasts, plan.resets != Reset.NONE, scanned.outputs
        if zeroed.any():
            begun = runs.found(found["steps"], plan.steps)
            self.ended += ended_before(plan.resets, runs.found(found["pending"], plan.pending), begun)
        if np.count_nonzero(plan.pending):
            self.ended += ended_after(plan.pending)
        origins = runs.since(zeroed, found["origins"], turn.fresh_origins(events))
        found["origins"] = origins[lasts]
        after = turn.incoming(events[lasts])
        after.times = np.maximum.reduceat(turn.times[events], runs.begins)
        self._scatter(rows, found, scanned.states, plan.steps[lasts], plan.pending[lasts], after)
        turn.answer(events, outputs, plan.resets, plan.steps, plan.pending, origins)
        self._count(plan.resets)
        # A change is measured from the output sent last, so this must be decided event by event.
        whole = [np.arange(len(events))]
        for chosen in waves(whole[0], runs.nth) if self.emit.mode == "change" else whole:
            now = events[chosen]
            turn.emit[now] = self.emit.choose(
                outputs[chosen], zeroed[chosen], turn.finals[now], table.emitted, rows[runs.number[chosen]],
                turn.answered[now],
            )  # fmt: skip

    def _wave(self, turn: Turn, wave: IntArray) -> None:
        kinds = turn.kinds[wave]
        if turn.commands:
            for index in wave[kinds != Kind.STEP].tolist():
                command(self.table, turn, index)
            wave = wave[kinds == Kind.STEP]
        if len(wave):
            self._step(turn, wave)

    def _step(self, turn: Turn, wave: Wave) -> None:
        table, rows, incoming = self.table, turn.rows[wave], turn.incoming(wave)
        found = table.read(rows)
        late = are_late(found["times"], incoming.times)
        if np.count_nonzero(late):
            self.late += int(np.count_nonzero(late))
            if self.rules.late != "accept":
                events = np.arange(len(turn))[wave]
                turn.late[events[late]] = self.rules.late == "dead_letter"
                if not late.all():
                    self._step(turn, events[~late])
                return
        resets = resets_before(self.rules, self._before(rows, found, incoming), incoming)
        zeroed = resets.astype(np.bool_)
        if np.count_nonzero(zeroed):
            self.ended += ended_before(resets, found["pending"], found["steps"])
            found["states"][zeroed], found["steps"][zeroed] = table.initial, 0
            found["origins"][zeroed] = turn.fresh_origins(wave)[zeroed]
            self._count(resets)
        outputs, after, failing = stepped(self.model, turn.vectors[wave], found["states"])
        self.rows += len(outputs)
        steps = found["steps"] + 1
        pending = pending_after(self.rules, steps, incoming)
        finite = finite_rows(outputs, after)
        if finite is not None:
            # A state that is not finite would stay so for ever: the stream starts again from zero.
            after = np.where(finite[:, np.newaxis], after, table.initial)
            steps[~finite], pending[~finite] = 0, Reset.INVALID_STATE
            turn.invalid[wave] = ~finite
            turn.note_model_errors(wave, failing)
        if np.count_nonzero(pending):
            self.ended += ended_after(pending)
        self._scatter(rows, found, after, steps, pending, incoming)
        turn.answer(wave, outputs, resets, steps, pending, found["origins"])
        emit = self.emit.choose(outputs, zeroed, turn.finals[wave], table.emitted, rows, turn.answered[wave])
        turn.emit[wave] = emit if finite is None else emit & finite

    def _before(self, rows: IntArray, found: RowValues, incoming: Incoming) -> Before:
        ids = None if incoming.ids is None else self.table.sequences[rows]
        return Before(found["pending"], ids, found["times"])

    def _count(self, resets: CodeArray) -> None:
        self.resets += np.bincount(resets[resets != Reset.NONE], minlength=len(Reset))

    def _scatter(
        self, rows: IntArray, found: RowValues, states: FloatArray, steps: IntArray, pending: CodeArray, now: Incoming
    ) -> None:
        """``found`` is what these rows held, with their current origins; it becomes what they hold from now on."""
        found["states"], found["steps"], found["pending"] = states, steps, pending
        found["times"], found["clocks"] = np.maximum(found["times"], now.times), now.clocks
        self.table.write(rows, found)
        if now.ids is not None:
            self.table.sequences[rows] = now.ids

    def _release(self, turn: Turn) -> None:
        """Give back the rows of streams that tombstones have forgotten: until now they were pending resets."""
        for (partition, name), row in turn.leaving.items():
            forgotten = self.table.partitions[partition].forgotten
            if name in forgotten:
                forgotten[name] = int(self.table.pending[row])
            self.table.release(partition, name)
        turn.leaving.clear()
