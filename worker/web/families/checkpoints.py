"""Checkpoints, and what happens at a start."""

from __future__ import annotations

from worker.web.metric import LONG_DURATIONS_S, counter, duration, gauge, of_partitions

RESULTS = ("ok", "failed")

CHECKPOINTS = (
    counter(
        "checkpoint_total",
        "checkpoints",
        "Checkpoints by result.",
        'sum(rate(rnnw_checkpoint_total{result="failed"}[10m])) > 0',
        "result",
        RESULTS,
    ),
    counter(
        "checkpoints_skipped_total",
        "checkpoints",
        "Partitions that got no checkpoint in an interval, by reason: earlier ones were still being written (busy), "
        "commits failed (uncommitted), or a newer copy took the place of one that waited (replaced).",
        'sum by (reason) (rate(rnnw_checkpoints_skipped_total{reason="busy"}[10m]))',
        "reason",
        ("busy", "uncommitted", "replaced"),
    ),
    counter(
        "checkpoints_voided_total",
        "checkpoints",
        "Checkpoints that could not be used when a partition was taken over.",
        "increase(rnnw_checkpoints_voided_total[1h]) > 0",
    ),
    duration("checkpoint_duration_seconds", "Writing a checkpoint.", LONG_DURATIONS_S),
    gauge(
        "checkpoint_delay_seconds",
        "seconds",
        "Age of the oldest copy of states that is not yet written.",
        "max(rnnw_checkpoint_delay_seconds)",
    ),
    of_partitions(
        "checkpoint_size_bytes",
        "bytes",
        "Size of the newest checkpoint.",
        "sum(rnnw_checkpoint_size_bytes)",
    ),
    of_partitions(
        "checkpoint_offset",
        "offset",
        "Offset of the newest checkpoint.",
        "rnnw_partition_committed_offset - rnnw_checkpoint_offset",
    ),
    of_partitions(
        "checkpoint_last_success_timestamp_seconds",
        "seconds since the epoch",
        "When the newest checkpoint was written.",
        "time() - min(rnnw_checkpoint_last_success_timestamp_seconds)",
    ),
    duration("restore_duration_seconds", "From an assignment to live: loading and replaying.", LONG_DURATIONS_S),
)
