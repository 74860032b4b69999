"""Questions about topics, by confluent-kafka's admin client, and the end of a consumer in time."""

from __future__ import annotations

import logging
import threading
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from worker.errors import WorkerError
from worker.kafka.confluent_errors import client_options, translate
from worker.kafka.contracts import TopicFacts
from worker.kafka.options import spell_topic_id
from worker.kafka.settings import ClientSettings

log = logging.getLogger("worker.kafka")


def is_reachable(settings: ClientSettings, topic: str, timeout_s: float) -> bool:
    """Whether a new connection to the cluster gets an answer now."""
    return answers(AdminClient(client_options(settings, None, {}), logger=log), topic, timeout_s)


def answers(client: Any, topic: str, timeout_s: float) -> bool:
    """Whether this client (consumer, producer or admin) gets an answer from the cluster now."""
    try:
        client.list_topics(topic, timeout_s)
    except KafkaException:
        return False
    return True


def close_consumer(consumer: Any, timeout_s: float) -> None:
    """Leave the group. The client waits for the cluster's answer without a limit: it is left behind then."""
    closing = threading.Thread(target=consumer.close, daemon=True)
    closing.start()
    closing.join(timeout_s)


def find_topic(settings: ClientSettings, topic: str, timeout_s: float) -> TopicFacts:
    """What the cluster says of a topic. Raises WorkerError when there is no such topic."""
    admin = AdminClient(client_options(settings, None, {}), logger=log)
    try:
        described = admin.describe_topics(TopicCollection([topic]), request_timeout=timeout_s)[topic].result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise WorkerError(f"topic '{topic}' does not exist") from error
        raise translate(error.args[0], f"description of topic '{topic}'") or error from error
    found = described.topic_id
    halves = (found.get_most_significant_bits(), found.get_least_significant_bits())
    digits = b"".join((half % 2**64).to_bytes(8, "big") for half in halves)
    return TopicFacts(spell_topic_id(digits), len(described.partitions))
