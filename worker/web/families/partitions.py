"""How far each partition is, and how late."""

from __future__ import annotations

from worker.web.metric import of_partitions

PARTITIONS = (
    of_partitions(
        "partition_delay_seconds",
        "seconds",
        "Age of the oldest record not answered, by its own timestamp, at the time of the scrape; 0 when caught up.",
        "max by (topic, partition) (rnnw_partition_delay_seconds)",
    ),
    of_partitions(
        "partition_event_delay_seconds",
        "seconds",
        "The same by event time (input.time): of a record as far before its timestamp as the events read last.",
        "max by (topic, partition) (rnnw_partition_event_delay_seconds)",
    ),
    of_partitions(
        "partition_lag_records",
        "records",
        "Records in the log that no turn has answered yet, at the last look (every 10 s).",
        "sum by (topic) (rnnw_partition_lag_records)",
    ),
    of_partitions(
        "partition_uncommitted_records",
        "records",
        "Records in the log that are not yet committed as answered, at the last look (every 10 s).",
        "sum by (topic) (rnnw_partition_uncommitted_records)",
    ),
    of_partitions(
        "partition_position_offset",
        "offset",
        "Offset of the next record to read.",
        "rnnw_partition_position_offset",
    ),
    of_partitions(
        "partition_committed_offset",
        "offset",
        "Offset committed last.",
        "rnnw_partition_committed_offset",
    ),
    of_partitions(
        "replay_remaining_records",
        "records",
        "Offsets to replay before the partition is live; 0 when it is.",
        "sum(rnnw_replay_remaining_records) > 0",
    ),
    of_partitions(
        "streams_active",
        "streams",
        "Streams with a state.",
        "sum(rnnw_streams_active)",
    ),
    of_partitions(
        "unfinished_records",
        "records",
        "Records read whose texts are not complete (tasks generate, seq2seq).",
        "max by (topic, partition) (rnnw_unfinished_records)",
    ),
)
