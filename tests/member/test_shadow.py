"""A second model beside the first: its answers are those of the model alone, and the first never notices it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.one_member import CHECKPOINT_S, COMMIT_S, GROUP, P0, P1, Cluster, Member, PatientWriter, Row
from tests.sums import LAYOUT, SPECS, Sums, batch, sums_pipeline
from worker.checkpoints.folder import CheckpointStore
from worker.checkpoints.header import CheckpointIdentity
from worker.codecs.encoding import Encoder
from worker.engine.boundaries import BoundaryRules
from worker.engine.emission import EmitRule
from worker.engine.engine import Engine
from worker.errors import CommitRefusedError, DeliveryFailedError, KafkaUnavailableError
from worker.kafka.contracts import Sink
from worker.kafka.memory.sinks import MemorySink
from worker.member.shadow import Shadow
from worker.member.shadow_outbox import RETRY_S, UNACKNOWLEDGED_MESSAGES, ShadowOutbox
from worker.pipeline.pipeline import predictions_of
from worker.pipeline.shadow import ShadowPipeline
from worker.records.failing_rows import FailingRowsError
from worker.streams.table import StreamTable

TOPIC = "candidate"
ROWS: list[Row] = [(0, b"a", 1), (1, b"b", 2), (0, b"a", 3), (0, b"c", 4), (1, b"b", 5), (0, b"a", 6)]


class Doubled(Sums):
    """Adds up twice its input; breaks at 13, as no model may; can't compute 17, and 19 is too much for it."""

    rows_computed = 0

    def step_packed(self, x: Any, packed: Any) -> tuple[Any, Any]:
        if (x == 13).any():
            raise RuntimeError("out of luck")
        if (bad := np.flatnonzero(x[:, 0] == 17)).size:
            raise FailingRowsError({int(row): "17 is not in [0, 4)" for row in bad})
        outputs, after = super().step_packed(2 * x, packed)
        outputs = np.where(x == 19, np.nan, outputs)
        outputs[:, 1] = x[:, 0]
        return outputs, after


def shadow_of(cluster: Cluster, member: Member, open_sink: Callable[[], Sink] | None = None) -> Shadow:
    """What ``assembly.shadow`` builds, on sums and memory."""
    table = StreamTable(LAYOUT, 1000)
    pipeline = ShadowPipeline(
        Engine(Doubled(), table, BoundaryRules(), EmitRule()), Encoder("json", "ba9876543210", None, True)
    )
    store = CheckpointStore(cluster.folder, GROUP, shadow=True)
    identity = CheckpointIdentity("c" * 64, "", GROUP, "0")
    outbox = ShadowOutbox(TOPIC, open_sink or (lambda: MemorySink(cluster.broker)))
    return Shadow(pipeline, outbox, store, PatientWriter(store), identity, SPECS, member.metrics)


def shadowed(cluster: Cluster, open_sink: Callable[[], Sink] | None = None, **options: Any) -> Member:
    member = Member(cluster, sums_pipeline(), **options)
    member.worker.states.follower = shadow_of(cluster, member, open_sink)
    return member


def said(cluster: Cluster) -> list[tuple[int, int, int, float]]:
    """(partition, offset, step, sum) of each of its outputs."""
    outputs = [json.loads(record.value or b"") for record in cluster.broker.records(TOPIC)]
    return sorted((o["source"]["partition"], o["source"]["offset"], o["step"], o["probabilities"][0]) for o in outputs)


def alone(rows: list[Row]) -> list[tuple[int, int, int, float]]:
    """What the candidate says to these, worked out by hand."""
    sums: dict[Any, tuple[int, float]] = {}
    offsets = {0: 0, 1: 0}
    found = []
    for number, key, value, *_ in rows:
        step, total = sums.get(key, (0, 0.0))
        sums[key] = step + 1, total + 2 * value
        found.append((number, offsets[number], *sums[key]))
        offsets[number] += 1
    return sorted(found)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    made = Cluster(tmp_path, ROWS)
    made.broker.create_topic(TOPIC, 2)
    return made


def opened_before(member: Member, now: float = 0.0) -> None:
    follower = member.worker.states.follower
    assert isinstance(follower, Shadow)
    follower.connect(now, 60.0)


@pytest.mark.parametrize("exactly_once", [False, True])
@pytest.mark.parametrize("records", [1, 2, 100])
def test_it_says_what_the_candidate_alone_would_say(cluster: Cluster, records: int, exactly_once: bool) -> None:
    undisturbed = Cluster(cluster.folder / "undisturbed", ROWS)
    Member(undisturbed, sums_pipeline(), exactly_once=exactly_once).drain()
    member = shadowed(cluster, exactly_once=exactly_once)
    opened_before(member)
    while member.turn(records, COMMIT_S):
        pass
    assert said(cluster) == alone(ROWS)
    assert sorted(cluster.sums()) == sorted(undisturbed.sums())
    assert member.value("shadow_events_total") == member.value("shadow_compared_total") == 6
    # The sums are twice as large: the difference is the first model's sum, and the most likely unit is the same but
    # for the streams' first events, where sum and input are equal.
    assert member.value("shadow_difference_total") == sum(row[3] for row in undisturbed.sums())
    assert member.value("shadow_outputs_total") == 6
    assert member.value("shadow_active") == 1
    member.close()


def test_labels_that_differ_are_counted() -> None:
    from worker.pipeline.shadow import Compared

    compared = Compared()
    compared.add(np.array([[0.6, 0.4], [0.2, 0.8]]), np.array([[0.5, 0.5], [0.9, 0.1]]))
    assert (compared.events, compared.labels) == (2, 1)
    assert compared.difference == pytest.approx(0.1 + 0.7)
    compared.add(np.array([[0.49], [0.6]]), np.array([[0.5], [0.9]]))
    assert (compared.events, compared.labels) == (4, 2)


@pytest.mark.parametrize("crashes", [False, True])
def test_a_restart_goes_on_with_its_states(cluster: Cluster, crashes: bool) -> None:
    first = shadowed(cluster)
    opened_before(first)
    first.turn(after_s=COMMIT_S)
    first.turn(after_s=CHECKPOINT_S)
    more: list[Row] = [(0, b"a", 7), (1, b"b", 8)]
    cluster.write(more)
    first.turn(after_s=COMMIT_S)
    if crashes:  # after the checkpoint it has seen two events, which are replayed
        assert first.worker.states.follower._writer.wait(60.0)  # type: ignore[attr-defined]
        first.crash(10)
    else:
        first.close()
    last: list[Row] = [(0, b"a", 9), (0, b"c", 10), (1, b"b", 11)]
    cluster.write(last)
    second = shadowed(cluster)
    opened_before(second)
    second.drain()
    assert set(said(cluster)) == set(alone([*ROWS, *more, *last]))
    second.close()


def test_after_a_failed_transaction_it_goes_back_too(cluster: Cluster) -> None:
    member = shadowed(cluster, exactly_once=True)
    opened_before(member)
    cluster.broker.fail("commit_transaction", CommitRefusedError("the group has moved on"), times=2)
    for _ in range(8):
        member.turn(2, COMMIT_S)
    assert set(said(cluster)) == set(alone(ROWS))
    member.close()


def test_what_the_candidate_raises_ends_it_and_nothing_else(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    member = shadowed(cluster)
    opened_before(member)
    member.turn(after_s=COMMIT_S)
    cluster.write([(0, b"a", 13), (0, b"a", 1)])
    member.drain()
    member.turn(after_s=CHECKPOINT_S)
    assert [row[1:4] for row in cluster.sums() if row[0] == 0][-2:] == [(4, 4, 23.0), (5, 5, 24.0)]
    assert member.value("shadow_failures_total", kind="model") == 1
    assert member.value("shadow_active") == 0
    assert said(cluster) == alone(ROWS)
    assert "it has failed and is off until the worker is started again" in caplog.text
    member.close()
    again = shadowed(cluster)
    opened_before(again)
    cluster.write([(0, b"a", 2)])
    again.drain()
    assert set(said(cluster)) - set(alone(ROWS)) == {(0, 6, 1, 4.0)}  # nothing was saved: it begins at zero
    again.close()


def test_records_that_only_the_candidate_can_not_answer_are_counted_and_told_once_a_minute(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    member = shadowed(cluster)
    opened_before(member)
    member.drain()
    assert (member.value("shadow_refused_total"), member.value("shadow_failures_total", kind="records")) == (0, 0)
    for _ in range(3):
        cluster.write([(0, b"a", 17), (1, b"b", 1), (0, b"a", 19)])
        member.turn(after_s=COMMIT_S)
    cluster.write([(0, b"a", b"{"), (0, b"a", 1)])
    member.drain()
    assert member.value("shadow_refused_total") == 6
    assert member.value("shadow_failures_total", kind="records") == 3
    assert member.value("shadow_active") == 1
    assert len(cluster.outputs()) == 6 + 9 + 1
    assert said(cluster)[-1] == (1, 4, 5, 20.0)
    lines = [each.getMessage() for each in caplog.records if "can't answer" in each.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith("shadow: it can't answer 2 records so far, and has no output for them: the model can't")
    assert lines[0].endswith("… is not in […, …); the stream's state returns to zero (model_error)")
    member.close()


def test_records_that_neither_model_can_answer_are_no_matter_of_the_candidate() -> None:
    table = StreamTable(LAYOUT, 1000)
    candidate = ShadowPipeline(Engine(Doubled(), table, BoundaryRules(), EmitRule()), Encoder("json", "b", None, True))
    first, alone_ = (sums_pipeline() for _ in range(2))
    first.engine = Engine(Doubled(), first.engine.table, BoundaryRules(), EmitRule())
    for each in (first.engine.table, alone_.engine.table, table):
        each.open(P0)
    events = first.decode(
        [batch(P0, [(key, b'{"x": %d}' % x) for key, x in ((b"a", 1), (b"a", 17), (b"b", 19), (b"b", 2))])]
    )
    both = candidate.follow(events, predictions_of(first.answer(events).outcomes))
    assert (both.failed, both.first) == (0, None)
    alone = candidate.follow(events, predictions_of(alone_.answer(events).outcomes))
    assert alone.failed == 2
    assert alone.first is not None
    assert (alone.first.record, alone.first.error) == (1, "model_error")


@pytest.mark.parametrize("error", [DeliveryFailedError("not acknowledged"), KafkaUnavailableError("nobody answers")])
def test_outputs_that_can_not_be_written_are_dropped_and_counted(
    cluster: Cluster, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> Sink:
        raise error

    undisturbed = Cluster(cluster.folder / "undisturbed", ROWS)
    Member(undisturbed, sums_pipeline()).drain()
    member = shadowed(cluster, refuse)
    member.drain()
    assert sorted(cluster.sums()) == sorted(undisturbed.sums())
    assert member.value("shadow_outputs_lost_total") == 6
    assert member.value("shadow_outputs_total") == 0
    assert member.value("shadow_active") == 1  # its states go on
    assert "outputs are dropped" in caplog.text
    member.close()


def test_a_topic_that_comes_later_gets_the_outputs_from_then_on(cluster: Cluster) -> None:
    tries: list[int] = []

    def open_sink() -> Sink:
        tries.append(1)
        if len(tries) == 1:
            raise KafkaUnavailableError(f"topic '{TOPIC}' does not exist")
        return MemorySink(cluster.broker)

    member = shadowed(cluster, open_sink)
    opened_before(member)
    member.drain()
    assert (member.value("shadow_outputs_lost_total"), said(cluster)) == (6, [])
    cluster.now_s += RETRY_S
    opened_before(member, cluster.now_s)
    more: list[Row] = [(0, b"a", 7), (0, b"a", 8)]
    cluster.write(more)
    member.drain()
    assert said(cluster) == [row for row in alone([*ROWS, *more]) if row[0] == 0 and row[1] >= 4]
    member.close()


def test_unacknowledged_outputs_have_a_limit(cluster: Cluster) -> None:
    class Silent(MemorySink):
        def flush(self, timeout_s: float) -> None:
            raise KafkaUnavailableError("not acknowledged")

    member = shadowed(cluster, lambda: Silent(cluster.broker))
    opened_before(member)
    count = UNACKNOWLEDGED_MESSAGES + 500
    cluster.write([(0, b"a", 1)] * count)
    while member.turn(1000, COMMIT_S):
        pass
    written, lost = member.value("shadow_outputs_total"), member.value("shadow_outputs_lost_total")
    assert written is not None
    assert lost is not None
    assert written + lost == count + 6
    assert UNACKNOWLEDGED_MESSAGES <= written <= UNACKNOWLEDGED_MESSAGES + 1000
    assert len(cluster.outputs()) == count + 6
    member.close()


def test_partitions_that_move_take_its_states_along(cluster: Cluster) -> None:
    first = shadowed(cluster)
    opened_before(first)
    first.drain()
    second = shadowed(cluster)
    opened_before(second)
    for _ in range(4):
        first.turn(after_s=COMMIT_S)
        second.turn(after_s=COMMIT_S)
    assert (first.owned(), second.owned()) == ({P0}, {P1})
    more: list[Row] = [(0, b"a", 7), (1, b"b", 8)]
    cluster.write(more)
    for member in (first, second):
        member.turn(after_s=COMMIT_S)
    assert set(said(cluster)) == set(alone([*ROWS, *more]))
    first.close()
    second.close()
