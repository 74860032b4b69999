"""The member of the group, its Kafka clients, and the process."""

from __future__ import annotations

from worker.web.families.checkpoints import RESULTS
from worker.web.metric import Metric, counter, gauge

WORKER_STATES = ("starting", "restoring", "running", "stopping")
CLIENT_ERRORS = ("unavailable", "refused", "commit_refused", "delivery_failed", "message_refused")
BUILD = ("version", "model", "group", "client", "keras", "tensorflow", "cpu")

GROUP = (
    gauge(
        "assigned_partitions",
        "partitions",
        "Partitions that this worker owns.",
        "sum(rnnw_assigned_partitions)",
    ),
    counter(
        "rebalances_total",
        "rebalances",
        "Changes of ownership by type.",
        'sum by (type) (increase(rnnw_rebalances_total{type="lost"}[1h]))',
        "type",
        ("assigned", "revoked", "lost"),
    ),
    counter(
        "rollbacks_total",
        "rollbacks",
        "Turns (exactly_once: transactions) that failed, after which states went back to the last commit.",
        "sum(rate(rnnw_rollbacks_total[10m])) > 0.01",
    ),
    counter(
        "commits_total",
        "commits",
        "Offset commits by result.",
        'sum(rate(rnnw_commits_total{result="failed"}[5m])) > 0',
        "result",
        RESULTS,
    ),
    gauge(
        "worker_state",
        "1 or 0",
        "1 for the state that the worker is in.",
        'rnnw_worker_state{state="restoring"} == 1',
        "state",
        values=WORKER_STATES,
    ),
    gauge(
        "ready",
        "1 or 0",
        "1 when /readyz says ready, 0 when something is missing.",
        "min(rnnw_ready) == 0",
    ),
)
CLIENT = (
    counter(
        "client_errors_total",
        "errors",
        "Calls of the Kafka client that failed, by kind: no answer (unavailable), a login or certificate that is "
        "refused (refused), a commit, a delivery, or one message.",
        "sum by (kind) (rate(rnnw_client_errors_total[5m]))",
        "kind",
        CLIENT_ERRORS,
    ),
    counter(
        "client_rebuilds_total",
        "clients",
        "Kafka clients replaced because they were stuck.",
        "increase(rnnw_client_rebuilds_total[1h]) > 0",
    ),
    gauge(
        "client_broker_latency_seconds",
        "seconds",
        "Mean round trip to a broker, as the client reports it.",
        "max by (broker) (rnnw_client_broker_latency_seconds)",
        "broker",
    ),
    gauge(
        "client_queue_messages",
        "messages",
        "Messages that the producer holds and nobody has acknowledged.",
        "max(rnnw_client_queue_messages)",
    ),
    gauge(
        "client_queue_bytes",
        "bytes",
        "Bytes of the messages that the producer holds.",
        "max(rnnw_client_queue_bytes)",
    ),
)
PROCESS = (
    gauge(
        "model_load_duration_seconds",
        "seconds",
        "Reading the model's file and converting it to streaming form, at the start.",
        "max(rnnw_model_load_duration_seconds)",
    ),
    gauge(
        "model_proof_duration_seconds",
        "seconds",
        "Comparing the streaming form with the trained model, at the start.",
        "max(rnnw_model_proof_duration_seconds)",
    ),
    gauge(
        "model_parity_error",
        "difference of outputs",
        "Largest difference between the streaming form and the trained model found by the proof.",
        "max(rnnw_model_parity_error)",
    ),
    Metric(
        "build_info",
        "info",
        "1",
        "What is running: versions, the first digits of the model's SHA-256, group, client, level of the processor.",
        "count by (version, model, cpu) (rnnw_build_info)",
        BUILD,
    ),
    Metric(
        "model_form_info",
        "info",
        "1",
        "How the model runs: streaming, or on a window of so many events.",
        "count by (form) (rnnw_model_form_info)",
        ("form",),
    ),
)
