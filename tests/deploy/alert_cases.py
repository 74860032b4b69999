"""For each alert: metrics of an hour in which it fires, what must be otherwise for it to stay silent, and what it says.

Series are promtool's: a value a minute, ``0x3`` four zeros, ``0+5x9`` from 0 up by five.
"""

from __future__ import annotations

from dataclasses import dataclass, field

JOB, POD = "rnn-stream-worker", "w0:9100"


@dataclass(frozen=True, slots=True)
class Case:
    """It fires ``at`` with ``labels`` on ``series``; not where ``silent`` replaces some of them ("" leaves one out)."""

    alert: str
    at: str
    series: dict[str, str]
    silent: dict[str, str]
    summary: str
    labels: dict[str, str] = field(default_factory=dict)


def of(name: str, instance: str = POD, **labels: str | int) -> str:
    """A series of one worker."""
    given = {"job": JOB, "instance": instance, **labels}
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in given.items()) + "}"


def place(name: str, number: int, instance: str = POD) -> str:
    """A series of a partition."""
    return of(name, instance, topic="readings", partition=number)


# A process that began at the 20th minute, and what it had counted before it was scraped for the first time.
YOUNG, OLD = of("process_start_time_seconds"), "0x90"
WORKER = {"job": JOB, "instance": POD}
TOPIC = {"job": JOB, "group": "scores", "topic": "readings"}
RUNNING = of("rnnw_worker_state", state="running")
STARTING = of("rnnw_worker_state", state="starting")
BUILD = of("rnnw_build_info", group="scores", model="4f1c9a2b7d10")
UNCOMMITTED, CONSUMED = (
    place("rnnw_partition_uncommitted_records", 0),
    of("rnnw_records_consumed_total", topic="readings"),
)
DELAY = [place("rnnw_partition_delay_seconds", number) for number in range(3)]
LAGS = [place("rnnw_partition_lag_records", number) for number in range(3)]
LAG, HOT_LAG = LAGS[0], dict(zip(LAGS, ("9000x30", "40x30", "60x30"), strict=True))
COMMITTED, WRITTEN = place("rnnw_partition_committed_offset", 0), place("rnnw_checkpoint_offset", 0)
WRITTEN_AT = place("rnnw_checkpoint_last_success_timestamp_seconds", 0)
MEMORY = of("process_resident_memory_bytes", namespace="ml", pod="w-0")
LIMIT = 'kube_pod_container_resource_limits{namespace="ml",pod="w-0",container="worker",resource="memory"}'

HEALTH = (
    Case("RnnwAbsent", "15m", {RUNNING: "1x2"}, {RUNNING: "1x20"}, "no worker is scraped"),
    Case("RnnwDown", "5m", {of("up"): "1 0x9"}, {of("up"): "1 0 1x9"}, "worker w0:9100 does not answer", WORKER),
    Case(
        "RnnwRestarts", "20m",
        {of("process_start_time_seconds"): "100x4 400x4 700x4 1000x9", STARTING: "1x20"},
        {of("process_start_time_seconds"): "100x9 700x19"},
        "worker w0:9100 has started 3 times in 30 minutes", WORKER,
    ),
    Case(
        "RnnwRestarts", "20m",
        {of("process_start_time_seconds"): "100x4 400x4 700x4 1000x9", STARTING: "1x20"},
        {STARTING: ""},  # another program of the same Prometheus
        "worker w0:9100 has started 3 times in 30 minutes", WORKER,
    ),
    Case(
        "RnnwNotReady", "15m", {of("rnnw_ready"): "1x2 0x20"}, {of("rnnw_ready"): "1x2 0x8 1x9"},
        "worker w0:9100 has not been ready for 10 minutes", WORKER,
    ),
    Case(
        "RnnwLoopStandsStill", "10m",
        {of("rnnw_last_turn_timestamp_seconds"): "60 120 180x20", RUNNING: "1x20"},
        {of("rnnw_last_turn_timestamp_seconds"): "60 60 60+60x20"},
        "worker w0:9100 has not turned for 7m 0s", WORKER,
    ),
    Case(
        "RnnwLoopStandsStill", "10m",
        {of("rnnw_last_turn_timestamp_seconds"): "60 120 180x20", RUNNING: "1x20"},
        {RUNNING: "0x20", STARTING: "1x20"},  # a large model may take minutes
        "worker w0:9100 has not turned for 7m 0s", WORKER,
    ),
    Case(
        "RnnwNoProgress", "30m",
        {UNCOMMITTED: "10+10x40", CONSUMED: "0+10x9 90x40", of("rnnw_replayed_records_total"): "0x40"},
        {CONSUMED: "0+10x40"},
        "worker w0:9100 makes no progress while 310 records wait", WORKER,
    ),
    Case(
        "RnnwNoProgress", "30m", {UNCOMMITTED: "7x40"}, {of("rnnw_replayed_records_total"): "0+10x40"},
        "worker w0:9100 makes no progress while 7 records wait", WORKER,
    ),
    Case(
        "RnnwNoProgress", "30m", {UNCOMMITTED: "7x40"}, {of("rnnw_items_drawn_total"): "0+10x40"},
        "worker w0:9100 makes no progress while 7 records wait", WORKER,
    ),
    Case(
        "RnnwMemoryNearLimit", "15m",
        {MEMORY: "1900x20", LIMIT: "2000x20", of("rnnw_worker_state", state="running"): "1x20"},
        {MEMORY: "1500x20"},
        "worker w-0 uses 95% of its memory limit", {"namespace": "ml", "pod": "w-0"},
    ),
)  # fmt: skip

LATENESS = (
    Case(
        "RnnwLate", "15m", {DELAY[0]: "400x20", DELAY[1]: "2x20", BUILD: "1x20"}, {DELAY[0]: "400x8 200x20"},
        "group scores is 6m 40s late on readings", TOPIC,
    ),
    Case(
        "RnnwVeryLate", "15m", {DELAY[0]: "4000x20", BUILD: "1x20"}, {DELAY[0]: "3000x20"},
        "group scores is 1h 6m 40s late on readings", TOPIC,
    ),
    Case(
        "RnnwLagGrows", "45m", {LAG: "0+600x60", DELAY[0]: "90x60", BUILD: "1x60"}, {LAG: "0+3x60"},
        "the backlog of group scores on readings grows by 10 records a second", TOPIC,
    ),
    Case(
        "RnnwLagGrows", "45m", {LAG: "0+600x60", DELAY[0]: "90x60", BUILD: "1x60"}, {DELAY[0]: "30x60"},
        "the backlog of group scores on readings grows by 10 records a second", TOPIC,
    ),
    *(
        Case(
            "RnnwHotPartition", "20m",
            {**HOT_LAG, DELAY[0]: "120x30", DELAY[1]: others, DELAY[2]: others, BUILD: "1x30"}, silent,
            "9k records of readings/0 wait, far more than of other partitions", {**TOPIC, "partition": "0"},
        )
        for others, silent in (
            ("3x30", {DELAY[0]: "30x30"}),  # not late yet
            ("3x30", {LAGS[1]: "5000x30"}),  # two of three are as far behind: it is their worker
            ("120x30", {LAGS[0]: "100x30"}),  # one worker for all, late on all of them; no partition stands out
        )
    ),
    Case(
        "RnnwReplayLong", "45m",
        {place("rnnw_replay_remaining_records", 0): "90000-10x60"},
        {place("rnnw_replay_remaining_records", 0): "90000-10x9 0x60"},
        "worker w0:9100 has replayed for 30 minutes, 89.55k records are left", WORKER,
    ),
    Case(
        "RnnwLateEvents", "1h10m",
        {of("rnnw_events_late_total"): "0+10x90", of("rnnw_events_processed_total"): "0+100x90"},
        {of("rnnw_events_late_total"): "0+1x90"},
        "10% of the events of w0:9100 are out of order", WORKER,
    ),
)  # fmt: skip

REFUSED = of("rnnw_records_refused_total", error="not_json")
RECORDS = (
    Case(
        "RnnwRecordsRefused", "30m", {REFUSED: "0+5x40", CONSUMED: "0+100x40"}, {REFUSED: "0+0.5x40"},
        "5% of the records of rnn-stream-worker are refused", {"job": JOB},
    ),
    Case(
        "RnnwRecordsLost", "1h", {of("rnnw_records_lost_total"): "0x30 40x60"}, {of("rnnw_records_lost_total"): "0x90"},
        "40 records were gone before rnn-stream-worker read them", {"job": JOB},
    ),
    Case(
        "RnnwRecordsLost", "1h",
        {of("rnnw_records_lost_total"): "_x20 40x60", YOUNG: "_x20 1200x60"}, {YOUNG: OLD},
        "40 records were gone before rnn-stream-worker read them", {"job": JOB},
    ),
    Case(
        "RnnwRollbacks", "30m", {of("rnnw_rollbacks_total"): "0+1x40"}, {of("rnnw_rollbacks_total"): "0x20 1x40"},
        "worker w0:9100 has rolled back 10 turns in 10 minutes", WORKER,
    ),
    Case(
        "RnnwCommitsFailing", "30m",
        {of("rnnw_commits_total", result="failed"): "0+3x40"}, {of("rnnw_commits_total", result="failed"): "0x20 2x40"},
        "worker w0:9100 can't commit offsets", WORKER,
    ),
)  # fmt: skip

CHECKPOINTS = (
    Case(
        "RnnwCheckpointsFailing", "40m",
        {of("rnnw_checkpoint_total", result="failed"): "0+2x40"},
        {of("rnnw_checkpoint_total", result="failed"): "0x34 1x9"},
        "worker w0:9100 can't write checkpoints", WORKER,
    ),
    Case(
        "RnnwCheckpointOld", "40m",
        {WRITTEN_AT: "600x60", COMMITTED: "100+10x60", WRITTEN: "150x60"},
        {COMMITTED: "150x60"},  # nothing new to save
        "the newest checkpoint of readings/0 is 30m 0s old", {**WORKER, "topic": "readings", "partition": "0"},
    ),
    Case(
        "RnnwCheckpointOld", "40m",
        {WRITTEN_AT: "600x60", COMMITTED: "100+10x60", WRITTEN: "150x60"},
        {WRITTEN_AT: "1800x60"},
        "the newest checkpoint of readings/0 is 30m 0s old", {**WORKER, "topic": "readings", "partition": "0"},
    ),
    Case(
        "RnnwNoCheckpoint", "45m", {COMMITTED: "100+10x60"}, {WRITTEN_AT: "600x60"},
        "readings/0 has no checkpoint of its present owner", {**WORKER, "topic": "readings", "partition": "0"},
    ),
    Case(
        "RnnwCheckpointStoreSlow", "20m",
        {of("rnnw_checkpoint_delay_seconds"): "0+60x40"}, {of("rnnw_checkpoint_delay_seconds"): "0 300 60x40"},
        "a checkpoint of w0:9100 has waited 20m 0s to be written", WORKER,
    ),
)  # fmt: skip

REBALANCES = "rnnw_rebalances_total"
REVOKED, ASSIGNED = of(REBALANCES, type="revoked"), of(REBALANCES, type="assigned")
NEW_BUILD = of("rnnw_build_info", "w1:9100", group="scores", model="0a0b0c0d0e0f")
SAME_BUILD = of("rnnw_build_info", "w1:9100", group="scores", model="4f1c9a2b7d10")
GROUP = (
    Case(
        "RnnwRebalances", "1h", {REVOKED: "0+1x90", ASSIGNED: "0+1x90"}, {REVOKED: "0x30 3x60"},
        "partitions of a worker of rnn-stream-worker were taken away 60 times in an hour", {"job": JOB},
    ),
    Case(
        "RnnwRebalances", "1h", {REVOKED: "0+1x90"},
        {REVOKED: "0x30 3x60"} | {of(REBALANCES, f"w{n}:9100", type="lost"): "0x30 3x60" for n in range(1, 9)},
        "partitions of a worker of rnn-stream-worker were taken away 60 times in an hour", {"job": JOB},
    ),
    Case(
        "RnnwIdleWorker", "45m",
        {of("rnnw_assigned_partitions"): "0x60", RUNNING: "1x60"}, {of("rnnw_assigned_partitions"): "0x20 2x40"},
        "worker w0:9100 has no partition", WORKER,
    ),
    Case(
        "RnnwClientRebuilds", "1h",
        {of("rnnw_client_rebuilds_total"): "0+0.1x90"}, {of("rnnw_client_rebuilds_total"): "0x30 1x60"},
        "worker w0:9100 has replaced its Kafka client 6 times in an hour", WORKER,
    ),
    Case(
        "RnnwClientErrors", "30m",
        {of("rnnw_client_errors_total", kind="unavailable"): "0+1x40"},
        {of("rnnw_client_errors_total", kind="unavailable"): "0x15 1x40"},
        "calls of the Kafka client of w0:9100 fail: unavailable", {**WORKER, "kind": "unavailable"},
    ),
    Case(
        "RnnwMixedModels", "40m", {BUILD: "1x60", NEW_BUILD: "1x60"}, {NEW_BUILD: "", SAME_BUILD: "1x60"},
        "2 different models run in group scores", {"job": JOB, "group": "scores"},
    ),
)  # fmt: skip

EVICTED, IDLE = (of("rnnw_streams_evicted_total", reason=reason) for reason in ("evicted", "idle"))
PROCESSED = of("rnnw_events_processed_total")
OUTSIDE, SPREAD = of("rnnw_feature_outside_ratio", feature="ax"), of("rnnw_feature_spread", feature="ax")
MODEL = (
    Case(
        "RnnwStreamsEvicted", "20m", {EVICTED: "0+3x40", IDLE: "0x40"}, {EVICTED: "0x40", IDLE: "0+3x40"},
        "worker w0:9100 has forgotten 45 streams for want of room", WORKER,
    ),
    Case(
        "RnnwStreamsDoubled", "1h",
        {of("rnnw_streams_doubled_total"): "0+1x90"}, {of("rnnw_streams_doubled_total"): "5x90"},
        "60 streams are live in two partitions", WORKER,
    ),
    Case(
        "RnnwStreamsDoubled", "1h",
        {of("rnnw_streams_doubled_total"): "_x20 5x60", YOUNG: "_x20 1200x60"}, {YOUNG: OLD},
        "5 streams are live in two partitions", WORKER,
    ),
    Case(
        "RnnwOutputsSaturated", "45m",
        {of("rnnw_output_saturated_ratio"): "0.99x60"}, {of("rnnw_output_saturated_ratio"): "0.99x30 0.4x30"},
        "99% of what the model of w0:9100 says is at an end of its range", WORKER,
    ),
    Case(
        "RnnwShadowFails", "15m", {of("rnnw_shadow_failures_total", kind="outputs"): "0x5 1x60"},
        {of("rnnw_shadow_failures_total", kind="outputs"): "3x60"},
        "the second model of w0:9100 has failed (outputs)", {**WORKER, "kind": "outputs"},
    ),
    Case(
        "RnnwShadowFails", "15m", {of("rnnw_shadow_failures_total", kind="records"): "0x5 7x60"},
        {of("rnnw_shadow_failures_total", kind="records"): "0x60"},
        "the second model of w0:9100 has failed (records)", {**WORKER, "kind": "records"},
    ),
    Case(
        "RnnwShadowFails", "35m",
        {of("rnnw_shadow_failures_total", kind="load"): "_x20 1x60", YOUNG: "_x20 1200x60"}, {YOUNG: OLD},
        "the second model of w0:9100 has failed (load)", {**WORKER, "kind": "load"},
    ),
    Case(
        "RnnwFeatureOutside", "30m", {OUTSIDE: "0x5 0.5x60"}, {OUTSIDE: "0x5 0.5x9 0.1x60"},
        "50% of the values of ax are outside their range", {"job": JOB, "feature": "ax"},
    ),
    Case(
        "RnnwFeatureStandsStill", "45m", {SPREAD: "1.5x5 0x60", PROCESSED: "0+600x90"},
        {of("rnnw_feature_spread", "w1:9100", feature="ax"): "1x60"},
        "feature ax has had one value for 30 minutes", {"job": JOB, "feature": "ax"},
    ),
    Case(
        "RnnwFeatureStandsStill", "45m", {SPREAD: "1.5x5 0x60", PROCESSED: "0+600x90"},
        {PROCESSED: "0+30x90"},  # of one event there is no spread
        "feature ax has had one value for 30 minutes", {"job": JOB, "feature": "ax"},
    ),
    Case(
        "RnnwParity", "10m", {of("rnnw_model_parity_error"): "8e-05x20"}, {of("rnnw_model_parity_error"): "3e-05x20"},
        "the proof of w0:9100 found a difference of 8e-05", WORKER,
    ),
)  # fmt: skip

FAMILIES = {
    "health": HEALTH, "lateness": LATENESS, "records": RECORDS, "checkpoints": CHECKPOINTS, "group": GROUP,
    "model": MODEL,
}  # fmt: skip
