"""The catalogue is what dashboards rely on, what is scraped, and what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from worker.web.catalogue import CATALOGUE, PROCESS_METRICS
from worker.web.metric import PREFIX, Metric
from worker.web.metrics import Metrics
from worker.web.reference import page

ROOT = Path(__file__).parents[2]

# Dashboards and alerts, ours and those of others, rely on every line: to change one is a decision, and goes into the
# CHANGELOG.
RELIED_ON = """
histogram answer_duration_seconds
gauge assigned_partitions
histogram batch_events
info build_info version model group client keras tensorflow cpu
gauge checkpoint_delay_seconds
histogram checkpoint_duration_seconds
gauge checkpoint_last_success_timestamp_seconds topic partition
gauge checkpoint_offset topic partition
gauge checkpoint_size_bytes topic partition
counter checkpoint_total result
counter checkpoints_skipped_total reason
counter checkpoints_voided_total
gauge client_broker_latency_seconds broker
counter client_errors_total kind
gauge client_queue_bytes
gauge client_queue_messages
counter client_rebuilds_total
counter commands_without_stream_total
histogram commit_duration_seconds
counter commits_total result
counter consumed_bytes_total topic
histogram decode_duration_seconds
histogram encode_duration_seconds
counter events_duplicate_total
counter events_late_total
counter events_processed_total
counter events_unanswered_total
gauge feature_mean feature
gauge feature_outside_ratio feature
gauge feature_spread feature
counter items_drawn_total
counter items_fed_total
gauge last_turn_timestamp_seconds
info model_form_info form
gauge model_load_duration_seconds
gauge model_parity_error
gauge model_proof_duration_seconds
gauge output_saturated_ratio
histogram output_value unit
counter outputs_produced_total topic
gauge partition_committed_offset topic partition
gauge partition_delay_seconds topic partition
gauge partition_event_delay_seconds topic partition
gauge partition_lag_records topic partition
gauge partition_position_offset topic partition
gauge partition_uncommitted_records topic partition
histogram poll_duration_seconds
counter produced_bytes_total topic
gauge ready
counter rebalances_total type
counter records_consumed_total topic
counter records_lost_total
counter records_refused_total error
gauge replay_remaining_records topic partition
counter replayed_records_total
histogram restore_duration_seconds
counter rollbacks_total
histogram send_duration_seconds
counter sequences_ended_total reason
counter sequences_started_total reason
gauge shadow_active
counter shadow_compared_total
counter shadow_difference_total
counter shadow_events_total
counter shadow_failures_total kind
counter shadow_labels_total
counter shadow_outputs_lost_total
counter shadow_outputs_total
counter shadow_refused_total
counter sources_dropped_total
gauge state_bytes
gauge state_norm layer
histogram step_duration_seconds
counter step_rows_total kind
gauge streams_active topic partition
counter streams_doubled_total
counter streams_evicted_total reason
histogram turn_duration_seconds
gauge unfinished_records topic partition
counter waves_total
gauge worker_state state
"""


def test_names_types_and_labels_stay_as_they_are() -> None:
    found = [" ".join([metric.kind, metric.name, *metric.labels]) for metric in CATALOGUE]
    assert sorted(found, key=lambda line: line.split()[1]) == RELIED_ON.strip().splitlines()


def test_what_is_scraped_is_what_the_table_has() -> None:
    families = list(text_string_to_metric_families(Metrics().exposition("")[1].decode()))
    found = {
        (family.name + "_total" * (family.type == "counter"), family.type, family.documentation) for family in families
    }
    ours = {each for each in found if each[0].startswith(f"{PREFIX}_")}
    kinds = {metric: "gauge" if metric.kind == "info" else metric.kind for metric in CATALOGUE}
    assert ours == {(metric.full_name, kinds[metric], metric.help) for metric in CATALOGUE}
    assert {name for name, _, _ in found - ours} <= {*PROCESS_METRICS, "python_gc_collections_total"}


def test_the_page_is_written_from_the_table() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == page(), (
        "write it again: python -c 'from worker.web.reference import page; print(page(), end=\"\")' > docs/metrics.md"
    )


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_a_question_asks_for_its_metric_and_for_none_that_there_is_not(metric: Metric) -> None:
    named = re.findall(rf"{PREFIX}_\w+", metric.query)
    assert metric.full_name in {each for name in named for each in (name, *_without_suffix(name))}
    assert set(named) <= {name for each in CATALOGUE for name in each.series()}


def _without_suffix(name: str) -> list[str]:
    return [name.removesuffix(suffix) for suffix in ("_bucket", "_sum", "_count") if name.endswith(suffix)]
