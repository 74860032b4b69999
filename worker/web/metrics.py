"""The metrics of one worker, as the catalogue describes them. Nothing here is called once per event."""

from __future__ import annotations

import time
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Info, ProcessCollector
from prometheus_client import disable_created_metrics as _disable_created_metrics
from prometheus_client.exposition import choose_encoder

from worker.records.ownership import Partition
from worker.web.catalogue import CATALOGUE
from worker.web.families.member import WORKER_STATES
from worker.web.histogram import Histogram
from worker.web.metric import PARTITION, PREFIX, Kind, Metric
from worker.web.predictions import PredictionsCollector
from worker.web.status import WorkerStatus

BY_NAME = {metric.name: metric for metric in CATALOGUE}


class Metrics:
    """One registry with all metrics; make one per worker."""

    def __init__(self) -> None:
        # A timestamp beside every counter would double the scrape, and nobody needs it.
        _disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._per_partition: list[Gauge] = []
        self._positions()
        self._records()
        self._events()
        self._durations()
        self._sequences()
        self._predictions()
        self._shadow()
        self._checkpoints()
        self._group()
        self._client()
        self._process()
        self.set_worker_state("starting")

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

    def set_model(self, load_s: float, proof_s: float, parity: float) -> None:
        """How long the model took to load and to prove, and the largest difference that the proof has found."""
        self.model_load.set(load_s)
        self.model_proof.set(proof_s)
        self.model_parity.set(parity)

    def watch(self, status: WorkerStatus) -> None:
        """From now on each scrape says whether the worker is ready, and when its loop turned last."""
        self.ready.set_function(lambda: float(not status.missing()))
        self.last_turn.set_function(lambda: time.time() - status.still_s())

    def set_worker_state(self, state: str) -> None:
        """One of WORKER_STATES."""
        assert state in WORKER_STATES, state
        for name in WORKER_STATES:
            self.worker_state.labels(name).set(name == state)

    def _positions(self) -> None:
        self.delay = self._gauge("partition_delay_seconds")
        self.event_delay = self._gauge("partition_event_delay_seconds")
        self.lag_records = self._gauge("partition_lag_records")
        self.uncommitted_records = self._gauge("partition_uncommitted_records")
        self.position_offset = self._gauge("partition_position_offset")
        self.committed_offset = self._gauge("partition_committed_offset")
        self.replay_remaining = self._gauge("replay_remaining_records")
        self.streams_active = self._gauge("streams_active")
        self.unfinished_records = self._gauge("unfinished_records")

    def _records(self) -> None:
        self.records_consumed = self._counter("records_consumed_total")
        self.consumed_bytes = self._counter("consumed_bytes_total")
        self.outputs_produced = self._counter("outputs_produced_total")
        self.produced_bytes = self._counter("produced_bytes_total")
        self.records_refused = self._counter("records_refused_total")
        self.records_lost = self._counter("records_lost_total")
        self.replayed_records = self._counter("replayed_records_total")

    def _events(self) -> None:
        self.events_processed = self._counter("events_processed_total")
        self.events_unanswered = self._counter("events_unanswered_total")
        self.events_late = self._counter("events_late_total")
        self.events_duplicate = self._counter("events_duplicate_total")
        self.commands_without_stream = self._counter("commands_without_stream_total")
        self.batch_events = self._histogram("batch_events")
        self.waves = self._counter("waves_total")
        self.step_rows = self._counter("step_rows_total")
        self.items_drawn = self._counter("items_drawn_total")
        self.items_fed = self._counter("items_fed_total")
        self.last_turn = self._gauge("last_turn_timestamp_seconds")

    def _durations(self) -> None:
        self.answer_duration = self._histogram("answer_duration_seconds")
        self.poll_duration = self._histogram("poll_duration_seconds")
        self.turn_duration = self._histogram("turn_duration_seconds")
        self.decode_duration = self._histogram("decode_duration_seconds")
        self.step_duration = self._histogram("step_duration_seconds")
        self.encode_duration = self._histogram("encode_duration_seconds")
        self.send_duration = self._histogram("send_duration_seconds")
        self.commit_duration = self._histogram("commit_duration_seconds")

    def _sequences(self) -> None:
        self.sequences_started = self._counter("sequences_started_total")
        self.sequences_ended = self._counter("sequences_ended_total")
        self.streams_evicted = self._counter("streams_evicted_total")
        self.streams_doubled = self._counter("streams_doubled_total")
        self.sources_dropped = self._counter("sources_dropped_total")
        self.state_bytes = self._gauge("state_bytes")

    def _predictions(self) -> None:
        self.predictions = PredictionsCollector()
        self.registry.register(self.predictions)

    def _shadow(self) -> None:
        self.shadow_active = self._gauge("shadow_active")
        self.shadow_events = self._counter("shadow_events_total")
        self.shadow_refused = self._counter("shadow_refused_total")
        self.shadow_compared = self._counter("shadow_compared_total")
        self.shadow_labels = self._counter("shadow_labels_total")
        self.shadow_difference = self._counter("shadow_difference_total")
        self.shadow_outputs = self._counter("shadow_outputs_total")
        self.shadow_outputs_lost = self._counter("shadow_outputs_lost_total")
        self.shadow_failures = self._counter("shadow_failures_total")

    def _checkpoints(self) -> None:
        self.checkpoints = self._counter("checkpoint_total")
        self.checkpoints_skipped = self._counter("checkpoints_skipped_total")
        self.checkpoints_voided = self._counter("checkpoints_voided_total")
        self.checkpoint_duration = self._histogram("checkpoint_duration_seconds")
        self.checkpoint_delay = self._gauge("checkpoint_delay_seconds")
        self.checkpoint_size = self._gauge("checkpoint_size_bytes")
        self.checkpoint_offset = self._gauge("checkpoint_offset")
        self.checkpoint_success = self._gauge("checkpoint_last_success_timestamp_seconds")
        self.restore_duration = self._histogram("restore_duration_seconds")

    def _group(self) -> None:
        self.assigned_partitions = self._gauge("assigned_partitions")
        self.rebalances = self._counter("rebalances_total")
        self.rollbacks = self._counter("rollbacks_total")
        self.commits = self._counter("commits_total")
        self.worker_state = self._gauge("worker_state")
        self.ready = self._gauge("ready")

    def _client(self) -> None:
        self.client_errors = self._counter("client_errors_total")
        self.client_rebuilds = self._counter("client_rebuilds_total")
        self.broker_latency = self._gauge("client_broker_latency_seconds")
        self.queue_messages = self._gauge("client_queue_messages")
        self.queue_bytes = self._gauge("client_queue_bytes")

    def _process(self) -> None:
        self.model_load = self._gauge("model_load_duration_seconds")
        self.model_proof = self._gauge("model_proof_duration_seconds")
        self.model_parity = self._gauge("model_parity_error")
        row = BY_NAME["build_info"]
        self.build = Info("build", row.help, namespace=PREFIX, registry=self.registry)
        self.form = Info("model_form", BY_NAME["model_form_info"].help, namespace=PREFIX, registry=self.registry)

    def _counter(self, name: str) -> Counter:
        """Label values that are known beforehand begin at 0: a rate needs to see the first one happen."""
        row = _row(name, "counter")
        counter = Counter(name.removesuffix("_total"), row.help, row.labels, namespace=PREFIX, registry=self.registry)
        for value in row.values:
            counter.labels(value)
        return counter

    def _histogram(self, name: str) -> Histogram:
        return Histogram(_row(name, "histogram"), self.registry)

    def _gauge(self, name: str) -> Gauge:
        row = _row(name, "gauge")
        gauge = Gauge(name, row.help, row.labels, namespace=PREFIX, registry=self.registry)
        if row.labels == PARTITION:
            self._per_partition.append(gauge)
        for value in row.values:
            gauge.labels(value)
        return gauge


def _row(name: str, kind: Kind) -> Metric:
    row = BY_NAME[name]
    assert row.kind == kind, (name, row.kind)
    return row
