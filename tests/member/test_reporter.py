"""What the loop tells the outside: after a scripted run every number is the script's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.one_member import AWAY, CHECKPOINT_S, COMMIT_S, GROUP, P0, P1, WALL_S, Cluster, Member, command
from tests.sums import sums_pipeline
from worker.engine.boundaries import BoundaryRules
from worker.errors import KafkaRefusedError, KafkaUnavailableError, MessageRefusedError
from worker.kafka.memory.broker import StoredRecord
from worker.member.lines import REPEAT_INTERVAL_S
from worker.member.reporter import GAUGES_INTERVAL_S, REFUSAL_SHOWN_S

NO_MODEL = "model: not loaded"  # a member of a test has none to load


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def values(member: Member, name: str, label: str, *of: str) -> list[float | None]:
    return [member.value(name, **{label: each}) for each in of]


def gauges(member: Member, partition: Any) -> set[str]:
    """The metrics that tell of this partition."""
    return {
        sample.name
        for metric in member.metrics.registry.collect()
        for sample in metric.samples
        if sample.labels.get("partition") == str(partition.number)
    }


def test_numbers_of_a_run(cluster: Cluster) -> None:
    rules = BoundaryRules(gap_ms=100)
    member = Member(cluster, sums_pipeline(rules, end="last"))
    cluster.write([(0, b"a", 1), (0, b"a", b"{"), (0, b"a", b"["), (0, None, 1), (0, b"a", 666), (0, b"a", 1)])
    assert member.turn() == 6
    cluster.write([(1, b"b", b'{"x": 1, "last": true}'), (1, b"b", 1, 50), (1, b"b", 1, 500)])
    cluster.write([(1, b"b", b"", 500, command(b"reset")), (1, b"b", 1, 500), (1, b"b", None, 500)])
    assert member.turn(records=4) == 4
    assert member.turn(after_s=CHECKPOINT_S) == 2
    assert values(member, "records_consumed_total", "topic", "in") == [12]
    assert member.value("events_processed_total") == 9  # without the three that are no event
    refused = values(member, "records_refused_total", "error", "not_json", "no_key", "invalid_state", "not_finite")
    assert refused == [2, 1, 1, 0]
    reasons = ("new", "invalid_state", "end", "gap", "command", "tombstone")
    assert values(member, "sequences_started_total", "reason", *reasons) == [2, 1, 1, 1, 1, 0]
    ended = ("end", "gap", "command", "invalid_state", "tombstone")
    assert values(member, "sequences_ended_total", "reason", *ended) == [1, 1, 1, 1, 1]
    assert values(member, "outputs_produced_total", "topic", "out", "dead") == [6, 4]
    assert (len(cluster.outputs()), len(cluster.dead())) == (6, 4)
    for topic, name in (("in", "consumed"), ("out", "produced"), ("dead", "produced")):
        records = cluster.broker.records(topic)
        assert values(member, f"{name}_bytes_total", "topic", topic) == [sum(map(record_bytes, records))]
    assert values(member, "step_rows_total", "kind", "event", "padding") == [
        7,
        3,
    ]  # a scan of three met 666: for nothing
    assert values(member, "commits_total", "result", "ok", "failed") == [1, 0]
    assert values(member, "checkpoint_total", "result", "ok", "failed") == [2, 0]
    assert member.value("batch_events_sum") == 9
    assert member.value("batch_events_count") == 3
    for number, position in ((0, 6), (1, 6)):
        place = {"topic": "in", "partition": number}
        names = ("partition_position_offset", "partition_committed_offset", "checkpoint_offset")
        assert [member.value(name, **place) for name in names] == [position] * 3
        assert member.value("checkpoint_last_success_timestamp_seconds", **place) == WALL_S
    assert [member.value("streams_active", topic="in", partition=number) for number in (0, 1)] == [1, 0]
    assert member.value("replayed_records_total") == 0


def record_bytes(record: StoredRecord) -> int:
    headers = sum(len(name) + len(text or b"") for name, text in record.headers or ())
    return len(record.key or b"") + len(record.value or b"") + headers


def test_each_part_of_a_turn_is_timed_once(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    member = Member(cluster)
    pipeline, sink = member.worker.pipeline, member.sink

    def taking(owner: Any, name: str, seconds: float) -> None:
        called = getattr(owner, name)

        def slow(*given: Any) -> Any:
            cluster.now_s += seconds
            return called(*given)

        monkeypatch.setattr(owner, name, slow)

    taking(pipeline, "decode", 0.001)
    taking(pipeline.engine, "process", 0.01)
    taking(pipeline.encoder, "encode", 0.1)
    taking(sink, "flush", 1.0)
    cluster.write([(0, b"a", 1)])
    member.turn(after_s=COMMIT_S)
    member.turn()  # nothing to do
    for name, seconds in (("decode", 0.001), ("step", 0.01), ("encode", 0.1), ("turn", 0.111), ("commit", 1.0)):
        assert member.value(f"{name}_duration_seconds_count") == 1
        assert member.value(f"{name}_duration_seconds_sum") == pytest.approx(seconds)
    assert member.value("send_duration_seconds_count") == 1
    assert member.value("poll_duration_seconds_count") == 2


def test_a_sequence_ends_once_however_it_ends(cluster: Cluster) -> None:
    rules = BoundaryRules(idle_ms=1000, gap_ms=100, length=3)
    member = Member(cluster, sums_pipeline(rules, max_streams=3))
    cluster.write([(0, b"a", 1, 0), (0, b"a", 1, 10), (0, b"a", 1, 20)])  # a whole sequence
    cluster.write([(0, b"a", None, 20)])  # nothing is open
    cluster.write([(0, b"b", 1, 20), (0, b"b", 1, 200), (0, b"b", None, 200), (0, b"b", None, 200)])
    cluster.write([(0, b"c", 1, 200), (0, b"d", 1, 210), (0, b"e", 1, 220), (0, b"f", 1, 230)])  # too many
    cluster.write([(0, b"g", 1, 5000)])  # the others are idle
    member.drain()
    reasons = ("length", "gap", "tombstone", "evicted", "idle", "end", "command")
    assert values(member, "sequences_ended_total", "reason", *reasons) == [1, 1, 1, 1, 3, 0, 0]


def test_ended_sequences_are_counted_in_scans_as_in_waves(cluster: Cluster) -> None:
    rules, rows = (
        BoundaryRules(gap_ms=100, length=5),
        [(0, b"a", 1, 7 * number + number // 9 * 200) for number in range(300)],
    )
    cluster.write(rows)
    found = []
    for scanned in (True, False):
        pipeline = sums_pipeline(rules)
        if not scanned:
            pipeline.engine.scan_rows = ()
        member = Member(cluster, pipeline, folder=cluster.folder / str(scanned))
        cluster.broker.set_committed(GROUP, P0, 0)
        member.drain()
        member.crash()
        found.append(values(member, "sequences_ended_total", "reason", "gap", "length"))
    assert found[0] == found[1]
    assert 0 not in found[0]


def test_records_that_the_log_has_no_more_are_counted_once(cluster: Cluster) -> None:
    cluster.write([(0, b"a", 1)] * 5)
    first = Member(cluster)
    first.turn(records=2, after_s=COMMIT_S)
    first.crash()
    cluster.broker.truncate(P0, 4)
    member = Member(cluster, exactly_once=True)
    cluster.broker.fail("commit_transaction", AWAY, times=2)
    for _ in range(4):
        member.turn(after_s=COMMIT_S)
    assert member.value("rollbacks_total") == 2
    assert member.value("records_lost_total") == 2


def test_checkpoints_that_can_not_be_used_are_counted(cluster: Cluster) -> None:
    cluster.write([(0, b"a", 1)])
    first = Member(cluster)
    first.drain()
    first.checkpoint()
    first.crash()
    (file,) = (cluster.folder / GROUP / "in" / "0").glob("*.h5")
    file.write_bytes(file.read_bytes()[:-10])
    member = Member(cluster)
    member.drain()
    assert member.value("checkpoints_voided_total") == 1


def test_checkpoints_that_are_skipped_are_counted_by_reason(cluster: Cluster) -> None:
    cluster.write([(0, b"a", 1), (1, b"b", 1)])
    member = Member(cluster)
    cluster.broker.fail("commit", AWAY, times=100)
    for _ in range(3):
        member.turn(after_s=CHECKPOINT_S)
    assert values(member, "checkpoints_skipped_total", "reason", "uncommitted", "busy", "replaced") == [4, 0, 0]


@pytest.mark.parametrize("exactly_once", [False, True])
@pytest.mark.parametrize("how", ["tried again", "unanswered", "replayed", "given up"])
def test_a_record_is_counted_once_however_often_its_turn_is_tried_again(
    cluster: Cluster, exactly_once: bool, how: str
) -> None:
    cluster.write([(0, b"a", 1), (0, b"a", b"{"), (0, b"a", 1), (1, b"b", 1)])
    member = Member(cluster, exactly_once=exactly_once)
    if how == "tried again":
        commit = "commit_transaction" if exactly_once else "flush"
        cluster.broker.fail(commit, MessageRefusedError("no", too_large=True, topic="nowhere"), 2)
    elif how == "unanswered":
        member.source.unanswered = 2
    elif how == "given up":  # a rebalance takes what is answered and not committed to another member, and back
        cluster.broker.fail("commit_transaction" if exactly_once else "flush", AWAY, 1)
        member.turn(after_s=COMMIT_S)
        cluster.broker.rebalance(member.source, lost=[P0])
        cluster.broker.rebalance(member.source, assigned=[P0])
    member.drain()
    if how == "replayed":
        member.crash()
        cluster.write([(0, b"a", 1)])
        other = Member(cluster, exactly_once=exactly_once)
        other.drain()
        assert other.value("replayed_records_total") == 4
        assert values(other, "records_consumed_total", "topic", "in") == [1]
        assert values(other, "records_refused_total", "error", "not_json") == [0]
        assert values(other, "outputs_produced_total", "topic", "out", "dead") == [1, None]
    assert values(member, "records_consumed_total", "topic", "in") == [4]
    assert values(member, "records_refused_total", "error", "not_json") == [1]
    assert values(member, "outputs_produced_total", "topic", "out", "dead") == [3, 1]


def test_nothing_is_counted_before_it_is_committed(cluster: Cluster) -> None:
    cluster.write([(0, b"a", 1)] * 4)
    member = Member(cluster)
    member.turn()
    assert values(member, "records_consumed_total", "topic", "in") == [None]
    member.turn(after_s=COMMIT_S)
    assert values(member, "records_consumed_total", "topic", "in") == [4]


def test_failed_commits_are_counted_and_said_once(cluster: Cluster, caplog: Any) -> None:
    member = Member(cluster)
    cluster.write([(0, b"a", 1)])
    member.turn()
    cluster.broker.fail("commit", AWAY, times=3)
    for _ in range(4):
        member.turn(after_s=COMMIT_S)
    assert values(member, "commits_total", "result", "ok", "failed") == [1, 3]
    assert caplog.text.count("offsets are not committed now: nobody answers") == 1


def test_another_reason_is_said_also_just_after_the_first(cluster: Cluster, caplog: Any) -> None:
    reporter = Member(cluster).worker.reporter
    for error in (
        KafkaUnavailableError("nobody answers"),
        MessageRefusedError("too large", True),
        KafkaUnavailableError("x"),
    ):
        reporter.commit_failed(1.0, error)
    said = [record.getMessage() for record in caplog.records if "not committed now" in record.getMessage()]
    assert [line.split(": ")[1] for line in said] == ["nobody answers", "too large"]


def test_lag(cluster: Cluster) -> None:
    cluster.write([(0, b"a", 1)] * 5)
    member = Member(cluster, lag_interval_s=10.0)
    member.turn(records=2)
    member.turn(records=1, after_s=10.0)
    assert member.value("partition_lag_records", topic="in", partition=0) == 2
    cluster.broker.fail("log_range", AWAY)
    member.turn(records=1, after_s=10.0)
    assert member.value("partition_lag_records", topic="in", partition=0) == 2  # as last known
    member.turn(records=1, after_s=10.0)
    assert member.value("partition_lag_records", topic="in", partition=0) == 0


def test_ready_lines_and_state_from_joining_to_the_end(cluster: Cluster) -> None:
    cluster.write([(0, b"a", 1)] * 4)
    first = Member(cluster)
    first.drain()
    first.crash()
    member = Member(cluster)
    assert member.status.missing() == ["kafka: not connected", NO_MODEL]
    cluster.broker.fail("committed", AWAY)
    member.turn()
    assert member.status.missing() == ["kafka: not connected", NO_MODEL]
    member.turn(records=1)
    assert member.status.missing() == [NO_MODEL, "states: replaying in/0"]
    assert values(member, "worker_state", "state", "restoring", "running") == [1, 0]
    assert member.value("replay_remaining_records", topic="in", partition=0) == 3
    member.turn(records=3, after_s=2.0)
    assert member.status.missing() == [NO_MODEL]
    assert values(member, "worker_state", "state", "restoring", "running") == [0, 1]
    assert member.value("replay_remaining_records", topic="in", partition=0) == 0
    assert member.value("replayed_records_total") == 4
    assert (member.value("restore_duration_seconds_count"), member.value("restore_duration_seconds_sum")) == (1, 2.0)
    assert member.value("assigned_partitions") == 2
    member.worker.reporter.stopping()
    assert member.status.missing() == [NO_MODEL, "worker: stopping"]
    member.close()
    assert member.value("assigned_partitions") == 0


def test_a_login_that_is_refused_is_told_to_the_probe_for_a_while(cluster: Cluster) -> None:
    member = Member(cluster)
    member.turn()
    said = "kafka: broker:9092: the login is refused; check kafka.security.username"
    cluster.broker.fail("poll", KafkaRefusedError(said), times=1)
    member.turn()
    assert member.status.missing() == [f"connection: {said}", NO_MODEL]
    member.turn(after_s=REFUSAL_SHOWN_S / 2)
    assert member.status.missing() == [f"connection: {said}", NO_MODEL]
    member.turn(after_s=REFUSAL_SHOWN_S)
    assert member.status.missing() == [NO_MODEL]


def test_a_partition_that_goes_during_its_replay_keeps_nobody_waiting(cluster: Cluster) -> None:
    cluster.write([(0, b"a", 1)] * 4)
    first = Member(cluster)
    first.drain()
    first.crash()
    member = Member(cluster)
    member.turn(records=1)
    cluster.broker.rebalance(member.source, revoked=[P0])
    member.turn()
    assert member.status.missing() == [NO_MODEL]
    assert values(member, "worker_state", "state", "restoring", "running") == [0, 1]


@pytest.mark.parametrize("how", ["revoked", "lost"])
def test_gauges_go_with_their_partition(cluster: Cluster, how: str) -> None:
    cluster.write([(0, b"a", 1), (1, b"b", 1)])
    member = Member(cluster, lag_interval_s=COMMIT_S)
    member.turn(after_s=CHECKPOINT_S)
    cluster.write([(0, b"a", 1), (1, b"b", 1)])
    member.turn()
    assert gauges(member, P1) == gauges(member, P0) != set()
    kept = gauges(member, P0)
    cluster.broker.rebalance(member.source, revoked=[P1], lost=[P1] if how == "lost" else [])
    for _ in range(3):
        member.turn(after_s=CHECKPOINT_S)
    assert (gauges(member, P0), gauges(member, P1)) == (kept, set())
    assert member.value("rebalances_total", type=how) == 1
    assert member.value("assigned_partitions") == 1


def test_a_refused_record_is_logged_once_per_kind_and_interval(cluster: Cluster, caplog: Any) -> None:
    cluster.write([(0, b"a", b"{"), (0, b"a", b"{"), (0, None, 1), (0, b"a", b"{")])
    member = Member(cluster)
    member.turn()
    cluster.write([(0, b"a", b"{")] * 2)
    member.turn(after_s=REPEAT_INTERVAL_S - 1)
    assert [record.getMessage().split(":")[0] for record in refusals(caplog)] == [
        "record refused, in/0 offset 0",
        "record refused, in/0 offset 2",
    ]
    cluster.write([(0, b"a", b"{")] * 2)
    member.turn(after_s=1)
    (last,) = refusals(caplog)[2:]
    assert last.getMessage().startswith("record refused, in/0 offset 6:")
    assert last.getMessage().endswith("(not_json) (and 4 more of this kind)")
    assert member.value("records_refused_total", error="not_json") == 7


def refusals(caplog: Any) -> list[Any]:
    return [record for record in caplog.records if record.msg.startswith("record refused")]


def test_a_checkpoint_that_fails_is_told_and_mended_by_the_next(cluster: Cluster, caplog: Any) -> None:
    cluster.write([(0, b"a", 1)])
    member = Member(cluster)
    member.turn()
    cluster.folder.joinpath(GROUP).write_text("in the way of the folder")
    member.turn(after_s=CHECKPOINT_S)
    assert values(member, "checkpoint_total", "result", "ok", "failed") == [0, 1]
    assert member.status.missing() == [NO_MODEL]  # an alert: "not ready" would block the rollout that mends it
    assert "checkpoint of in/0 at 1: " in caplog.text
    cluster.folder.joinpath(GROUP).unlink()
    cluster.write([(0, b"a", 1)])
    member.turn(after_s=CHECKPOINT_S)
    assert values(member, "checkpoint_total", "result", "ok", "failed") == [1, 1]
    assert member.status.missing() == [NO_MODEL]


def test_full_table_and_idle_streams_are_told(cluster: Cluster, caplog: Any) -> None:
    member = Member(cluster, sums_pipeline(BoundaryRules(idle_ms=100), max_streams=2))
    cluster.write([(0, b"a", 1), (0, b"b", 1), (0, b"c", 1), (0, b"d", 1, 1000)])
    for _ in range(4):
        member.turn(after_s=GAUGES_INTERVAL_S, records=1)
    assert values(member, "streams_evicted_total", "reason", "evicted", "idle") == [1, 2]
    assert caplog.text.count("state.max_streams 2 is reached in a partition") == 1
    assert member.value("streams_active", topic="in", partition=0) == 1
    assert member.value("state_bytes") == 4
    assert values(member, "worker_state", "state", "running") == [1]
    assert member.owned() == {P0, P1}


def test_gauges_follow_at_intervals_and_when_nothing_comes(cluster: Cluster) -> None:
    member = Member(cluster)
    cluster.write([(0, b"a", 1), (0, b"b", 1), (0, b"c", 1)])
    streams = []
    for after_s in (1, 0, GAUGES_INTERVAL_S):
        member.turn(after_s=after_s, records=1)
        streams.append(member.value("streams_active", topic="in", partition="0"))
    assert streams == [1, 1, 3]
    cluster.write([(0, b"d", 1)])
    member.turn(records=1)
    assert member.value("streams_active", topic="in", partition="0") == 3
    member.turn()
    assert member.value("streams_active", topic="in", partition="0") == 4
