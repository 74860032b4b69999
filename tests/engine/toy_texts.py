"""Models of tasks that generate whose states anyone can compute: a rolling hash, and probabilities made from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from worker.engine.boundaries import BoundaryRules
from worker.engine.emission import EmitRule
from worker.engine.feedback import FeedbackEngine
from worker.engine.generation import Generation
from worker.engine.translation import Translation
from worker.records.arrays import NO_ITEM
from worker.records.events import Events, Kind
from worker.records.ownership import Partition
from worker.records.prompts import Finish, Prompt
from worker.records.record_batch import RecordBatch
from worker.records.states import StateLayout, StateSpec
from worker.records.texts import NO_STOP, NO_TOKEN
from worker.records.writing import Writing, Written
from worker.streams.table import StreamTable

UNITS = 7
LAYOUT = StateLayout.of([StateSpec("hash", "h", (1,), "float64")], np.zeros(1))
MODULUS = 65_537.0
PARTITION = Partition("in", 0)


@dataclass
class ToyDecoder:
    """``h`` after an item: 31 h + item + 1. Item ``poison`` makes it not a number."""

    stop: int = NO_STOP
    poison: int = NO_STOP
    units: int = UNITS
    state_width: int = 1
    dtype: type[np.floating[Any]] = np.float64
    layout: StateLayout = field(default_factory=lambda: LAYOUT)
    calls: int = 0
    rows: list[int] = field(default_factory=list)  # of each call
    steps: list[int] = field(default_factory=list)  # of each call

    def probabilities(self, packed: Any) -> Any:
        """Of the next item, (n, units), from states (n, 1)."""
        weights = 1 + (packed * (np.arange(self.units) + 3)) % 11
        return weights / weights.sum(axis=1, keepdims=True)

    def step(self, tokens: Any, packed: Any) -> tuple[Any, Any]:
        after = (31 * packed + tokens[:, np.newaxis] + 1) % MODULUS
        after[tokens == self.poison] = np.nan
        return self.probabilities(after), after

    def write(self, writing: Writing) -> Written:
        self.calls += 1
        steps, n = writing.feed.shape
        self.rows.append(n)
        self.steps.append(steps)
        packed, outputs = writing.packed.copy(), writing.outputs.astype(np.float64)
        tokens, left = np.full((steps, n), NO_TOKEN), writing.draws.copy()
        assert (writing.feeds + writing.draws <= steps).all()
        finite = np.ones(n, np.bool_)
        for k in range(steps):
            feeding = k < writing.feeds
            drawing = ~feeding & (left > 0)
            drawn = np.where(writing.temperatures > 0, self.draw(outputs, writing.uniforms[k]), outputs.argmax(axis=1))
            tokens[k, drawing] = drawn[drawing]
            left = np.where(drawing, np.where(drawn == self.stop, 0, left - 1), left)
            stepped = feeding | drawing
            some, after = self.step(np.where(feeding, writing.feed[k], drawn), packed)
            packed, outputs = np.where(stepped[:, None], after, packed), np.where(stepped[:, None], some, outputs)
            finite &= ~stepped | np.isfinite(packed).all(axis=1)
        return Written(tokens, packed, outputs, finite)

    def draw(self, probabilities: Any, u: Any) -> Any:
        return np.minimum((probabilities.cumsum(axis=1) <= u[:, None]).sum(axis=1), self.units - 1)


@dataclass
class ToyEncoder:
    """``h`` after an item: 17 h + the item's numbers; its answer is h + 1."""

    reads_whole: bool = False
    poison: float = -1.0
    features: int = 1
    units: int = 1
    calls: int = 0
    layout: StateLayout = field(init=False)

    def __post_init__(self) -> None:
        self.layout = StateLayout({}, np.zeros(0)) if self.reads_whole else LAYOUT

    def feed(self, items: Any, active: Any, packed: Any) -> tuple[Any, Any, Any]:
        self.calls += 1
        assert active[0].all()
        finite = np.ones(len(packed), np.bool_)
        for item, steps in zip(items, active, strict=True):
            after = (17 * packed + item.sum(axis=1, keepdims=True)) % MODULUS
            after[item[:, 0] == self.poison] = np.nan
            packed = np.where(steps[:, np.newaxis], after, packed)
            finite &= ~steps | np.isfinite(packed[:, 0])
        return packed + 1, packed, finite

    def whole(self, items: Any) -> Any:
        assert len(items)
        answer, _, _ = self.feed(items[:, np.newaxis], np.ones((len(items), 1), np.bool_), np.zeros((1, 1)))
        return answer[0]


@dataclass
class ToyTranslator:
    """Both together."""

    encoder: ToyEncoder = field(default_factory=ToyEncoder)
    decoder: ToyDecoder = field(default_factory=ToyDecoder)
    start: int = 0


def prompt(items: Any = (), length: int = 3, temperature: float = 0.0, finish: Finish = Finish.LENGTH) -> Prompt:
    """One record's request; ``items`` are ids."""
    return Prompt(np.array(items, np.int64), length, finish, temperature)


@dataclass
class Row:
    """A record as these tests write it."""

    stream: str
    prompt: Prompt | None = None  # None: a command
    time: int = 1000
    kind: Kind = Kind.STEP
    id: Any = None
    start: bool = False
    end: bool = False
    state: float = 0.0  # of a set-state


def events(
    rows: list[Row | None], first: int = 0, partition: Partition = PARTITION, flags: bool = True, **more: Any
) -> Events:
    """Decoded records from offset ``first``; None is a record that the decoder has refused."""
    count = len(rows)
    batch = RecordBatch(
        partition,
        first + count,
        list(range(first, first + count)),
        [1000] * count,
        [(row.stream if row else "?").encode() for row in rows],
        [b"v"] * count,
        [None] * count,
        **more,
    )
    kept = [(number, row) for number, row in enumerate(rows) if row is not None]
    found = [row for _, row in kept]
    return Events(
        batch,
        np.array([number for number, _ in kept], np.int64),
        np.full(len(kept), NO_ITEM),
        np.array([row.kind for row in found], np.uint8),
        [row.stream for row in found],
        np.zeros((len(kept), 0)),
        np.array([row.time for row in found], np.int64),
        ids=[row.id for row in found] if flags else None,
        starts=np.array([row.start for row in found], np.bool_) if flags else None,
        ends=np.array([row.end for row in found], np.bool_) if flags else None,
        payloads={at: np.array([row.state]) for at, row in enumerate(found) if row.kind == Kind.SET_STATE},
        prompts=[row.prompt for row in found],
    )


def generation(
    model: ToyDecoder | None = None,
    rules: BoundaryRules = BoundaryRules(),  # noqa: B008
    mode: Any = "every_event",
    max_streams: int = 100,
    partitions: tuple[Partition, ...] = (PARTITION,),
    item_bytes: int = 16,
) -> FeedbackEngine:
    """An engine of task generate with open partitions."""
    model = model or ToyDecoder()
    table = StreamTable(LAYOUT, max_streams, model.units, rules.idle_ms, generates=True)
    for partition in partitions:
        table.open(partition)
    return FeedbackEngine(Generation(model, table, EmitRule(mode), 7), rules, item_bytes)


def translation(
    model: ToyTranslator | None = None,
    rules: BoundaryRules = BoundaryRules(),  # noqa: B008
    mode: Any = "every_event",
    max_streams: int = 100,
    partitions: tuple[Partition, ...] = (PARTITION,),
    beams: int = 1,
) -> FeedbackEngine:
    """An engine of task seq2seq with open partitions."""
    model = model or ToyTranslator()
    units = 0 if model.encoder.reads_whole else model.decoder.state_width
    table = StreamTable(model.encoder.layout, max_streams, units, rules.idle_ms, generates=True)
    for partition in partitions:
        table.open(partition)
    return FeedbackEngine(Translation(model, table, EmitRule(mode), 7, beams), rules)
