"""The consumer of confluent-kafka as the worker needs it: every option that a contract depends on, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError

from worker.kafka.confluent.errors import client_options, translated
from worker.kafka.confluent.offsets import ISOLATION
from worker.kafka.confluent.refusals import Attempts
from worker.kafka.confluent.topic_ids import TopicIdLog, saying_ids
from worker.kafka.settings import ClientSettings
from worker.kafka.topic_ids import LOOK_INTERVAL_S

HEARTBEAT_INTERVAL_MS = 1000
FETCH_QUEUE_BACKOFF_MS = 10
RECONNECT_BACKOFF_MAX_MS = 1000


def open_consumer(
    settings: ClientSettings, on_error: Callable[[KafkaError], None], timeout_s: float, said: TopicIdLog
) -> Any:
    """Raises KafkaUnavailableError when the cluster can't be reached in time, WorkerError when it refuses us."""

    attempts = Attempts(settings, timeout_s)

    def tell(error: KafkaError) -> None:
        on_error(error)
        attempts.error(error)

    own: dict[str, Any] = {
        "group.id": settings.group_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        **ISOLATION,
        "partition.assignment.strategy": "cooperative-sticky",
        # Tells the position at the end of the log, beyond markers and gaps, which no record does.
        "enable.partition.eof": True,
        "allow.auto.create.topics": False,
        # Members learn of a rebalance by their heartbeats: 1 s in place of 3 s for each of its two rounds.
        "heartbeat.interval.ms": HEARTBEAT_INTERVAL_MS,
        # A full queue makes librdkafka wait 1 s before it fetches again: half of the time there would be nothing to do.
        "fetch.queue.backoff.ms": FETCH_QUEUE_BACKOFF_MS,
        # 10 s by default, also to a coordinator that has come back: as long as a session may be.
        "reconnect.backoff.max.ms": RECONNECT_BACKOFF_MAX_MS,
        "error_cb": tell,
        # 5 minutes by default: before Kafka 3.1 nothing else shows that a topic was created again.
        "topic.metadata.refresh.interval.ms": round(LOOK_INTERVAL_S * 1000),
    }
    if settings.instance_id is not None:
        own["group.instance.id"] = settings.instance_id
    with translated(f"kafka at {settings.bootstrap_servers}"):
        said.hand_on = attempts.log
        consumer: Any = Consumer(saying_ids(client_options(settings, "consumer", own)), logger=said)
    with attempts.told(consumer.poll):
        consumer.list_topics(timeout=timeout_s)
    attempts.let_in()
    return consumer
