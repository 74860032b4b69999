"""A model that raises an error at the numbers of one row: its record is a dead letter, the others are answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.depth import examples
from tests.engine.test_feedback import told
from tests.engine.test_scans import FIELDS, P0, P1, emissions, go, hot, rules, turns
from tests.engine.toy_texts import (
    PARTITION,
    Row,
    ToyDecoder,
    ToyEncoder,
    ToyTranslator,
    events,
    generation,
    prompt,
    translation,
)
from tests.sums import Sums, batch, sums_pipeline
from worker.engine.boundaries import BoundaryRules
from worker.engine.emission import EmitRule
from worker.engine.scans import SCAN_ROWS
from worker.records.failing_rows import FailingRowsError
from worker.records.refusals import in_ranges

REASON = "indices[0,0] = 666 is not in [0, 4)"
TOLD = f"the model can't compute its answer: {REASON}; the stream's state returns to zero"


def failing(rows: Any) -> None:
    """``rows`` (n,) whether each of them fails."""
    if rows.any():
        raise FailingRowsError(dict.fromkeys(np.flatnonzero(rows).tolist(), REASON))


class Raising(Sums):
    """Raises an error where Sums is not finite."""

    def step_packed(self, x: Any, packed: Any) -> tuple[Any, Any]:
        failing(x[:, 0] == 666)
        return super().step_packed(x, packed)

    def scan_packed(self, xs: Any, packed: Any, resets: Any, active: Any, initial: Any) -> tuple[Any, Any]:
        failing(((xs[..., 0] == 666) & active).any(axis=0))
        return super().scan_packed(xs, packed, resets, active, initial)


def with_reasons(seen: list[Any]) -> list[Any]:
    """What a model that is not finite leads to, as the one that raises an error must tell it."""
    answers, left = seen
    for turn in answers:
        for one in turn:
            one["refusals"] = (
                one["refusals"]
                .replace("invalid_state", "model_error")
                .replace("the model's result is not finite; the stream's state returns to zero", TOLD)
            )
    if left["emitted"] is not None:  # numbers of an answer that is not finite: none of them counts
        left["emitted"] = left["emitted"].replace("666.0", "nan")
    return [answers, left]


@settings(max_examples=examples(100), deadline=None)
@given(turns, rules, emissions, st.sampled_from([SCAN_ROWS, (2,), ()]), st.sampled_from([1, 1000]))
def test_an_error_is_to_all_other_events_what_a_result_that_is_not_finite_is(
    script: list[Any], rules: BoundaryRules, emit: EmitRule, scan_rows: Any, max_streams: int
) -> None:
    finite, raising = (sums_pipeline(rules, emit, max_streams, **FIELDS) for _ in range(2))
    raising.engine.model = Raising()
    finite.engine.scan_rows = raising.engine.scan_rows = scan_rows
    assert go(raising, script, None) == with_reasons(go(finite, script, None))


def test_one_record_in_a_scan_of_two_streams() -> None:
    pipeline = sums_pipeline()
    pipeline.engine.model = Raising()
    pipeline.engine.table.open(P0)
    log = hot(40, streams=["a", "b"] * 20)
    log.vectors[:] = 1
    log.vectors[20] = 666
    (predictions,) = pipeline.engine.process([log])
    assert [(each.record, each.error, each.reason) for each in predictions.refusals] == [(20, "model_error", TOLD)]
    sums = {"a": [*range(1, 11), *range(1, 10)], "b": [*range(1, 21)]}
    found = predictions.outputs[:, 0]
    names = np.array(log.streams)[predictions.events]
    assert {name: found[names == name].tolist() for name in sums} == sums


def test_a_chunk_has_one_dead_letter_that_names_the_vectors() -> None:
    pipeline = sums_pipeline(features="x")
    pipeline.engine.model = Raising()
    for partition in (P0, P1):
        pipeline.engine.table.open(partition)
    chunk = b'{"x": [[1], [666], [666], [2], [666]]}'
    outcomes = pipeline.turn([batch(P0, [(b"a", b'{"x": [5]}'), (b"a", chunk)]), batch(P1, [(b"a", b'{"x": [3]}')])])
    assert [(each.record, each.error, each.items) for each in outcomes[0].refusals] == [
        (1, "model_error", in_ranges(np.array([1, 2, 4])))
    ]
    assert [len(each.outputs) for each in outcomes] == [3, 1]
    assert not outcomes[1].refusals


def test_a_replay_moves_the_states_as_the_first_time_and_says_nothing() -> None:
    rows = [(b"a", b'{"x": 1}'), (b"a", b'{"x": 666}'), (b"a", b'{"x": 2}'), (b"b", b'{"x": 4}')]
    left = []
    for replay in (False, True):
        pipeline = sums_pipeline()
        pipeline.engine.model = Raising()
        pipeline.engine.table.open(P0)
        (outcome,) = pipeline.turn([batch(P0, rows, replay=replay)])
        assert len(outcome.dead) == (not replay)
        table = pipeline.engine.table
        left.append([table.states[table.partitions[P0].rows[name]].tolist() for name in "ab"])
    assert left == [[[2.0], [4.0]]] * 2


@dataclass
class RaisingDecoder(ToyDecoder):
    """Raises an error at the item 3 in place of being fed it."""

    def step(self, tokens: Any, packed: Any) -> tuple[Any, Any]:
        failing(tokens == 3)
        return super().step(tokens, packed)

    def write(self, writing: Any) -> Any:
        plain = ToyDecoder(self.stop, poison=3)
        failing(~plain.write(writing).finite)
        return ToyDecoder(self.stop).write(writing)


@dataclass
class RaisingEncoder(ToyEncoder):
    """Raises an error at the item 6."""

    def feed(self, items: Any, active: Any, packed: Any) -> tuple[Any, Any, Any]:
        failing(((items[..., 0] == 6) & active).any(axis=0))
        return super().feed(items, active, packed)


def source(stream: str, *items: int, end: bool = True) -> Row:
    return Row(stream, prompt(items, 4), end=end)


def of(engine: Any) -> tuple[list[Any], list[Any]]:
    """Texts, and dead letters, by stream."""
    texts: list[Any] = []
    letters: list[Any] = []
    while engine.busy:
        for records, answer in engine.work(100):
            names = [records.streams[event] for event in answer.events.tolist()]
            texts += zip(names, answer.tokens, answer.resets.tolist(), strict=True)
            letters += [(records.streams[each.record], each.error, each.reason) for each in answer.refusals]
    assert not engine.table.partitions[PARTITION].unfinished
    return sorted(texts), sorted(letters)


# A text that is searched for has no items before its end.
@pytest.mark.parametrize(("mode", "beams"), [("every_event", 1), ("every_event", 3), ("every_item", 1)])
@pytest.mark.parametrize("whole", [False, True])
def test_sources_and_texts(whole: bool, mode: str, beams: int) -> None:
    log: list[Row | None] = [
        *(source("a", 1), source("b", 2, 6, 1), source("c", 6), source("b", 5), source("d", 2, end=False)),
        *(source("d", 6, end=False), source("d", 2), source("e", 1, 2), source("f", 4), source("g", 2, 2)),
    ]
    raising, finite = (
        translation(ToyTranslator(encoder, decoder), mode=mode, beams=beams)
        for encoder, decoder in (
            (RaisingEncoder(whole), RaisingDecoder()),
            (ToyEncoder(whole, poison=6.0), ToyDecoder(poison=3)),
        )
    )
    found = []
    for engine in (raising, finite):
        engine.read([events(log)])
        found.append(of(engine))
    (texts, letters), (wanted, invalid) = found
    assert texts == wanted
    assert letters == [(stream, "model_error", TOLD) for stream, _, _ in invalid]
    assert {"b", "c", "d"} <= {stream for stream, _, _ in letters}


def test_texts_of_task_generate() -> None:
    log: list[Row | None] = [
        Row(name, prompt(items, 3)) for name, items in (("a", [1]), ("b", [2, 3]), ("c", [5]), ("b", [1]))
    ]
    engine = generation(RaisingDecoder())
    engine.read([events(log)])
    texts, letters = of(engine)
    plain = generation(ToyDecoder(poison=3))
    plain.read([events(log)])
    wanted, invalid = of(plain)
    assert (texts, [stream for stream, _, _ in letters]) == (wanted, [stream for stream, _, _ in invalid])
    assert ("b", "model_error", TOLD) in letters
    assert told(engine) == []
