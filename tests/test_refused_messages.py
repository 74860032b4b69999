"""Messages that the cluster, or its client, takes from nobody: a dead letter in their place, never the worker's end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.member import COMMIT_S, DEAD, OUT, Cluster, Member
from tests.sums import batch, sums_pipeline
from worker.errors import DeliveryFailedError, WorkerError
from worker.fitting import Unwritable
from worker.records import Partition

LONG = b"L" * 500
EITHER = pytest.mark.parametrize("exactly_once", [False, True])


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def first_seen(cluster: Cluster) -> list[tuple[str, int, float]]:
    """(stream, offset, sum) of each output, without repeats, in the order of their first appearance."""
    seen = {(o["stream"], o["source"]["offset"], o["probabilities"][0]): None for o in cluster.outputs()}
    return list(seen)


def told(cluster: Cluster) -> list[tuple[str, str, str]]:
    """(error, reason, items) of each dead letter."""
    found = [dict(record.headers or ()) for record in cluster.broker.records(DEAD)]
    return [
        tuple(str(headers.get(f"rnnw.{name}") or b"", "utf-8") for name in ("error", "reason", "items"))  # type: ignore[misc]
        for headers in found
    ]


@EITHER
@pytest.mark.parametrize("at", [0, 7, 19])
def test_an_output_that_its_topic_does_not_take_is_a_dead_letter(cluster: Cluster, exactly_once: bool, at: int) -> None:
    cluster.broker.largest_bytes[OUT] = 400
    cluster.write([(0, LONG if offset == at else b"a", 1) for offset in range(20)])
    member = Member(cluster, exactly_once=exactly_once)
    member.drain()
    others = [offset for offset in range(20) if offset != at]
    assert first_seen(cluster) == [("a", offset, float(number)) for number, offset in enumerate(others, 1)]
    assert len(cluster.outputs()) == 19 or not exactly_once
    assert set(told(cluster)) == {
        ("output_too_large", "its outputs can't be written: a message for 'out' is larger than 400 bytes", "")
    }
    assert len(told(cluster)) == 1 or not exactly_once
    assert member.value("records_refused_total", error="output_too_large") >= 1
    assert cluster.committed() == 20
    member.close()


@EITHER
def test_a_dead_letter_that_its_topic_does_not_take_is_counted_and_left_out(
    cluster: Cluster, exactly_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It would have been met again by every restart."""
    cluster.broker.compacted.add(DEAD)
    cluster.write([(0, b"a", 1), (0, b"a", 2), (0, None, 1), (0, b"a", 4)])
    member = Member(cluster, exactly_once=exactly_once)
    member.drain()
    assert [row[2] for row in first_seen(cluster)] == [1.0, 3.0, 7.0]
    assert (told(cluster), cluster.committed()) == ([], 4)
    assert member.value("records_refused_total", error="no_key") >= 1
    assert "in/0 offset 2" in caplog.text
    cluster.write([(0, b"a", b"{"), (0, b"a", 8)])
    member.drain()
    assert [error for error, *_ in told(cluster)] == ["not_json"]
    assert first_seen(cluster)[-1] == ("a", 5, 15.0)


@EITHER
def test_many_of_them_in_a_row(cluster: Cluster, exactly_once: bool) -> None:
    cluster.broker.largest_bytes[OUT] = 400
    cluster.write([(0, LONG, 1)] * 3 + [(0, b"a", 1)] * 3 + [(0, LONG, 1), (0, b"a", 1)])
    member = Member(cluster, exactly_once=exactly_once)
    member.drain()
    assert [row[1:] for row in first_seen(cluster)] == [(3, 1.0), (4, 2.0), (5, 3.0), (7, 4.0)]
    assert {error for error, *_ in told(cluster)} == {"output_too_large"}
    assert cluster.committed() == 8


def test_without_transactions_it_is_found_also_when_the_commit_comes_turns_later(cluster: Cluster) -> None:
    cluster.broker.largest_bytes[OUT] = 400
    cluster.write([(0, LONG if offset == 2 else b"a", 1) for offset in range(12)])
    member = Member(cluster)
    for _ in range(5):
        member.turn(records=2)
    member.drain()
    assert [row[1] for row in first_seen(cluster)] == [0, 1, *range(3, 12)]
    member.turn(after_s=COMMIT_S)
    assert member.status.missing() == ["model: not loaded"]


def test_after_it_commits_are_no_longer_made_for_every_turn(cluster: Cluster) -> None:
    cluster.broker.largest_bytes[OUT] = 400
    cluster.write([(0, LONG if offset == 2 else b"a", 1) for offset in range(12)])
    member = Member(cluster, turn_events=8)
    member.drain()
    cluster.write([(0, b"a", 1)] * 60)
    for _ in range(10):
        member.turn(records=4)
    before = len(member.source.commits)
    for _ in range(3):
        member.turn(records=4)
    assert len(member.source.commits) == before


@EITHER
def test_what_is_no_single_messages_fault_ends_the_worker_as_before(cluster: Cluster, exactly_once: bool) -> None:
    cluster.write([(0, b"a", 1)])
    cluster.broker.fail("commit_transaction" if exactly_once else "flush", DeliveryFailedError("the topic is gone"), 99)
    member = Member(cluster, exactly_once=exactly_once)
    with pytest.raises(WorkerError, match="the topic is gone"):
        member.drain()
    assert told(cluster) == []


P = Partition("in", 0)


def outcome(limit_bytes: int, *rows: Any, unwritable: dict[tuple[Partition, int], Unwritable] | None = None) -> Any:
    pipeline = sums_pipeline(features="x")
    pipeline.output_bytes = limit_bytes
    pipeline.open(P)
    (found,) = pipeline.answer(pipeline.decode([(batch(P, list(rows)), False)]), unwritable or {})
    return found


def chunk(*numbers: float) -> bytes:
    return json.dumps({"x": [[number] for number in numbers]}).encode()


def test_items_of_a_chunk_whose_outputs_are_too_large_are_named_in_one_dead_letter() -> None:
    """The first says "new" and has one letter less than null; item numbers and steps get longer from ten on."""
    rows = [(b"a", chunk(*[0] * 12)), (b"b", chunk(0))]
    sizes = [len(value or b"") + 1 for value in outcome(10**6, *rows).outputs.values]
    assert sizes[0] > sizes[1] == sizes[8] < sizes[9] < sizes[10] == sizes[11]
    found = outcome(sizes[8], *rows)
    values = [json.loads(value or b"") for value in found.outputs.values]
    assert [(value["stream"], value["step"]) for value in values] == [("a", step) for step in range(2, 10)]
    reason = f"an output of {max(sizes)} bytes can't be written: the producer, or its topic, takes {sizes[8]}"
    assert found.refusals == [
        (0, "output_too_large", reason, "0,9-11"),
        (1, "output_too_large", reason, "0"),
    ]
    assert len(found.dead) == 2


def test_the_largest_that_fits_is_written() -> None:
    rows = [(b"a", chunk(1))]
    size = outcome(10**6, *rows).outputs.bytes_of(0)
    assert len(outcome(size, *rows).outputs) == 1
    assert len(outcome(size - 1, *rows).outputs) == 0


def test_a_record_with_other_items_refused_has_one_dead_letter_that_tells_both() -> None:
    found = outcome(10, (b"a", chunk(1, 666, 1)))
    ((record, error, reason, items),) = found.refusals
    assert (record, error, items) == (0, "invalid_state", "1")
    assert "; and output_too_large: an output of" in reason
    assert (len(found.outputs), len(found.dead)) == (0, 1)


def test_records_that_were_refused_by_the_cluster_have_no_output_but_a_dead_letter() -> None:
    rows = [(b"a", chunk(1)), (b"a", chunk(1, 1)), (None, chunk(1)), (b"a", chunk(1))]
    marks = {
        (P, 1): Unwritable("against a rule", too_large=False, silent=False),
        (P, 2): Unwritable("no key", too_large=False, silent=True),
        (Partition("in", 9), 0): Unwritable("elsewhere", too_large=False, silent=False),
    }
    found = outcome(10**6, *rows, unwritable=marks)
    assert [json.loads(value or b"")["probabilities"][0] for value in found.outputs.values] == [1.0, 4.0]
    assert [(refusal.record, refusal.error) for refusal in found.refusals] == [(1, "output_refused"), (2, "no_key")]
    assert found.dead.records.tolist() == [1]
