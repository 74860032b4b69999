"""A trace goes through the worker: outputs and dead letters carry the trace headers of the records they are about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.one_member import COMMIT_S, DEAD, OUT, Cluster, Member, Row
from tests.sums import sums_pipeline
from tests.toy_texts_pipeline import SPECS, ask, texts_pipeline
from worker.codecs.copying import Copier, Repeated
from worker.records.carried_headers import CarriedHeaders
from worker.records.record_batch import Headers
from worker.records.trace_headers import TRACE_BYTES_LIMIT, trace_headers

EITHER = pytest.mark.parametrize("exactly_once", [False, True], ids=["at_least_once", "exactly_once"])
OTHER = ("other", b"1")


def trace(number: int) -> list[tuple[str, bytes | None]]:
    return [("traceparent", b"00-%032x-%016x-01" % (number, number)), ("tracestate", b"vendor=%d" % number)]


def traces(cluster: Cluster) -> set[tuple[int, Headers]]:
    """(offset, trace headers) of everything written, without repeats."""
    outputs = [
        (json.loads(record.value or b"")["source"]["offset"], tuple(record.headers or ()))
        for record in cluster.broker.records(OUT)
    ]
    letters = [
        (int(dict(record.headers or ())["rnnw.offset"] or b""), trace_headers(record.headers))
        for record in cluster.broker.records(DEAD)
    ]
    return {*outputs, *letters}


def rows(*values: Any) -> list[Row]:
    """Every third one has no trace; all have a header of their own."""
    return [(0, b"a", value, 0, [OTHER, *(trace(offset) if offset % 3 else ())]) for offset, value in enumerate(values)]


def wanted(offsets: range) -> set[tuple[int, Headers]]:
    return {(offset, tuple(trace(offset)) if offset % 3 else ()) for offset in offsets}


@EITHER
def test_outputs_and_dead_letters_carry_the_trace_of_their_record(tmp_path: Path, exactly_once: bool) -> None:
    cluster = Cluster(tmp_path, rows(1, 2, b"{", 4, b'{"x": 666}', 6, b"{"))
    member = Member(cluster, exactly_once=exactly_once)
    member.drain()
    assert traces(cluster) == wanted(range(7))
    member.close()


def test_a_chunk_carries_its_trace_to_the_output_of_each_vector(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, rows(b'{"x": [1]}', b'{"x": [[1], [2], [3]]}'))
    member = Member(cluster, sums_pipeline(features="x"))
    member.drain()
    assert [len(record.headers or ()) for record in cluster.broker.records(OUT)] == [0, 2, 2, 2]
    assert traces(cluster) == wanted(range(2))
    member.close()


@EITHER
@pytest.mark.parametrize("mode", ["every_event", "every_item"])
def test_texts_that_take_many_turns_and_a_restart_carry_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, exactly_once: bool
) -> None:
    monkeypatch.setattr("worker.engine.feedback.STEPS_AT_ONCE", 8)
    values = ask(20), ask(30), b"{", ask(10), ask(40)
    cluster = Cluster(tmp_path, rows(*values))
    first = Member(cluster, texts_pipeline(mode), specs=SPECS, exactly_once=exactly_once)
    for _ in range(3):
        first.turn(after_s=COMMIT_S)
    first.crash()
    member = Member(cluster, texts_pipeline(mode), specs=SPECS, exactly_once=exactly_once)
    member.drain()
    assert traces(cluster) == wanted(range(5))
    member.close()


@pytest.mark.parametrize("mode", ["every_event", "every_item"])
def test_what_texts_repeat_outlasts_a_restart_in_their_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr("worker.engine.feedback.STEPS_AT_ONCE", 8)
    repeated = Repeated(Copier(["id"], "json", "json"), CarriedHeaders(frozenset(["other"])))
    rows: list[Row] = [(0, b"ab"[at % 2 :][:1], ask(20 + at, id=at), 0, [("other", b"%d" % at)]) for at in range(5)]
    cluster = Cluster(tmp_path, rows)
    first = Member(cluster, texts_pipeline(mode, repeated=repeated), specs=SPECS, exactly_once=True)
    for _ in range(3):
        first.turn(after_s=COMMIT_S)
    first.crash()
    member = Member(cluster, texts_pipeline(mode, repeated=repeated), specs=SPECS, exactly_once=True)
    member.drain()
    outputs = [(json.loads(record.value or b""), record.headers) for record in cluster.broker.records(OUT)]
    assert len(outputs) == (5 if mode == "every_event" else sum(20 + at for at in range(5)))
    for value, headers in outputs:
        at = value["source"]["offset"]
        assert (value["fields"], [*(headers or ())]) == ({"id": at}, [("other", b"%d" % at)])
    member.close()


def test_records_with_other_headers_have_outputs_without_any(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, [(0, b"a", 1, 0, [OTHER]), (0, b"a", 1, 0, [("traceparent", b"")])])
    member = Member(cluster)
    member.drain()
    assert [not record.headers for record in cluster.broker.records(OUT)] == [True, True]
    member.close()


@EITHER
def test_an_output_that_is_too_large_with_its_trace_is_a_dead_letter(tmp_path: Path, exactly_once: bool) -> None:
    """The state has seen its record; the next record's output fits."""
    long = [("tracestate", b"s" * TRACE_BYTES_LIMIT)]
    cluster = Cluster(tmp_path, [(0, b"a", 1), (0, b"a", 2, 0, long), (0, b"a", 4)])
    member = Member(cluster, exactly_once=exactly_once)
    member.worker.pipeline.output_bytes = TRACE_BYTES_LIMIT
    member.drain()
    assert [row[1:4] for row in cluster.sums()] == [(0, 1, 1.0), (2, 3, 7.0)]
    assert cluster.dead() == [("output_too_large", 0, 1)]
    member.close()
