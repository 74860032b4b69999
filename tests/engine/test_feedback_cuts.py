"""How a log of texts is cut into reads and works, and where it is interrupted, shows nowhere.

Both sides are data: what one engine says that completes record by record, and what engines say that read ahead, work
a little at a time, crash, go back to any earlier snapshot, run unfinished texts again and hand partitions over.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.depth import examples
from tests.engine.toy_texts import Row, ToyDecoder, ToyEncoder, ToyTranslator, events, generation, prompt, translation
from worker.engine.boundaries import BoundaryRules
from worker.engine.feedback import FeedbackEngine
from worker.records.events import Events, Kind
from worker.records.ownership import Partition
from worker.records.prompts import Finish
from worker.records.states import PartitionState, Unfinished
from worker.records.texts import Texts

PARTITIONS = (Partition("in", 0), Partition("in", 1))
STOP, POISON = 2, 5

prompts = st.builds(
    prompt,
    st.lists(st.sampled_from([0, 1, 1, 3, 4, 6, STOP, POISON]), max_size=4),
    st.sampled_from([0, 1, 2, 5, 9]),
    st.sampled_from([0.0, 1.0]),
)
later_ms = st.sampled_from([0, 0, 1, 5, 20, 40, 150, -10, -40])
flags = {
    "id": st.sampled_from([1, 1, 1, 2]),
    "start": st.sampled_from([False] * 4 + [True]),
    "end": st.sampled_from([False] * 4 + [True]),
}
streams = st.sampled_from("aaabbcde")
steps = st.builds(Row, streams, prompts, later_ms, **flags)
commands = st.builds(
    Row,
    streams,
    st.none(),
    later_ms,
    st.sampled_from([Kind.TOMBSTONE, Kind.RESET, Kind.SET_STATE]),
    state=st.sampled_from([0.0, 3.0]),
)
plain = st.builds(Row, st.sampled_from("ab"), prompts, st.just(0), id=st.just(1))
records = st.one_of(plain, plain, steps, steps, steps, commands, st.none())
long = st.one_of(st.lists(records, max_size=6), st.lists(records, min_size=12, max_size=30))
logs = st.tuples(long, st.lists(records, max_size=10))
rules = st.builds(
    BoundaryRules,
    length=st.sampled_from([None, 1, 3]),
    gap_ms=st.sampled_from([None, 30]),
    idle_ms=st.sampled_from([None, 8, 60]),
    late=st.sampled_from(["accept", "drop", "dead_letter"]),
)


@dataclass(frozen=True)
class Setup:
    task: str
    rules: BoundaryRules
    mode: str
    max_streams: int

    def engine(self) -> FeedbackEngine:
        decoder = ToyDecoder(STOP, POISON)
        common: Any = {"rules": self.rules, "mode": self.mode, "max_streams": self.max_streams, "partitions": ()}
        if self.task == "generate":
            return generation(decoder, **common)
        encoder = ToyEncoder(self.task == "whole", POISON)
        return translation(ToyTranslator(encoder, decoder), beams=3 if self.task == "beams" else 1, **common)


setups = st.builds(
    Setup,
    st.sampled_from(["generate", "generate", "seq2seq", "whole", "beams"]),
    st.one_of(st.just(BoundaryRules()), rules),
    st.sampled_from(["every_event", "every_item", "sequence_end"]),
    st.integers(1, 4),
)
sizes = st.fixed_dictionaries(
    {
        "feedback.STEPS_AT_ONCE": st.sampled_from([1, 2, 3, 64]),
        "feedback.STREAMS_AT_ONCE": st.sampled_from([1, 2, 4096]),
        "feedback.ITEMS_AT_ONCE": st.sampled_from([1, 7, 16_384]),
        "feedback.NUMBERS_AT_ONCE": st.sampled_from([1, 30, 4_194_304]),
        "feedback.LEAST_ROWS": st.sampled_from([1, 16]),
        "telling.TOLD_BYTES_AT_ONCE": st.sampled_from([1, 700, 16 << 20]),
        "jobs.UNFINISHED_RECORDS_LIMIT": st.sampled_from([1000, 3, 1]),
    }
)


def timed(log: list[Row | None]) -> list[Row | None]:
    """The rows with times in place of what passes between them; no time where 40 ms pass."""
    found: list[Row | None] = []
    now_ms = 1000
    for row in log:
        if row is None:
            found.append(None)
            continue
        now_ms += row.time
        found.append(Row(row.stream, row.prompt, -1 if row.time == 40 else now_ms, *list(vars(row).values())[3:]))
    return found


def said(answered: Events, texts: Texts) -> Iterator[tuple[tuple[int, Any], Any]]:
    """(identity, what) of each output and dead letter."""
    columns = (texts.items, texts.tokens, texts.finishes, texts.steps, texts.resets, texts.finals)
    scores: Any = texts.scores or [None] * len(texts.events)
    for event, item, tokens, *rest in zip(texts.events, *columns, scores, strict=True):
        offset = answered.batch.offsets[answered.records[event]]
        yield (offset, int(item)), (tokens, *(each.item() if hasattr(each, "item") else each for each in rest))
    for refusal in texts.refusals:
        yield (answered.batch.offsets[refusal.record], refusal.error), refusal.reason


def whole(state: PartitionState) -> dict[str, Any]:
    """All that a partition's streams are, in an order of their own."""
    assert state.drawn is not None
    assert state.records is not None
    assert state.items is not None
    columns: list[Any] = [
        state.steps,
        state.times,
        state.clocks,
        state.pending,
        state.drawn,
        state.records,
        state.items,
    ]
    columns += [state.sequences, *state.states.values(), *([] if state.emitted is None else [state.emitted])]
    ranks = sorted(range(len(state.keys)), key=lambda row: int(state.touched[row]))
    found = [(state.keys[row], *(repr(np.asarray(column[row]).tolist()) for column in columns)) for row in ranks]
    return {"clock": state.clock, "streams": found, "forgotten": list(state.forgotten.items()), "P": state.read_to}


@dataclass
class Owner:
    """One partition, read by whichever engine has it, and what is committed of it."""

    partition: Partition
    rows: list[Row | None]
    engine: FeedbackEngine
    position: int = 0
    backlog: list[Events] = field(default_factory=list)
    pending: list[tuple[Any, Any]] = field(default_factory=list)  # said, and not committed
    heard: dict[Any, Any] = field(default_factory=dict)
    committed: tuple[int, dict[int, int]] = (0, {})  # P, and U with sent
    restarted: tuple[int, dict[int, int]] = (0, {})  # the same, as of the last restart
    saved: list[PartitionState | None] = field(default_factory=lambda: [None])

    def owes(self, offset: int) -> bool:
        """Whether this record's answer was not complete at the last restart; others move states only."""
        read_to, unfinished = self.restarted
        return offset >= read_to or offset in unfinished

    def take(self, count: int) -> list[Events]:
        """What was left over, and the next records, marked as a restart marks them."""
        end, sent = min(len(self.rows), self.position + count), self.restarted[1]
        taken, self.backlog = self.backlog, []
        while self.position < end:
            begin, owed = self.position, self.owes(self.position)
            while self.position < end and self.owes(self.position) == owed:
                self.position += 1
            part = self.rows[begin : self.position]
            taken.append(events(part, begin, self.partition, replay=not owed, sent=sent if owed else {}))
        return taken

    def hear(self, accepted: Events, texts: Texts) -> None:
        """Dead letters of records that were read."""
        if not accepted.batch.replay:
            decoded = set(accepted.records.tolist())
            gone = [offset for at, offset in enumerate(accepted.batch.offsets) if at not in decoded]
            self.pending += [((offset, "decoder"), "") for offset in gone]
        self.pending += said(accepted, texts)

    def commit(self, save: bool) -> None:
        """Everything said so far, and the position, at once; and perhaps a snapshot as of then."""
        streams = self.engine.table.partitions[self.partition]
        if streams.read_to < self.committed[0] or streams.read_to < 0:
            return
        for identity, what in self.pending:
            assert identity not in self.heard, "said twice"
            self.heard[identity] = what
        self.pending = []
        # One that has not been read again yet doesn't know what is sent of it.
        sent, unfinished = self.restarted[1], streams.unfinished.items()
        owed = {at: max(each.sent, sent.get(at, 0)) for at, each in unfinished if self.owes(at)}
        self.committed = streams.read_to, owed
        if save:
            first = next(iter(streams.unfinished), streams.read_to)
            self.saved.append(self.engine.table.snapshot(self.partition, first))

    def restart(self, engine: FeedbackEngine, saved: int) -> None:
        """It resumes there from an earlier snapshot; what was not committed is lost."""
        self.engine.table.drop(self.partition)
        self.engine, self.backlog, self.pending, self.restarted = engine, [], [], self.committed
        state = self.saved[saved % len(self.saved)]
        self.position = 0 if state is None else state.next_offset
        if state is not None:
            assert all(isinstance(each, Unfinished) and each.sent == 0 for each in state.unfinished)
        engine.table.open(self.partition, state)


def turn(engine: FeedbackEngine, owners: list[Owner], counts: list[int], most: int) -> None:
    """One engine reads and works."""
    mine = [(owner, count) for owner, count in zip(owners, counts, strict=True) if owner.engine is engine]
    full = engine.full()
    batches = [each for owner, count in mine for each in owner.take(0 if owner.partition in full else count)]
    reading, of = engine.read(batches), {owner.partition: owner for owner, _ in mine}
    for accepted, texts in zip(reading.accepted, reading.answers, strict=True):
        assert not len(texts.events)
        of[accepted.batch.partition].hear(accepted, texts)
    for rest in reading.left_over:
        of[rest.batch.partition].backlog.append(rest)
    found = engine.work(most)
    assert sum(len(texts.events) for _, texts in found) <= most
    for answered, texts in found:
        of[answered.batch.partition].pending += said(answered, texts)


def reference(setup: Setup, owner: Owner) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Record by record, each complete before the next is read."""
    engine = setup.engine()
    alone = Owner(owner.partition, owner.rows, engine)
    engine.table.open(owner.partition)
    for _ in owner.rows:
        turn(engine, [alone], [1], 1000)
        while engine.busy:
            turn(engine, [alone], [0], 1000)
        assert not alone.backlog
        alone.commit(save=False)
    return alone.heard, whole(engine.table.snapshot(owner.partition, len(owner.rows)))


def says_why_at_zero(rows: list[Row | None], heard: dict[Any, Any]) -> bool:
    """Whether each output of a stream that was at zero before it names a reason; a state that was set has none."""
    given = {row.stream for row in rows if row is not None and row.kind == Kind.SET_STATE}
    for (offset, item), what in heard.items():
        row = rows[offset]
        if not isinstance(item, int) or row is None or row.prompt is None or row.stream in given:
            continue
        tokens, finish, seen, reset = what[:4]
        own = len(row.prompt.items) + (len(tokens) + (finish is Finish.STOP) if item < 0 else item + 1)
        if seen == own and not reset:
            return False
    return True


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs, setups, sizes, st.integers(0, 1 << 30))
def test_no_cut_and_no_crash_shows(log: Any, setup: Setup, sizes: dict[str, int], seed: int) -> None:
    draw, engines = random.Random(seed), [setup.engine(), setup.engine()]
    owners = [Owner(place, timed(part), engines[0]) for place, part in zip(PARTITIONS, log, strict=True)]
    wanted = [reference(setup, owner) for owner in owners]
    if setup.task == "generate" and setup.mode != "sequence_end":
        assert all(says_why_at_zero(owner.rows, heard) for owner, (heard, _) in zip(owners, wanted, strict=True))
    for owner in owners:
        owner.engine.table.open(owner.partition)
    with pytest.MonkeyPatch.context() as patch:
        for name, size in sizes.items():
            patch.setattr(f"worker.engine.{name}", size)
        patch.setattr("worker.streams.silence.LISTED_STREAMS", 1)
        calls = 0
        while any(owner.heard != heard for owner, (heard, _) in zip(owners, wanted, strict=True)) or calls < 20:
            calls += 1
            assert calls < 3000, "it never ends"
            for engine in engines:
                wild = calls < 60
                counts = [draw.choice((0, 1, 2, 5, 30)) if wild else 30 for _ in owners]
                turn(engine, owners, counts, draw.choice((1, 2, 5, 1000)) if wild else 1000)
            for owner in owners:
                chance = draw.random()
                if chance < 0.4 or calls >= 60:
                    owner.commit(save=chance < 0.2)
                elif chance < 0.5:
                    owner.restart(draw.choice(engines), draw.randrange(100))
    for owner, (_, state) in zip(owners, wanted, strict=True):
        while owner.engine.busy or owner.backlog or owner.position < len(owner.rows):
            turn(owner.engine, owners, [30, 30], 1000)
        streams = owner.engine.table.partitions[owner.partition]
        assert not streams.unfinished
        assert whole(owner.engine.table.snapshot(owner.partition, len(owner.rows))) == state
