"""A scan over time makes no difference but in speed: the same log by waves alone leaves the same of everything."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.depth import examples
from tests.models import sequential
from tests.sums import Sums, batch, sums_pipeline
from worker import StreamingModel
from worker.engine.boundaries import BoundaryRules
from worker.engine.emission import EmitRule
from worker.engine.engine import Engine
from worker.engine.scans import SCAN_ROWS, SCAN_STEPS_LIMIT, stretches
from worker.engine.turns import numbered
from worker.model.backend import keras
from worker.pipeline.pipeline import Pipeline
from worker.records.events import Events, Kind, Predictions, Reset
from worker.records.ownership import Partition
from worker.records.record_batch import RecordBatch
from worker.records.states import StateLayout
from worker.streams.table import StreamTable

P0, P1 = Partition("readings", 0), Partition("readings", 1)
FIELDS: dict[str, Any] = {"features": "x", "id": "s", "start": "first", "end": "last"}
L = keras.layers

rules = st.builds(
    BoundaryRules,
    length=st.sampled_from([None, None, 1, 2, 3, 7]),
    gap_ms=st.sampled_from([None, 30]),
    idle_ms=st.sampled_from([None, 60]),
    late=st.sampled_from(["accept", "accept", "drop", "dead_letter"]),
)
steps = st.fixed_dictionaries(
    {"x": st.sampled_from([0.5, 1, 2, -1]), "s": st.sampled_from(["A", "A", "A", "A", 1, True])},
    optional={"first": st.sampled_from([False, False, True]), "last": st.sampled_from([False, False, True])},
).map(lambda value: (json.dumps(value).encode(), None))
OTHERS: list[Any] = [
    (b'{"x": 666, "s": "A"}', None),
    (b'{"x": [[1], [2], [3], [4], [5], [6]], "s": "A"}', None),
    (None, None),
    (b"{", None),
    (b"", [("worker-command", b"reset")]),
    (b'{"states": {"sum": {"h": [100]}}}', [("worker-command", b"set-state")]),
    (b'{"states": {"window": {"inputs": [[7], [8], [9]], "events": [3]}}}', [("worker-command", b"set-state")]),
]
LATER_MS = [0, 1, 1, 1, 40, 90, -10]
events = st.tuples(
    st.sampled_from([b"a", b"a", b"a", b"b", b"c"]),
    st.one_of(*[steps] * 9, st.sampled_from(OTHERS)),
    st.sampled_from(LATER_MS),
)
turns = st.lists(st.tuples(st.lists(events, max_size=40), st.booleans()), max_size=4)


def long_turns(seed: int) -> list[Any]:
    """Hypothesis alone keeps to short logs, in which streams have no past."""
    rng = np.random.default_rng(seed)
    often, streams = rng.choice([0, 0.02, 0.1], 5), rng.integers(1, 4)
    script = []
    for turn in range(4):
        log: list[Any] = []
        for _ in range(rng.integers(10, 60)):
            first, last, other, later, switch = (rng.random(5) < often).tolist()
            value = {"x": rng.choice([0.5, 1, 2, -1]), "s": "AB"[switch], "first": first, "last": last}
            message = OTHERS[rng.integers(len(OTHERS))] if other else (json.dumps(value).encode(), None)
            log.append((b"%d" % rng.integers(streams), message, LATER_MS[rng.integers(7)] if later else 1))
        script.append((log, turn == 0 and bool(rng.integers(2))))
    return script


emissions = st.sampled_from([EmitRule(), EmitRule("sequence_end"), EmitRule("change", delta=1.0)])


def seen(predictions: Predictions) -> dict[str, str]:
    # As text: NaN is not equal to itself.
    return {name: repr(np.asarray(getattr(predictions, name)).tolist()) for name in Predictions.__slots__}


def left(engine: Engine) -> dict[str, Any]:
    """All that an engine remembers."""
    table, columns = engine.table, ("states", "steps", "times", "clocks", "touched", "pending", "origins", "sequences")
    return {
        **{name: repr(getattr(table, name).tolist()) for name in columns},
        "emitted": None if table.emitted is None else repr(table.emitted.tolist()),
        "partitions": repr(table.partitions),
        "forgotten": (table.evicted, table.idle),
        "waves": engine.waves,
        "resets": engine.resets.tolist(),
        "late": engine.late,
        "unanswered": engine.unanswered,
    }


def go(pipeline: Pipeline, script: list[Any], second: int | None) -> list[Any]:
    """What comes out of each turn of (events, replay), and what is left in the end; ``second``: the length later on."""
    engine, answers, offset, time_ms = pipeline.engine, [], 0, 0
    engine.table.initial = np.full_like(engine.table.initial, 16)
    pipeline.engine.table.open(P0)
    pipeline.engine.table.open(P1)
    for number, (log, replay) in enumerate(script):
        rows = []
        for key, (value, headers), later_ms in log:
            time_ms += later_ms
            rows.append((key, value, time_ms, headers))
        if number == 2:
            engine.rules = replace(engine.rules, length=second)
        decoded = [
            pipeline.decoder.decode(batch(place, part, offset, replay)) for place, part in ((P0, rows), (P1, rows[::3]))
        ]
        answers.append([seen(predictions) for predictions in engine.process(decoded)])
        offset += len(log)
    return [answers, left(engine)]


@settings(max_examples=examples(400), deadline=None)
@given(
    st.one_of(turns, st.integers(0, 1 << 30).map(long_turns)),
    rules,
    emissions,
    st.sampled_from([SCAN_ROWS, (2,), (3, 1)]),
    st.sampled_from([1, 3, 1000]),
    st.sampled_from([None, 2, 4]),
    st.booleans(),
)
def test_by_waves_or_by_scans(
    script: list[Any],
    rules: BoundaryRules,
    emit: EmitRule,
    scan_rows: Any,
    max_streams: int,
    second: int | None,
    waits: bool,
) -> None:
    by_waves, by_scans = (sums_pipeline(rules, emit, max_streams, waits=waits, **FIELDS) for _ in range(2))
    by_waves.engine.scan_rows, by_scans.engine.scan_rows = (), scan_rows
    assert go(by_scans, script, second) == go(by_waves, script, second)


@pytest.fixture(scope="module")
def windows() -> list[StreamingModel]:
    """Of one feature, like Sums; two outputs."""
    trained = keras.Sequential([keras.Input((3, 1)), L.Flatten(), L.Dense(2)])
    return [
        StreamingModel(trained, window=3, every=2),
        StreamingModel(trained, window=3),
        StreamingModel(trained, window=3, window_fill="zeros"),
    ]


@settings(max_examples=examples(100), deadline=None)
@given(
    st.one_of(turns, st.integers(0, 1 << 30).map(long_turns)),
    rules,
    emissions,
    st.sampled_from([SCAN_ROWS, (2,)]),
    st.sampled_from([1, 1000]),
    st.integers(0, 2),
)
def test_windows_by_waves_or_by_scans(
    windows: list[StreamingModel],
    script: list[Any],
    rules: BoundaryRules,
    emit: EmitRule,
    scan_rows: Any,
    max_streams: int,
    which: int,
) -> None:
    of = {"model": windows[which], **FIELDS}
    by_waves, by_scans = (sums_pipeline(rules, emit, max_streams, **of) for _ in range(2))
    by_waves.engine.scan_rows, by_scans.engine.scan_rows = (), scan_rows
    assert go(by_scans, script, 4) == go(by_waves, script, 4)


class Counted(Sums):
    """Says how it was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, ...]] = []

    def step_packed(self, x: Any, packed: Any) -> tuple[Any, Any]:
        self.calls.append(x.shape)
        return super().step_packed(x, packed)

    def scan_packed(self, xs: Any, packed: Any, resets: Any, active: Any, initial: Any) -> tuple[Any, Any]:
        self.calls.append(xs.shape)
        calls, self.calls = self.calls, []
        answer = super().scan_packed(xs, packed, resets, active, initial)
        self.calls = calls
        return answer


def hot(count: int, ends: Any = None, streams: list[str] | None = None, width: int = 1, start: int = 0) -> Events:
    rng = np.random.default_rng(count)
    times = np.arange(start, start + count)
    names = streams or ["a"] * count
    return Events(
        RecordBatch(P0, start + count, times.tolist()),
        np.arange(count),
        np.full(count, -1),
        np.zeros(count, np.uint8),
        names,
        rng.normal(size=(count, width)).astype(np.float32),
        times,
        ends=ends,
    )


def engine(model: Any, initial: Any, rules: BoundaryRules, scan_rows: Any = SCAN_ROWS) -> Engine:
    table = StreamTable(StateLayout({}, initial), 100)
    table.open(P0)
    return Engine(model, table, rules, EmitRule(), scan_rows)


@pytest.mark.parametrize("length", [None, 7])
def test_a_hot_stream_is_one_call_whatever_its_boundaries(length: int | None) -> None:
    model = Counted()
    ends = np.arange(3000) % 11 == 5
    worker = engine(model, np.zeros(1, np.float32), BoundaryRules(length=length))
    (predictions,) = worker.process([hot(3000, ends)])
    assert model.calls == [(3000, 1, 1)]
    assert worker.waves == 3000
    assert predictions.finals.sum() >= 273
    assert worker.resets[Reset.END] == 273


def test_a_scan_is_bounded() -> None:
    model = Counted()
    worker = engine(model, np.zeros(1, np.float32), BoundaryRules())
    (predictions,) = worker.process([hot(SCAN_STEPS_LIMIT + 10)])
    assert model.calls == [(SCAN_STEPS_LIMIT, 1, 1), (1, 1), (9, 1, 1)]
    assert predictions.steps.tolist() == list(range(1, SCAN_STEPS_LIMIT + 11))


def test_commands_come_between_scans() -> None:
    model = Counted()
    worker = engine(model, np.zeros(1, np.float32), BoundaryRules())
    given = hot(1000)
    given.kinds[[0, 100, 101, 600, 999]] = Kind.RESET
    (predictions,) = worker.process([given])
    assert model.calls == [(99, 1, 1), (498, 1, 1), (398, 1, 1)]
    assert np.arange(1000)[predictions.events][predictions.resets != Reset.NONE].tolist() == [1, 102, 601]
    assert worker.waves == 995


def test_streams_that_run_out_of_events_are_not_carried_along() -> None:
    model = Counted()
    names = [f"s{number}" for number in range(90) for _ in range(6)] + ["s0"] * 500 + ["s1"] * 5
    engine(model, np.zeros(1, np.float32), BoundaryRules()).process([hot(len(names), streams=names)])
    assert model.calls == [(6, 90, 1), (500, 2, 1)]


@pytest.mark.parametrize("window", [None, 4])
def test_a_real_model_gives_the_same_bits_by_waves_and_by_scans(window: int | None) -> None:
    trained = sequential(L.LSTM(8, return_sequences=True), L.GRU(5), L.Dense(2, activation="softmax"))
    model = StreamingModel(trained, window=window)
    rng = np.random.default_rng(4)
    names = [f"s{number}" for number in rng.choice(40, 600, p=np.arange(40) ** 2 / np.sum(np.arange(40) ** 2)).tolist()]
    initial = rng.normal(size=model.state_width).astype(model.dtype)
    answers = []
    for scan_rows in ((), SCAN_ROWS, (16,)):
        worker = engine(model, initial, BoundaryRules(length=7), scan_rows)
        both = [worker.process([hot(600, rng_ends(600), names, model.features, start)])[0] for start in (0, 600)]
        answers.append(([seen(predictions) for predictions in both], left(worker), worker.table.states.tobytes()))
    assert answers[0] == answers[1] == answers[2]


def rng_ends(count: int) -> Any:
    return np.random.default_rng(count).random(count) < 0.1


@given(st.lists(st.integers(-1, 6), max_size=80), st.sampled_from([(), (16,), (4, 2), (2,)]))
def test_stretches_hold_every_event_once_and_in_order(rows: list[int], scan_rows: tuple[int, ...]) -> None:
    order, nth = numbered(np.array(rows, np.int64))
    seen: dict[int, list[int]] = {}
    for inside, numbers, many in stretches(order, nth, scan_rows):
        assert not many or max(np.bincount(numbers)) <= scan_rows[0]
        for index in inside.tolist():
            seen.setdefault(rows[index], []).append(index)
    assert seen == {row: [index for index, other in enumerate(rows) if other == row] for row in set(rows) if row >= 0}
