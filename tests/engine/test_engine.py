"""How events are cut into turns, batches and waves makes no difference to what comes out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.depth import examples
from tests.sums import batch, sums_pipeline
from worker.engine.boundaries import BoundaryRules
from worker.engine.emission import EmitRule
from worker.engine.turns import numbered, waves
from worker.pipeline.pipeline import Pipeline
from worker.records.ownership import Partition

PARTITIONS = (Partition("readings", 0), Partition("readings", 1))
RULES = BoundaryRules(length=4, gap_ms=30, idle_ms=60)
FIELDS: dict[str, Any] = {"id": "s", "start": "first", "end": "last"}

values = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {"x": st.sampled_from([1, 2, 666]), "s": st.sampled_from(["A", "B"])},
        optional={"first": st.booleans(), "last": st.booleans()},
    ).map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b"{", b'{"x": 1}', b'{"x": 1, "s": "A", "last": 3}']),
)
events = st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), values, st.integers(0, 200))
logs = st.tuples(st.lists(events, max_size=40), st.lists(events, max_size=40))


def outputs(pipeline: Pipeline, logs: tuple[list[Any], list[Any]], cuts: list[int]) -> list[list[bytes]]:
    """Per partition, the outputs and refusals of its log, cut into turns of these sizes; some have two batches."""
    seen: list[list[bytes]] = [[], []]
    positions = [0, 0]
    for partition in PARTITIONS:
        pipeline.engine.table.open(partition)
    turn = 0
    while any(position < len(log) for position, log in zip(positions, logs, strict=True)):
        work = []
        for number, log in enumerate(logs):
            size = cuts[(turn + number) % len(cuts)]
            part = log[positions[number] : positions[number] + size]
            half = len(part) // 2 if turn % 2 == 0 else 0  # replay and live events of a partition may meet in a turn
            for piece in filter(None, (part[:half], part[half:])):
                work.append(batch(PARTITIONS[number], piece, positions[number]))
                positions[number] += len(piece)
        for outcome in pipeline.turn(work):
            for message in [*outcome.outputs.values, *(refusal.error.encode() for refusal in outcome.refusals)]:
                seen[outcome.batch.partition.number].append(message or b"")
        turn += 1
    return [sorted(messages) for messages in seen]


@settings(max_examples=examples(150), deadline=None)
@given(logs, st.lists(st.integers(1, 40), min_size=1, max_size=5), st.booleans())
def test_turns_make_no_difference(logs: tuple[list[Any], list[Any]], cuts: list[int], waits: bool) -> None:
    one_by_one = outputs(sums_pipeline(RULES, waits=waits, **FIELDS), logs, [1])
    assert outputs(sums_pipeline(RULES, waits=waits, **FIELDS), logs, cuts) == one_by_one


@settings(max_examples=examples(100), deadline=None)
@given(logs, st.lists(st.integers(1, 40), min_size=1, max_size=5), st.sampled_from(["every_event", "sequence_end"]))
def test_what_is_answered_is_what_a_model_that_never_waits_says(
    logs: tuple[list[Any], list[Any]], cuts: list[int], mode: Any
) -> None:
    waiting, prompt = (sums_pipeline(RULES, EmitRule(mode), waits=waits, **FIELDS) for waits in (True, False))
    said, heard = outputs(prompt, logs, cuts), outputs(waiting, logs, cuts)
    assert heard == [[each for each in some if each[:1] != b"{" or odd(json.loads(each))] for some in said]
    if mode == "every_event":
        assert waiting.engine.unanswered == sum(map(len, said)) - sum(map(len, heard))


def odd(output: dict[str, Any]) -> bool:
    return bool(output["probabilities"][0] // 1 % 2)


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(events, max_size=60), st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 4))
def test_turns_make_no_difference_when_the_table_is_full(log: list[Any], cuts: list[int], max_streams: int) -> None:
    one_by_one = outputs(sums_pipeline(RULES, max_streams=max_streams, **FIELDS), (log, []), [1])
    assert outputs(sums_pipeline(RULES, max_streams=max_streams, **FIELDS), (log, []), cuts) == one_by_one


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(events, max_size=60),
    st.integers(0, 60),
    st.booleans(),
    st.sampled_from([EmitRule(), EmitRule("change", delta=1.0)]),
)
def test_a_snapshot_goes_on_as_if_nothing_had_been(log: list[Any], at: int, waits: bool, emit: EmitRule) -> None:
    at = min(at, len(log))
    whole, first, second = (sums_pipeline(RULES, emit, waits=waits, **FIELDS) for _ in range(3))
    wanted = outputs(whole, (log, []), [7])[0]
    head = outputs(first, (log[:at], []), [5])[0]
    assert second.engine.table.open(PARTITIONS[0], first.engine.table.snapshot(PARTITIONS[0], at)) == 0
    tail = [
        message or b""
        for outcome in second.turn([batch(PARTITIONS[0], log[at:], at)])
        for message in [*outcome.outputs.values, *(refusal.error.encode() for refusal in outcome.refusals)]
    ]
    assert without_origin(head + tail) == without_origin(wanted)


def without_origin(messages: list[bytes]) -> list[bytes]:
    return sorted(message.replace(b'"origin":"restored"', b'"origin":"live"') for message in messages)


def test_the_longest_idle_stream_is_forgotten_and_its_next_event_says_so() -> None:
    pipeline = sums_pipeline(max_streams=2)
    pipeline.engine.table.open(PARTITIONS[0])
    rows = [(name, b'{"x": 1}') for name in (b"a", b"b", b"a", b"c", b"b", b"a", b"c")]
    (outcome,) = pipeline.turn([batch(PARTITIONS[0], rows)])
    seen = [json.loads(value or b"") for value in outcome.outputs.values]
    assert [(o["stream"], o["step"], o["reset"]) for o in seen] == [
        ("a", 1, "new"),
        ("b", 1, "new"),
        ("a", 2, None),
        ("c", 1, "new"),  # b goes
        ("b", 1, "evicted"),  # a goes
        ("a", 1, "evicted"),  # c goes
        ("c", 1, "evicted"),  # b goes
    ]
    assert pipeline.engine.table.evicted == 4
    assert len(pipeline.engine.table) == 2


def test_idle_streams_give_their_rows_back() -> None:
    pipeline = sums_pipeline(BoundaryRules(idle_ms=100), max_streams=10)
    pipeline.engine.table.open(PARTITIONS[0])
    rows = [(b"s%d" % number, b'{"x": 1}', number * 50) for number in range(1000)]
    (outcome,) = [pipeline.turn([batch(PARTITIONS[0], rows[at : at + 5], at)])[0] for at in range(0, 1000, 5)][-1:]
    assert pipeline.engine.table.evicted == 0
    assert len(pipeline.engine.table) <= 10
    assert len(outcome.outputs) == 5


MINUTE_MS = 60_000
NEAR_MIDNIGHT_MS = 1_793_491_200_000  # whole hours and days since the epoch: 1 November 2026, 00:00


@pytest.mark.parametrize("later_ms", [0, 10 * MINUTE_MS, 13 * MINUTE_MS, 29 * MINUTE_MS + 1])
@pytest.mark.parametrize("turn", [1, 10])
@pytest.mark.parametrize("kind", ["reset", "tombstone"])
def test_a_stream_is_forgotten_at_the_minute_whatever_the_hour(kind: str, turn: int, later_ms: int) -> None:
    pipeline = sums_pipeline(BoundaryRules(idle_ms=60 * MINUTE_MS, late="drop"), max_streams=2)
    pipeline.engine.table.open(PARTITIONS[0])
    change = (b"", [("worker-command", b"reset")]) if kind == "reset" else (None, None)
    log = [("a", 1), ("b", 60.5), ("a", 61), ("-a", 61), ("-a", 122), ("a", 121.5), ("c", 122), ("a", 122), ("b", 122)]
    rows = [
        (name[-1:].encode(), b'{"x": 1}', NEAR_MIDNIGHT_MS + later_ms + int(minute * MINUTE_MS), None)
        if name[0] != "-"
        else (name[1:].encode(), change[0], NEAR_MIDNIGHT_MS + later_ms + int(minute * MINUTE_MS), change[1])
        for name, minute in log
    ]
    seen = []
    for at in range(0, len(rows), turn):
        for outcome in pipeline.turn([batch(PARTITIONS[0], rows[at : at + turn], at)]):
            seen += [json.loads(value or b"") for value in outcome.outputs.values]
    again = "command" if kind == "reset" else "tombstone"
    assert [(o["stream"], o["step"], o["reset"]) for o in seen] == [
        ("a", 1, "new"), ("b", 1, "new"), ("a", 2, None), ("a", 1, again), ("c", 1, "new"), ("a", 2, None),
        ("b", 1, "idle"),
    ]  # fmt: skip
    assert pipeline.engine.without_stream == 1


def test_dropping_a_partition_frees_its_rows_and_leaves_the_other_alone() -> None:
    pipeline = sums_pipeline(max_streams=2)
    for partition in PARTITIONS:
        pipeline.engine.table.open(partition)
    rows = [(b"a", b'{"x": 1}')]
    pipeline.turn([batch(partition, rows) for partition in PARTITIONS])
    pipeline.engine.table.drop(PARTITIONS[0])
    pipeline.engine.table.open(PARTITIONS[0])
    answers = pipeline.turn([batch(partition, rows, 1) for partition in PARTITIONS])
    assert [json.loads(answer.outputs.values[0] or b"")["step"] for answer in answers] == [1, 2]


def test_a_replay_moves_states_and_says_nothing() -> None:
    pipeline = sums_pipeline()
    pipeline.engine.table.open(PARTITIONS[0])
    rows = [(b"a", b'{"x": 1}'), (b"a", b"{"), (b"a", b'{"x": 666}'), (b"a", b'{"x": 1}')]
    (replayed,) = pipeline.turn([batch(PARTITIONS[0], rows, replay=True)])
    assert (len(replayed.outputs), len(replayed.dead), len(replayed.refusals)) == (0, 0, 0)
    (live,) = pipeline.turn([batch(PARTITIONS[0], rows[:1], 4)])
    out = json.loads(live.outputs.values[0] or b"")
    assert (out["step"], out["origin"], out["reset"]) == (2, "rebuilt", None)


@pytest.mark.parametrize(
    ("mode", "wanted"), [("every_event", [1, 2, 3, 4, 5]), ("sequence_end", [3]), ("change", [1, 3, 4])]
)
def test_what_is_emitted(mode: Any, wanted: list[int]) -> None:
    pipeline = sums_pipeline(emit=EmitRule(mode, delta=1.0), end="last")
    pipeline.engine.table.open(PARTITIONS[0])
    rows = [
        (b"a", b'{"x": 0.5}'),  # first: a change
        (b"a", b'{"x": 0.25}'),  # moved by less than 1
        (b"a", b'{"x": 0.25, "last": true}'),  # the last of its sequence
        (b"a", b'{"x": 0.25}'),  # the first of the next
        (b"a", b'{"x": 0.25}'),
    ]
    (outcome,) = pipeline.turn([batch(PARTITIONS[0], rows)])
    assert [json.loads(value or b"")["source"]["offset"] + 1 for value in outcome.outputs.values] == wanted


@pytest.mark.parametrize(
    ("mode", "wanted"), [("every_event", [3, 4, 5, 8]), ("sequence_end", []), ("change", [3, 5, 8])]
)
def test_what_is_emitted_of_a_model_that_waits(mode: Any, wanted: list[int]) -> None:
    pipeline = sums_pipeline(emit=EmitRule(mode, delta=1.0), end="last", waits=True)
    pipeline.engine.table.open(PARTITIONS[0])
    steps: list[dict[str, Any]] = [
        {"x": 0.5}, {"x": 0.25}, {"x": 1}, {"x": 0.125}, {"x": 1.5}, {"x": 2.75, "last": True},
        {"x": 0.5}, {"x": 0.75},  # the first answer of the next sequence
    ]  # fmt: skip
    (outcome,) = pipeline.turn([batch(PARTITIONS[0], [(b"a", json.dumps(step).encode()) for step in steps])])
    seen = [json.loads(value or b"") for value in outcome.outputs.values]
    assert [output["source"]["offset"] + 1 for output in seen] == wanted
    assert [output["step"] for output in seen] == [offset if offset < 7 else offset - 6 for offset in wanted]
    assert pipeline.engine.unanswered == 4
    assert len(outcome.dead) == 0


@given(st.lists(st.integers(-1, 4), max_size=30))
def test_waves_hold_the_kth_event_of_each_stream_in_log_order(rows: list[int]) -> None:
    found = [wave.tolist() for wave in waves(*numbered(np.array(rows, np.int64)))]
    wanted: list[list[int]] = []
    seen: dict[int, int] = {}
    for index, row in enumerate(rows):
        if row < 0:
            continue
        nth = seen.get(row, 0)
        seen[row] = nth + 1
        wanted += [[]] * (nth == len(wanted))
        wanted[nth] = [*wanted[nth], index]
    assert found == wanted
