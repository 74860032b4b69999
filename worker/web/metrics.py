"""Every metric of the worker: its name, its help text, its labels. Nothing here is called once per event.

Labels have few values: never a stream. ``topic`` and ``partition`` are labels only of gauges of owned partitions, and
are removed with them; counters keep ``topic``, whose values are the topics of the configuration.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, Info, ProcessCollector
from prometheus_client import disable_created_metrics as _disable_created_metrics
from prometheus_client.exposition import choose_encoder

from worker.records.events import Reset
from worker.records.ownership import Partition

PREFIX = "rnnw"
DURATIONS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LONG_DURATIONS_S = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
LAGS_S = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3600.0, 86400.0)
BATCHES = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
PARTITION = ("topic", "partition")
RESULTS = ("ok", "failed")
WORKER_STATES = ("starting", "restoring", "running", "stopping")


class Metrics:
    """One registry with all metrics; make one per worker."""

    def __init__(self) -> None:
        # A timestamp beside every counter would double the scrape, and nobody needs it.
        _disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._per_partition: list[Gauge] = []
        self._events()
        self._durations()
        self._positions()
        self._checkpoints()
        self._membership()

    def exposition(self, accept: str) -> tuple[str, bytes]:
        """(content type, body) of a scrape, in the format that the Accept header asks for."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self.registry)

    def drop_partition(self, partition: Partition) -> None:
        """Removes the partition's gauges: another member owns and reports it now."""
        for gauge in self._per_partition:
            # Removing a gauge that was never set is no mistake: gauges begin with their first value.
            with suppress(KeyError):
                gauge.remove(partition.topic, str(partition.number))

    def of(self, gauge: Gauge, partition: Partition) -> Gauge:
        """This partition's child of a per-partition gauge."""
        return gauge.labels(partition.topic, str(partition.number))

    def set_build(
        self, *, version: str, model: str, group: str, client: str, keras: str, tensorflow: str, cpu: str
    ) -> None:
        """Versions, the first digits of the model's SHA-256, the consumer group, the Kafka client, and the level of
        the processor's instructions."""
        self.build.info(
            {
                "version": version,
                "model": model,
                "group": group,
                "client": client,
                "keras": keras,
                "tensorflow": tensorflow,
                "cpu": cpu,
            }
        )

    def set_worker_state(self, state: str) -> None:
        """One of WORKER_STATES."""
        assert state in WORKER_STATES, state
        for name in WORKER_STATES:
            self.worker_state.labels(name).set(name == state)

    def _events(self) -> None:
        self.records_consumed = self._counter(
            "records_consumed", "Records read and committed, by input topic.", "topic"
        )
        self.events_processed = self._counter(
            "events_processed",
            "Events processed by the model or a command; those replayed or tried again count again.",
        )
        self.outputs_produced = self._counter(
            "outputs_produced", "Records written for what is committed, dead letters too.", "topic"
        )
        self.records_refused = self._counter(
            "records_refused", "Records committed that could not be used, by error.", "error"
        )
        self.sequences_started = self._counter(
            "sequences_started", "States that returned to zero, by reason.", "reason", _reasons(Reset)
        )
        self.streams_evicted = self._counter(
            "streams_evicted",
            "Streams forgotten, by reason: idle (state.idle) or evicted (state.max_streams).",
            "reason",
            _reasons((Reset.IDLE, Reset.EVICTED)),
        )
        self.events_late = self._counter("events_late", "Events older than their stream's greatest event time.")
        self.commands_without_stream = self._counter(
            "commands_without_stream", "Tombstones and resets that named no known stream."
        )
        self.streams_doubled = self._counter(
            "streams_doubled",
            "Streams found in two or more partitions of a topic, each counted once (among the last 100,000).",
        )
        self.waves = self._counter("waves", "Steps of the model, each of one event of many streams.")
        self.replayed_records = self._counter("replayed_records", "Records replayed without emitting, after a restart.")
        self.batch_events = self._histogram("batch_events", "Events per turn of the loop.", BATCHES)
        self.streams_active = self._partition_gauge("streams_active", "Streams with a state.")
        self.state_bytes = self._gauge("state_bytes", "Memory that the states of all streams use.")

    def _durations(self) -> None:
        self.turn_duration = self._histogram(
            "turn_duration_seconds", "Decoding, stepping and encoding the events of a turn."
        )
        self.poll_duration = self._histogram(
            "poll_duration_seconds", "Polling for records, including the wait for them."
        )
        self.send_duration = self._histogram("send_duration_seconds", "Handing the outputs of a turn to the client.")
        self.event_time_lag = self._histogram(
            "event_time_lag_seconds", "Wall clock minus the event time of a turn's last event.", LAGS_S
        )

    def _positions(self) -> None:
        self.position_offset = self._partition_gauge("partition_position_offset", "Offset of the next record to read.")
        self.committed_offset = self._partition_gauge("partition_committed_offset", "Offset committed last.")
        self.lag_records = self._partition_gauge("partition_lag_records", "Records in the log that are not yet read.")
        self.uncommitted_records = self._partition_gauge(
            "partition_uncommitted_records", "Records in the log that are not yet committed as answered."
        )
        self.replay_remaining = self._partition_gauge(
            "replay_remaining_records", "Offsets to replay before the partition is live."
        )

    def _checkpoints(self) -> None:
        self.checkpoint_duration = self._histogram(
            "checkpoint_duration_seconds", "Writing a checkpoint.", LONG_DURATIONS_S
        )
        self.checkpoints = self._counter("checkpoint", "Checkpoints by result.", "result", RESULTS)
        self.checkpoint_delay = self._gauge(
            "checkpoint_delay_seconds", "Age of the oldest copy of states that is not yet written."
        )
        self.checkpoint_size = self._partition_gauge("checkpoint_size_bytes", "Size of the newest checkpoint.")
        self.checkpoint_offset = self._partition_gauge("checkpoint_offset", "Offset of the newest checkpoint.")
        self.checkpoint_success = self._partition_gauge(
            "checkpoint_last_success_timestamp_seconds", "When the newest checkpoint was written, since the epoch."
        )
        self.restore_duration = self._histogram(
            "restore_duration_seconds", "From an assignment to live: loading and replaying.", LONG_DURATIONS_S
        )

    def _membership(self) -> None:
        self.assigned_partitions = self._gauge("assigned_partitions", "Partitions that this worker owns.")
        self.rebalances = self._counter(
            "rebalances", "Changes of ownership by type.", "type", ("assigned", "revoked", "lost")
        )
        self.rollbacks = self._counter(
            "rollbacks",
            "Turns (exactly_once: transactions) that failed, after which states went back to the last commit.",
        )
        self.commits = self._counter("commits", "Offset commits by result.", "result", RESULTS)
        self.client_rebuilds = self._counter("client_rebuilds", "Kafka clients replaced because they were stuck.")
        self.worker_state = self._gauge("worker_state", "1 for the state that the worker is in.", "state")
        self.build = Info("build", "What is running.", namespace=PREFIX, registry=self.registry)
        self.set_worker_state("starting")

    def _counter(self, name: str, text: str, label: str | None = None, values: Iterable[str] = ()) -> Counter:
        """Label values that are known beforehand begin at 0: a rate needs to see the first one happen."""
        counter = Counter(name, text, (label,) if label else (), namespace=PREFIX, registry=self.registry)
        for value in values:
            counter.labels(value)
        return counter

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...] = DURATIONS_S) -> Histogram:
        return Histogram(name, text, namespace=PREFIX, registry=self.registry, buckets=buckets)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace=PREFIX, registry=self.registry)

    def _partition_gauge(self, name: str, text: str) -> Gauge:
        gauge = self._gauge(name, text, *PARTITION)
        self._per_partition.append(gauge)
        return gauge


def _reasons(resets: Iterable[Reset]) -> list[str]:
    return [reset.name.lower() for reset in resets if reset is not Reset.NONE]
