"""What metrics tell of the model: of the last minute's sampled events, exactly; nothing where there are none."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.one_member import COMMIT_S, Cluster, Member
from tests.sums import sums_pipeline
from worker.engine.boundaries import BoundaryRules
from worker.engine.engine import Engine
from worker.engine.sampling import SAMPLED_EVENTS
from worker.member.last_minute import MINUTE_S
from worker.member.model_watch import LEARNED_EVENTS, SAMPLE_INTERVAL_S, ModelWatch, Watched
from worker.records.ranges import Ranges
from worker.web.families.predictions import OUTPUT_VALUES
from worker.web.metrics import Metrics

UNBOUNDED = np.tile([-np.inf, np.inf], (2, 1))
GAUGES = ("feature_mean", "feature_spread", "feature_outside_ratio", "state_norm", "output_saturated_ratio")
EXPECTED = Ranges(np.array([0.0]), np.array([10.0]))


def watched(member: Member, ends: Any = UNBOUNDED, expected: Ranges | None = EXPECTED) -> Member:
    """Of the model that adds up: outputs are the sum and the number itself."""
    engine = member.worker.pipeline.engine
    assert isinstance(engine, Engine)
    names = Watched(["x"], ["sum", "last"], {"sum": [slice(0, 1)]}, np.array(ends), expected)
    watch = ModelWatch(names, engine.sampler, member.cluster.clock)
    member.worker.reporter.watch = watch.look
    member.metrics.predictions.source = watch.figures
    return member


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def gauges(member: Member) -> list[float | None]:
    mean, spread, outside = (member.value(name, feature="x") for name in GAUGES[:3])
    return [mean, spread, outside, member.value("state_norm", layer="sum"), member.value("output_saturated_ratio")]


def seen(member: Member, unit: str) -> dict[float, int]:
    """End of a bucket → how many outputs are in it, but not in the one below; those with any."""
    ends = [*OUTPUT_VALUES, float("inf")]
    labels = ["+Inf" if end == float("inf") else repr(end) for end in ends]
    counts = [int(member.value("output_value_bucket", unit=unit, le=label) or 0) for label in labels]
    return {end: count for end, count in zip(ends, np.diff([0, *counts]).tolist(), strict=True) if count}


def test_each_number_is_that_of_the_events(cluster: Cluster) -> None:
    numbers = [1.0, 2.0, 4.0, 12.0]
    member = watched(Member(cluster))
    cluster.write([(0, key, value) for key, value in zip([b"a", b"b", b"a", b"c"], numbers, strict=True)])
    member.turn()
    mean, spread, outside, norm, saturated = gauges(member)
    assert (mean, outside, saturated) == (statistics.fmean(numbers), 1 / 4, None)
    assert spread == pytest.approx(statistics.pstdev(numbers))
    assert norm == pytest.approx(statistics.fmean([1 + 4, 2, 12]))  # of the streams a, b and c
    assert seen(member, "sum") == {1.0: 1, 10.0: 2, 100.0: 1}  # 1, then 5 and 2, then 12
    assert seen(member, "last") == {1.0: 1, 10.0: 2, 100.0: 1}


def test_what_is_older_than_a_minute_is_absent_not_stale(cluster: Cluster) -> None:
    member = watched(Member(cluster))
    cluster.write([(0, b"a", 3)])
    member.turn()
    cluster.write([(0, b"a", 5)])
    member.turn(after_s=MINUTE_S / 2)
    assert gauges(member)[0] == 4
    cluster.now_s += MINUTE_S / 2
    assert gauges(member)[:2] == [5, None]  # without any turn: it is asked for now; one event has no spread
    cluster.now_s += MINUTE_S
    assert gauges(member) == [None] * len(GAUGES)
    assert seen(member, "last") == {10.0: 2}  # a counter stays
    assert all(f"# TYPE rnnw_{name} gauge" in member.metrics.exposition("")[1].decode() for name in GAUGES)


def test_one_turn_in_each_interval_is_sampled(cluster: Cluster) -> None:
    member = watched(Member(cluster))
    for number in range(1, 10):
        cluster.write([(0, b"a", number)])
        member.turn(after_s=0.3 * SAMPLE_INTERVAL_S)
    assert gauges(member)[0] == statistics.fmean([1, 2, 6])  # taken over in turns 1, 5 and 9
    cluster.write([(0, b"a", 10)])
    member.turn()
    assert sum(seen(member, "last").values()) == 3
    member.turn(after_s=SAMPLE_INTERVAL_S)  # nothing is read: what was sampled in the last turn is taken over
    assert sum(seen(member, "last").values()) == 4


def test_replays_and_what_the_model_gave_nothing_for_are_left_out(cluster: Cluster) -> None:
    member = watched(Member(cluster))
    cluster.write([(0, b"a", 1), (0, b"a", 2)])
    member.turn()
    member.checkpoint()
    cluster.write([(0, b"a", 4)])
    member.turn(after_s=COMMIT_S)
    assert cluster.committed() == 3
    member.crash()
    cluster.write([(0, b"a", 666), (0, None, 7), (0, b"a", 8)])
    member = watched(Member(cluster))
    member.drain()
    assert member.value("replayed_records_total") == 1
    assert gauges(member)[0] == 8
    assert seen(member, "last") == {10.0: 1}


def test_commands_and_late_events_that_are_dropped_are_left_out(cluster: Cluster) -> None:
    member = watched(Member(cluster, sums_pipeline(BoundaryRules(late="drop"))))
    reset = [("worker-command", b"reset")]
    cluster.write([(0, b"a", 1, 1000), (0, b"a", b"", 1000, reset), (0, b"a", 5, 1000), (0, b"a", 9, 1)])
    member.turn()
    assert gauges(member)[0] == 3
    assert sum(seen(member, "sum").values()) == 2


def test_outputs_at_the_end_of_their_range_are_saturated(cluster: Cluster) -> None:
    ends = [[-np.inf, np.inf], [0.0, 1.0]]  # of the sum none, of the number itself a sigmoid's
    member = watched(Member(cluster), ends)
    cluster.write([(0, b"a", value) for value in (0.5, 1.0, 1e-9, 0.001, 0.999)])
    member.turn()
    assert gauges(member)[4] == 2 / 5


def test_without_a_file_the_first_events_say_what_is_expected(cluster: Cluster) -> None:
    member = watched(Member(cluster), expected=None)
    turns = LEARNED_EVENTS // SAMPLED_EVENTS + 1
    for _ in range(turns):
        cluster.write([(0, b"a", number % 2) for number in range(SAMPLED_EVENTS)])
        member.turn(after_s=1)
    assert gauges(member)[2] is None
    cluster.write([(0, b"a", 1), (0, b"a", 1.5), (0, b"a", -1), (0, b"a", 0)])
    member.turn(after_s=1)
    assert gauges(member)[2] == 2 / 4


def test_a_member_that_rolls_back_keeps_watching(cluster: Cluster) -> None:
    member = watched(Member(cluster, exactly_once=True))
    cluster.write([(0, b"a", 3)])
    member.source.unanswered = 1
    member.turn(after_s=COMMIT_S)
    member.drain()
    assert member.value("rollbacks_total") == 1
    assert gauges(member)[0] == 3


def test_nobody_watches_a_model_of_text() -> None:
    text = Metrics().exposition("")[1].decode()
    assert all(f"# TYPE rnnw_{name} gauge" in text and f"\nrnnw_{name}" not in text for name in GAUGES)
    assert "# TYPE rnnw_output_value histogram" in text


def test_a_scrape_in_openmetrics_is_valid(cluster: Cluster) -> None:
    member = watched(Member(cluster))
    cluster.write([(0, b"a", -3), (0, b"b", 1e9)])
    member.turn()
    body = member.metrics.exposition("application/openmetrics-text; version=1.0.0")[1].decode()
    families = {family.name: family for family in text_string_to_metric_families(body)}  # type: ignore[no-untyped-call]
    assert {sample.labels["unit"] for sample in families["rnnw_output_value"].samples} == {"sum", "last"}
