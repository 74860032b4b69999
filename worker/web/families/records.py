"""Records in, messages out, and what the model did for them."""

from __future__ import annotations

from worker.records.refusal_errors import REFUSAL_ERRORS
from worker.web.metric import Metric, counter, gauge

BATCHES = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)

RECORDS = (
    counter(
        "records_consumed_total",
        "records",
        "Records read and committed, by input topic.",
        "sum by (topic) (rate(rnnw_records_consumed_total[5m]))",
        "topic",
    ),
    counter(
        "consumed_bytes_total",
        "bytes",
        "Keys, values and headers of the records read and committed, by input topic.",
        "sum by (topic) (rate(rnnw_consumed_bytes_total[5m]))",
        "topic",
    ),
    counter(
        "outputs_produced_total",
        "records",
        "Records written for what is committed, dead letters too, by their topic.",
        "sum by (topic) (rate(rnnw_outputs_produced_total[5m]))",
        "topic",
    ),
    counter(
        "produced_bytes_total",
        "bytes",
        "Keys, values and headers of the records written for what is committed, by their topic.",
        "sum by (topic) (rate(rnnw_produced_bytes_total[5m]))",
        "topic",
    ),
    counter(
        "records_refused_total",
        "records",
        "Records committed that could not be used, by error.",
        "sum by (error) (rate(rnnw_records_refused_total[5m]))",
        "error",
        values=REFUSAL_ERRORS,
    ),
    counter(
        "records_lost_total",
        "records",
        "Offsets that the log no longer had at a start: deleted before they were read, or lost by the cluster after.",
        "increase(rnnw_records_lost_total[1h]) > 0",
    ),
    counter(
        "replayed_records_total",
        "records",
        "Records replayed without emitting, after a restart.",
        "sum(rate(rnnw_replayed_records_total[5m]))",
    ),
)
EVENTS = (
    counter(
        "events_processed_total",
        "events",
        "Events processed by the model or a command; those replayed or tried again count again.",
        "sum(rate(rnnw_events_processed_total[5m]))",
    ),
    counter(
        "events_unanswered_total",
        "events",
        "Events that the model can't answer yet, such as those that fill a window.",
        "sum(rate(rnnw_events_unanswered_total[5m]))",
    ),
    counter(
        "events_late_total",
        "events",
        "Events older than their stream's greatest event time.",
        "sum(rate(rnnw_events_late_total[5m]))",
    ),
    counter(
        "events_duplicate_total",
        "events",
        "Events dropped because their sequence number had been seen.",
        "sum(rate(rnnw_events_duplicate_total[5m]))",
    ),
    counter(
        "commands_without_stream_total",
        "commands",
        "Tombstones and resets that named no known stream.",
        "sum(rate(rnnw_commands_without_stream_total[5m]))",
    ),
    Metric(
        "batch_events",
        "histogram",
        "events",
        "Events per turn of the loop.",
        "sum(rate(rnnw_batch_events_sum[5m])) / sum(rate(rnnw_batch_events_count[5m]))",
        buckets=BATCHES,
    ),
    counter(
        "waves_total",
        "steps",
        "Steps of the model, each of one event of many streams.",
        "sum(rate(rnnw_waves_total[5m]))",
    ),
    counter(
        "step_rows_total",
        "rows",
        "Rows that the model has computed: for an event, or to fill a block up (padding); task score.",
        'sum(rate(rnnw_step_rows_total{kind="padding"}[5m])) / sum(rate(rnnw_step_rows_total[5m]))',
        "kind",
        ("event", "padding"),
    ),
    counter(
        "items_drawn_total",
        "items",
        "Items drawn (tasks generate, seq2seq), replays too.",
        "sum(rate(rnnw_items_drawn_total[5m]))",
    ),
    counter(
        "items_fed_total",
        "items",
        "Items of records fed (tasks generate, seq2seq), replays too.",
        "sum(rate(rnnw_items_fed_total[5m]))",
    ),
    gauge(
        "last_turn_timestamp_seconds",
        "seconds since the epoch",
        "When the loop last ended a turn, or a part of one.",
        "time() - rnnw_last_turn_timestamp_seconds > 60",
    ),
)
