"""Messages that the cluster, or its client, takes from nobody: a dead letter in their place, never the worker's end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.one_member import COMMIT_S, DEAD, OUT, Cluster, Member
from tests.sums import batch, sums_pipeline
from worker.codecs.dead_letters import RefusedLetter
from worker.errors import DeliveryFailedError, MessageRefusedError, WorkerError
from worker.pipeline.fitting import Unwritable
from worker.records.ownership import Partition

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

    def text(headers: dict[str, bytes | None], name: str) -> str:
        return str(headers.get(f"rnnw.{name}") or b"", "utf-8")

    found = [dict(record.headers or ()) for record in cluster.broker.records(DEAD)]
    return [(text(each, "error"), text(each, "reason"), text(each, "items")) for each in found]


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
    assert (member.value("records_refused_total", error="output_too_large") or 0) >= 1
    assert cluster.committed() == 20
    member.close()


def letters(cluster: Cluster) -> list[tuple[bytes | None, bytes | None, dict[str, bytes | None]]]:
    """(key, value, headers) of each dead letter."""
    return [(record.key, record.value, dict(record.headers or ())) for record in cluster.broker.records(DEAD)]


@EITHER
@pytest.mark.parametrize(
    ("key", "value", "headers", "left"),
    [
        (b"bad", b"{" * 900, (), (b"bad", b"", False)),
        (b"bad", b"{" * 900, [("own", b"1")], (b"bad", b"", True)),
        (b"bad", b"{", [("own", b"1" * 900)], (b"bad", b"", False)),
        (b"b" * 900, b"{", [("own", b"1")], (None, b"", False)),
    ],
    ids=["value", "value alone", "header", "key"],
)
def test_a_dead_letter_that_is_refused_for_its_size_is_written_without_what_is_too_large(
    cluster: Cluster, exactly_once: bool, key: bytes, value: bytes, headers: Any, left: Any
) -> None:
    """With compression nobody knows it beforehand."""
    cluster.broker.largest_bytes[DEAD] = 600
    cluster.write([(0, b"a", 1), (0, key, value, 0, headers), (0, b"a", 2), (0, b"b", b"x"), (0, b"a", 4)])
    member = Member(cluster, exactly_once=exactly_once)
    member.drain()
    assert [row[1:] for row in first_seen(cluster)] == [(0, 1.0), (2, 3.0), (4, 7.0)]
    whole = [letter for letter in letters(cluster) if "rnnw.truncated" not in letter[2]]
    cut = [letter for letter in letters(cluster) if "rnnw.truncated" in letter[2]]
    assert {(found, text) for found, text, _ in whole} == {(b"b", b"x")}
    assert {(found, text, "own" in told) for found, text, told in cut} == {left}
    assert {(told["rnnw.error"], told["rnnw.offset"]) for _, _, told in cut} == {(b"not_json", b"1")}
    assert (len(cut), len(whole)) == (1, 1) or not exactly_once
    assert cluster.committed() == 5
    member.close()


@EITHER
def test_a_dead_letter_of_which_nothing_is_taken_ends_the_worker_with_the_cause_and_is_written_when_it_is_mended(
    cluster: Cluster, exactly_once: bool
) -> None:
    cluster.broker.largest_bytes[DEAD] = 100
    cluster.write([(0, b"a", 1), (0, b"a", 2), (0, b"a", b"{"), (0, b"a", 4)])
    member = Member(cluster, exactly_once=exactly_once)
    with pytest.raises(DeliveryFailedError) as failed:
        member.drain()
    said = str(failed.value)
    assert said.startswith("the dead letter of in/0 offset 2 (not_json) can't be written, not even without")
    for part in ("larger than 100 bytes", "dead_letters.on_failure: stop", "'dead'", "max.message.bytes", "null"):
        assert part in said
    assert "\n" not in said
    assert (letters(cluster), cluster.committed()) == ([], 2)
    member.crash()
    cluster.broker.largest_bytes[DEAD] = 1000
    member = Member(cluster, exactly_once=exactly_once)
    member.drain()
    assert [row[1:] for row in first_seen(cluster)] == [(0, 1.0), (1, 3.0), (3, 7.0)]
    assert [(key, value) for key, value, _ in letters(cluster)] == [(b"a", b"{")]
    assert cluster.committed() == 4


@EITHER
def test_a_dead_letter_without_a_key_that_is_refused_has_an_empty_one(cluster: Cluster, exactly_once: bool) -> None:
    """Of a compacted topic whose rules nobody was allowed to ask."""
    cluster.broker.compacted.add(DEAD)
    cluster.write([(0, b"a", 1), (0, b"a", 2), (0, None, 1), (0, b"a", 4)])
    member = Member(cluster, exactly_once=exactly_once)
    member.drain()
    assert [row[2] for row in first_seen(cluster)] == [1.0, 3.0, 7.0]
    assert {(key, value) for key, value, _ in letters(cluster)} == {(b"", b'{"x": 1}')}
    assert {error for error, *_ in told(cluster)} == {"no_key"}
    assert cluster.committed() == 4


@EITHER
def test_a_rule_against_a_dead_letter_ends_the_worker(cluster: Cluster, exactly_once: bool) -> None:
    cluster.write([(0, b"a", b"{")])
    cluster.broker.fail("commit_transaction" if exactly_once else "flush", MessageRefusedError("no", False, DEAD), 99)
    member = Member(cluster, exactly_once=exactly_once)
    with pytest.raises(
        DeliveryFailedError, match=r"in/0 offset 0 \(not_json\) can't be written.*: no; let topic 'dead'"
    ):
        member.drain()


@EITHER
@pytest.mark.parametrize("which", [OUT, DEAD])
def test_of_a_record_with_outputs_and_a_dead_letter_only_what_was_refused_changes(
    cluster: Cluster, exactly_once: bool, which: str
) -> None:
    cluster.broker.largest_bytes[which] = 250 if which == OUT else 600
    key = b"k" * 250 if which == OUT else b"a"
    cluster.write([(0, key, json.dumps({"x": [[1], [666], [2]], "note": "n" * 900}).encode())])
    member = Member(cluster, sums_pipeline(features="x"), exactly_once=exactly_once)
    member.drain()
    ((_, value, headers),) = {str(each): each for each in letters(cluster)}.values()
    if which == DEAD:
        assert {output["source"]["item"] for output in cluster.outputs()} == {0, 2}
        assert (value, headers["rnnw.error"], headers["rnnw.items"]) == (b"", b"invalid_state", b"1")
        assert b"outputs" not in (headers["rnnw.reason"] or b"outputs")
    else:
        assert cluster.outputs() == []
        assert "rnnw.truncated" not in headers
        assert b"; and output_too_large: its outputs can't be written" in (headers["rnnw.reason"] or b"")


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
    pipeline.engine.table.open(P)
    (found,) = pipeline.answer(pipeline.decode([batch(P, list(rows))]), unwritable or {}).outcomes
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
        (P, 1): Unwritable("against a rule"),
        (P, 2): Unwritable(letter=RefusedLetter(keyless=True)),
        (Partition("in", 9), 0): Unwritable("elsewhere"),
    }
    found = outcome(10**6, *rows, unwritable=marks)
    assert [json.loads(value or b"")["probabilities"][0] for value in found.outputs.values] == [1.0, 4.0]
    assert [(refusal.record, refusal.error) for refusal in found.refusals] == [(1, "output_refused"), (2, "no_key")]
    assert (found.dead.records.tolist(), found.dead.keys) == ([1, 2], [b"a", b""])
