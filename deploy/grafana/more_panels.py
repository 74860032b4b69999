"""The rows of whoever runs the workers: checkpoints, group, client, resources."""

from __future__ import annotations

from deploy.grafana.panels import HEALTH, LATENESS, MODEL, PLACE, SEQUENCES, THROUGHPUT, Panel, by_partition
from deploy.grafana.queries import (
    OURS,
    WORKER,
    greatest,
    now,
    of_partitions,
    of_topics,
    per_second,
    process,
    quantile,
    share,
    total,
)

CHECKPOINTS = (
    Panel(
        "Age of the newest checkpoint", "s", "The oldest ones; a partition without new records needs none.",
        ((by_partition(f"time() - ({of_partitions('checkpoint_last_success_timestamp_seconds')})"), PLACE),),
        "rnnwcheckpointold",
    ),
    Panel(
        "Records since the newest checkpoint", "short", "What a start would replay.",
        ((by_partition(f"({of_partitions('partition_committed_offset')}) - "
                       f"on (job, instance, topic, partition) rnnw_checkpoint_offset"), PLACE),),
        "rnnwcheckpointold",
    ),
    Panel(
        "Checkpoints", "cps", "Written, failed, left out, and found unusable at a start.",
        ((total(per_second("checkpoint_total"), "result"), "{{result}}"),
         (total(per_second("checkpoints_skipped_total"), "reason"), "skipped, {{reason}}"),
         (total(per_second("checkpoints_voided_total")), "voided")), "rnnwcheckpointsfailing",
    ),
    Panel(
        "Waiting to be written", "s", "Age of the oldest copy of states: grows while the storage hangs.",
        ((now("checkpoint_delay_seconds"), WORKER),), "rnnwcheckpointstoreslow",
    ),
    Panel(
        "Writing and restoring", "s", "99th percentile. Restoring includes the replay.",
        ((quantile(0.99, "checkpoint_duration_seconds"), "write"),
         (quantile(0.99, "restore_duration_seconds"), "restore")), "rnnwcheckpointstoreslow",
    ),
    Panel(
        "Size of checkpoints", "bytes", "The newest of each partition.",
        ((total(of_partitions("checkpoint_size_bytes"), "topic"), "{{topic}}"),), "rnnwcheckpointstoreslow",
    ),
    Panel(
        "Left to replay", "short", "Before partitions are live.",
        ((total(of_partitions("replay_remaining_records"), "topic"), "{{topic}}"),), "rnnwreplaylong",
    ),
    Panel(
        "Records replayed", "cps", "Without outputs, to restore states.",
        ((total(per_second("replayed_records_total")), "replayed"),), "rnnwreplaylong",
    ),
    Panel(
        "Records lost", "short", "Gone from the log before they were read, since the workers started.",
        ((total(now("records_lost_total")), "lost"),), "rnnwrecordslost",
    ),
)  # fmt: skip

GROUP = (
    Panel(
        "Partitions of each worker", "none", "A worker without any is idle.",
        ((now("assigned_partitions"), WORKER),), "rnnwidleworker",
    ),
    Panel(
        "Rebalances", "cps", "lost: the worker was silent for too long.",
        ((total(per_second("rebalances_total"), "type"), "{{type}}"),), "rnnwrebalances",
    ),
    Panel(
        "Commits", "cps", "Of offsets, by result.",
        ((total(per_second("commits_total"), "result"), "{{result}}"),), "rnnwcommitsfailing",
    ),
    Panel(
        "Rollbacks", "cps", "Turns or transactions that failed and were made again.",
        ((total(per_second("rollbacks_total")), "rollbacks"),), "rnnwrollbacks",
    ),
    Panel(
        "Records a second, by worker", "cps", "How evenly the work is shared.",
        ((total(of_topics("records_consumed_total"), "pod", "instance"), WORKER),), "rnnwhotpartition", width=16,
    ),
)  # fmt: skip

CLIENT = (
    Panel(
        "Errors", "cps", "Calls of the Kafka client that failed.",
        ((total(per_second("client_errors_total"), "kind"), "{{kind}}"),), "rnnwclienterrors",
    ),
    Panel(
        "Clients replaced", "none", "Because they were stuck, since the workers started.",
        ((total(now("client_rebuilds_total")), "replaced"),), "rnnwclientrebuilds",
    ),
    Panel(
        "Round trip to brokers", "s", "Mean that the client reports; the slowest worker.",
        ((greatest(now("client_broker_latency_seconds"), "broker"), "{{broker}}"),), "rnnwlaggrows",
    ),
    Panel(
        "Messages in the producer", "short", "Handed over, not acknowledged.",
        ((now("client_queue_messages"), WORKER),), "rnnwcommitsfailing",
    ),
    Panel(
        "Bytes in the producer", "bytes", "Of those messages.",
        ((now("client_queue_bytes"), WORKER),), "rnnwcommitsfailing",
    ),
)  # fmt: skip

RESOURCES = (
    Panel(
        "Processor", "none", "Cores in use.",
        ((f"rate(process_cpu_seconds_total[$__rate_interval]) {OURS}", WORKER),), "rnnwlaggrows",
    ),
    Panel(
        "Memory", "bytes", "Resident: what a limit counts.",
        ((process("process_resident_memory_bytes"), WORKER),), "rnnwmemorynearlimit",
    ),
    Panel(
        "Memory of states", "bytes", "Of all streams.",
        ((now("state_bytes"), WORKER),), "rnnwmemorynearlimit",
    ),
    Panel(
        "Open files", "none", "Connections included, as a share of what is allowed.",
        ((f"process_open_fds / process_max_fds {OURS}", WORKER),), "rnnwrestarts",
    ),
    Panel(
        "Garbage collections", "cps", "Of Python, by generation.",
        ((f"sum by (generation) (rate(python_gc_collections_total[$__rate_interval]) {OURS})", "{{generation}}"),),
        "rnnwlaggrows",
    ),
)  # fmt: skip

SHADOW = (
    Panel(
        "Shadow: other labels", "percentunit", "Share of events for which the second model says another label.",
        ((share(per_second("shadow_labels_total"), per_second("shadow_compared_total")), "other label"),),
        "rnnwshadowfails",
    ),
    Panel(
        "Shadow: difference", "none", "Greatest difference of an output of an event, on average.",
        ((share(per_second("shadow_difference_total"), per_second("shadow_compared_total")), "mean"),),
        "rnnwshadowfails",
    ),
    Panel(
        "Shadow: events and outputs", "cps", "Of the second model, and what went wrong with it alone.",
        ((total(per_second("shadow_events_total")), "events"), (total(per_second("shadow_outputs_total")), "outputs"),
         (total(per_second("shadow_outputs_lost_total")), "outputs dropped"),
         (total(per_second("shadow_refused_total")), "records that it can't answer"),
         (total(per_second("shadow_failures_total"), "kind"), "failed, {{kind}}"),
         (total(now("shadow_active")), "workers with a shadow")), "rnnwshadowfails",
    ),
)  # fmt: skip

ROWS = {
    "Health": HEALTH,
    "Lateness": LATENESS,
    "Throughput": THROUGHPUT,
    "The model": MODEL,
    "A second model beside it": SHADOW,
    "Sequences": SEQUENCES,
    "Checkpoints and recovery": CHECKPOINTS,
    "Group": GROUP,
    "Client": CLIENT,
    "Resources": RESOURCES,
}
