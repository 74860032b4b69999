"""What the dashboard shows: rows of panels, each with its unit, its queries, and the entry of the runbook to read."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.grafana.queries import (
    WORKER,
    busy,
    greatest,
    growth,
    mean,
    now,
    of_partitions,
    of_topics,
    per_second,
    process,
    quantile,
    share,
    total,
)

DURATIONS = ("poll", "decode", "step", "encode", "send", "commit")
ALERTS = 'ALERTS{alertname=~"Rnnw.*",alertstate="firing"}'


@dataclass(frozen=True, slots=True)
class Panel:
    """``queries``: (PromQL, legend). ``kind``: timeseries, stat, table. ``runbook``: anchor of its entry."""

    title: str
    unit: str
    help: str
    queries: tuple[tuple[str, str], ...]
    runbook: str = ""
    kind: str = "timeseries"
    width: int = 8


def by_partition(expression: str) -> str:
    """The ten greatest."""
    return f"topk(10, {greatest(expression, 'topic', 'partition')})"


PLACE = "{{topic}}/{{partition}}"

HEALTH = (
    Panel(
        "Ready", "none", "Workers whose /readyz says ready.", ((total(now("ready")), ""),), "rnnwnotready", "stat", 4
    ),
    Panel(
        "Not ready", "none", "Workers that miss something: their /readyz says what.",
        ((f"sum(1 - ({now('ready')}))", ""),), "lines-of-readyz", "stat", 4,
    ),
    Panel(
        "Late by", "s", "Age of the oldest record without an answer.",
        ((greatest(of_partitions("partition_delay_seconds")), ""),), "rnnwlate", "stat", 4,
    ),
    Panel(
        "Records waiting", "short", "In the log and not committed as answered.",
        ((total(of_partitions("partition_uncommitted_records")), ""),), "rnnwnoprogress", "stat", 4,
    ),
    Panel(
        "Records a second", "short", "Read and committed.",
        ((total(of_topics("records_consumed_total")), ""),), "rnnwnoprogress", "stat", 4,
    ),
    Panel("Alerts", "none", "Firing now.", ((f"count({ALERTS}) or vector(0)", ""),), "runbook", "stat", 4),
    Panel(
        "Workers by state", "none", "Starting: the model is loaded. Restoring: records are replayed.",
        ((total(now("worker_state"), "state"), "{{state}}"),), "rnnwnotready",
    ),
    Panel(
        "Time since the last turn", "s", "Above 300 s the page /livez asks for a restart.",
        ((f"time() - (({now('last_turn_timestamp_seconds')}) > 0)", WORKER),), "rnnwloopstandsstill",
    ),
    Panel(
        "Starts in the last hour", "none", "Of each worker.",
        ((process("changes(process_start_time_seconds[1h])"), WORKER),), "rnnwrestarts",
    ),
    Panel(
        "What runs", "none", "Versions and models of the workers.",
        ((f"count by (group, model, version, client, keras, tensorflow, cpu) ({now('build_info')})", ""),
         (f"count by (form) ({now('model_form_info')})", "")),
        "rnnwmixedmodels", "table", 16,
    ),
    Panel("Firing alerts", "none", "By name and severity.", ((f"count by (alertname, severity) ({ALERTS})", ""),),
          "runbook", "table"),
)  # fmt: skip

LATENESS = (
    Panel(
        "How late, by topic", "s", "Age of the oldest record without an answer, by the record's own time.",
        ((greatest(of_partitions("partition_delay_seconds"), "topic"), "{{topic}}"),), "rnnwlate",
    ),
    Panel(
        "How late, the latest partitions", "s", "A worker reads its partitions in turn: they are late together.",
        ((by_partition(of_partitions("partition_delay_seconds")), PLACE),), "rnnwlate",
    ),
    Panel(
        "Records waiting, most in a partition", "short", "One partition far above the others is a hot one.",
        ((by_partition(of_partitions("partition_lag_records")), PLACE),), "rnnwhotpartition",
    ),
    Panel(
        "How late by event time", "s", "The same by input.time: what devices and the way to Kafka have added.",
        ((greatest(of_partitions("partition_event_delay_seconds"), "topic"), "{{topic}}"),), "rnnwlate",
    ),
    Panel(
        "Records waiting", "short", "Unread: not taken from the log. Uncommitted: not committed as answered.",
        ((total(of_partitions("partition_lag_records"), "topic"), "{{topic}}, unread"),
         (total(of_partitions("partition_uncommitted_records"), "topic"), "{{topic}}, uncommitted")), "rnnwlaggrows",
    ),
    Panel(
        "Growth of the backlog", "cps", "Above 0 for long: more arrives than is answered.",
        ((total(growth("partition_lag_records"), "topic"), "{{topic}}"),), "rnnwlaggrows",
    ),
    Panel(
        "From arrival to acknowledged output", "s", "Inside the worker, sampled; without replays.",
        tuple((quantile(part, "answer_duration_seconds"), f"{part:.0%}") for part in (0.5, 0.99)), "rnnwlate",
    ),
    Panel(
        "Events out of order", "cps", "Older than what their stream has seen.",
        ((total(per_second("events_late_total")), "late"), (total(per_second("events_duplicate_total")), "duplicate")),
        "rnnwlateevents",
    ),
    Panel(
        "Position of partitions", "cps", "How fast the position and the commit of partitions move.",
        ((total(growth("partition_position_offset"), "topic"), "{{topic}}, read"),
         (total(growth("partition_committed_offset"), "topic"), "{{topic}}, committed")), "rnnwnoprogress",
    ),
)  # fmt: skip

THROUGHPUT = (
    Panel(
        "Records in", "cps", "Read and committed.",
        ((total(of_topics("records_consumed_total"), "topic"), "{{topic}}"),), "rnnwnoprogress",
    ),
    Panel(
        "Records out", "cps", "Written for what is committed, dead letters too.",
        ((total(per_second("outputs_produced_total"), "topic"), "{{topic}}"),), "rnnwnoprogress",
    ),
    Panel(
        "Records refused", "cps", "Into the dead-letter topic, by error; empty where there are none.",
        ((f'{total(per_second("records_refused_total"), "error")} > 0', "{{error}}"),), "rnnwrecordsrefused",
    ),
    Panel(
        "Bytes", "Bps", "Keys, values and headers.",
        ((total(of_topics("consumed_bytes_total"), "topic"), "in {{topic}}"),
         (total(per_second("produced_bytes_total"), "topic"), "out {{topic}}")), "rnnwlaggrows",
    ),
    Panel(
        "Events", "cps", "Processed by the model; unanswered: it has no answer yet, as while a window fills.",
        ((total(per_second("events_processed_total")), "processed"),
         (total(per_second("events_unanswered_total")), "unanswered"),
         (total(per_second("commands_without_stream_total")), "commands without stream")), "rnnwlate",
    ),
    Panel(
        "Where the time goes", "percentunit", "Seconds per second, of all workers. Poll includes waiting for records.",
        tuple((busy(f"{name}_duration_seconds"), name) for name in DURATIONS), "rnnwlaggrows",
    ),
    Panel(
        "Durations, 99th percentile", "s", "Of a turn and its parts.",
        tuple((quantile(0.99, f"{name}_duration_seconds"), name) for name in (*DURATIONS, "turn")), "rnnwlaggrows",
    ),
    Panel(
        "Events per turn", "short", "Many small turns cost more than few large ones: see batch.max_wait.",
        ((share(per_second("batch_events_sum"), per_second("batch_events_count")), "per turn"),
         (share(per_second("events_processed_total"), per_second("waves_total")), "per step")),
        "rnnwlaggrows",
    ),
    Panel(
        "Rows of padding", "percentunit", "Share of computed rows that are no event.",
        ((share(per_second("step_rows_total", ',kind="padding"'), per_second("step_rows_total")), "padding"),),
        "rnnwlaggrows",
    ),
    Panel(
        "Items of texts", "cps", "Tasks that generate: fed from records, and drawn by the model.",
        ((total(per_second("items_fed_total")), "fed"), (total(per_second("items_drawn_total")), "drawn"),
         (total(per_second("sources_dropped_total")), "sources dropped")), "rnnwnoprogress",
    ),
)  # fmt: skip

MODEL = (
    Panel(
        "Outputs, median", "none", "What the model says, by output unit.",
        ((quantile(0.5, "output_value", "unit"), "{{unit}}"),), "rnnwoutputssaturated",
    ),
    Panel(
        "Outputs, 95th percentile", "none", "By output unit.",
        ((quantile(0.95, "output_value", "unit"), "{{unit}}"),), "rnnwoutputssaturated",
    ),
    Panel(
        "Saturated outputs", "percentunit", "Share at an end of what the model can say.",
        ((now("output_saturated_ratio"), WORKER),), "rnnwoutputssaturated",
    ),
    Panel(
        "Norm of states", "none", "Mean L2 norm of the states stepped, by layer.",
        ((mean(now("state_norm"), "layer"), "{{layer}}"),), "rnnwoutputssaturated",
    ),
    Panel(
        "Features, mean", "none", "Of the sampled events of the last minute.",
        ((mean(now("feature_mean"), "feature"), "{{feature}}"),), "rnnwfeatureoutside",
    ),
    Panel(
        "Features, standard deviation", "none", "0: all events have the same value.",
        ((mean(now("feature_spread"), "feature"), "{{feature}}"),), "rnnwfeaturestandsstill",
    ),
    Panel(
        "Features, outside their range", "percentunit", "Of model.expect or, without it, seen at the start.",
        ((greatest(now("feature_outside_ratio"), "feature"), "{{feature}}"),), "rnnwfeatureoutside",
    ),
    Panel(
        "Difference found by the proof", "sci", "Between the streaming form and the trained model.",
        ((greatest(now("model_parity_error")), "largest"),), "rnnwparity",
    ),
    Panel(
        "Start of the model", "s", "Reading and converting the file, and the proof.",
        ((greatest(now("model_load_duration_seconds")), "load"),
         (greatest(now("model_proof_duration_seconds")), "proof")), "model",
    ),
)  # fmt: skip

SEQUENCES = (
    Panel(
        "Sequences started", "cps", "States that returned to zero, by reason.",
        ((total(per_second("sequences_started_total"), "reason"), "{{reason}}"),), "rnnwstreamsevicted",
    ),
    Panel(
        "Sequences ended", "cps", "By reason.",
        ((total(per_second("sequences_ended_total"), "reason"), "{{reason}}"),), "rnnwstreamsevicted",
    ),
    Panel(
        "Streams", "short", "With a state.",
        ((total(of_partitions("streams_active"), "topic"), "{{topic}}"),), "rnnwstreamsevicted",
    ),
    Panel(
        "Streams forgotten", "cps", "idle: state.idle. evicted: more streams than state.max_streams.",
        ((total(per_second("streams_evicted_total"), "reason"), "{{reason}}"),), "rnnwstreamsevicted",
    ),
    Panel(
        "Streams in two partitions", "short", "Found since the workers started; their states are not right.",
        ((total(now("streams_doubled_total")), "streams"),), "rnnwstreamsdoubled",
    ),
    Panel(
        "Unfinished records", "short", "Read, and their texts are not complete (tasks that generate).",
        ((total(of_partitions("unfinished_records"), "topic"), "{{topic}}"),), "rnnwnoprogress",
    ),
)  # fmt: skip
