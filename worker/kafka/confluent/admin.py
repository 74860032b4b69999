"""Questions about topics, by confluent-kafka's admin client, and the end of a consumer in time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from confluent_kafka import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from worker.errors import KafkaRefusedError, WorkerError
from worker.kafka.confluent.errors import client_options, translated
from worker.kafka.confluent.refusals import Attempts
from worker.kafka.contracts import Committed, TopicFacts
from worker.kafka.destinations import too_few_brokers
from worker.kafka.message_sizes import TopicRules
from worker.kafka.options import spell_topic_id
from worker.kafka.settings import ClientSettings
from worker.records.ownership import Partition

log = logging.getLogger("worker.kafka")

POLL_INTERVAL_S = 0.1
ANY_TOPIC = "__consumer_offsets"  # asked for when any answer will do
_NOT_THERE = (
    KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.LEADER_NOT_AVAILABLE,
)  # fmt: skip
_MAY_NOT_ASK = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION,
)  # fmt: skip


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
    """Leave the group. The client waits for an answer without a limit: after the time-out it is left behind."""
    closing = threading.Thread(target=consumer.close, daemon=True)
    closing.start()
    closing.join(timeout_s)


class ConfluentQuestions:
    """See Questions. Every question has ``timeout_s``."""

    def __init__(self, admin: AdminClient, timeout_s: float) -> None:
        self._admin = admin
        self._timeout_s = timeout_s

    def partitions(self, topic: str) -> int | None:
        """See Questions."""
        described = _describe(self._admin, topic, self._timeout_s)
        return None if described is None else len(described.partitions)

    def comes_when_asked_for(self, topic: str, timeout_s: float) -> bool:
        """See Questions."""
        deadline = time.monotonic() + timeout_s
        while True:
            with translated(f"metadata of topic '{topic}'"):
                found = self._admin.list_topics(topic, self._timeout_s).topics[topic]
                if found.error is None and found.partitions:
                    return True
                if found.error is not None and found.error.code() not in _NOT_THERE:
                    raise KafkaException(found.error)
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_INTERVAL_S)

    def rules(self, topic: str) -> TopicRules:
        """See Questions."""
        asked = ConfigResource(ConfigResource.Type.TOPIC, topic)
        with translated(f"configuration of topic '{topic}'"):
            try:
                found = self._admin.describe_configs([asked], request_timeout=self._timeout_s)[asked].result()
            except KafkaException as error:
                if error.args[0].code() not in _MAY_NOT_ASK:
                    raise
                found = {}
        return TopicRules.of({name: each.value for name, each in found.items()})

    def create(self, topics: Mapping[str, int]) -> None:
        """See Questions."""
        if not topics:
            return
        wanted = [NewTopic(name, count) for name, count in topics.items()]
        for name, answer in self._admin.create_topics(wanted, request_timeout=self._timeout_s).items():
            with translated(f"creation of topic '{name}'"):
                try:
                    answer.result()
                except KafkaException as error:
                    if error.args[0].code() == KafkaError.INVALID_REPLICATION_FACTOR:
                        raise too_few_brokers(name) from error
                    if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                        raise

    def members(self, group_id: str) -> list[str]:
        """See Questions."""
        with translated(f"description of group '{group_id}'"):
            try:
                asked = self._admin.describe_consumer_groups([group_id], request_timeout=self._timeout_s)
                group = asked[group_id].result()
            except KafkaException as error:
                if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                    return []
                raise
        return [each.group_instance_id or each.member_id for each in group.members]

    def set_committed(self, group_id: str, offsets: Mapping[Partition, Committed]) -> None:
        """See Questions."""
        named = [TopicPartition(*partition, at.offset, at.note) for partition, at in offsets.items()]
        with translated(f"offsets of group '{group_id}'"):
            asked = [ConsumerGroupTopicPartitions(group_id, named)]
            answer = self._admin.alter_consumer_group_offsets(asked, request_timeout=self._timeout_s)[group_id].result()
            for each in answer.topic_partitions:
                if each.error is not None:
                    raise KafkaException(each.error)


@contextmanager
def questions(settings: ClientSettings, timeout_s: float) -> Iterator[ConfluentQuestions]:
    """See clients.open_questions."""
    where = f"kafka at {settings.bootstrap_servers}"
    attempts = Attempts(settings, timeout_s)
    with translated(where):
        admin = AdminClient(client_options(settings, None, {"error_cb": lambda error: None}), logger=attempts)
        # Not describe_cluster: a broker that is just coming back may answer it without brokers, which ends this
        # process.
        asked = admin.describe_topics(TopicCollection([ANY_TOPIC]), request_timeout=timeout_s)
        answer = asked[ANY_TOPIC]
    with attempts.told(admin.poll):
        while not answer.done():
            admin.poll(POLL_INTERVAL_S)  # at this call the client hands out its log
            if not answer.done() and (refusal := attempts.refusal(waiting=True)) is not None:
                raise KafkaRefusedError(f"{where}: {refusal}")
        try:
            answer.result()
        except KafkaException as error:
            if error.args[0].code() not in (*_NOT_THERE, *_MAY_NOT_ASK):
                raise
    yield ConfluentQuestions(admin, timeout_s)


def find_topic(settings: ClientSettings, topic: str, timeout_s: float) -> TopicFacts:
    """What the cluster says of a topic. Raises WorkerError when there is no such topic."""
    admin = AdminClient(client_options(settings, None, {}), logger=log)
    described = _describe(admin, topic, timeout_s)
    if described is None:
        raise WorkerError(f"topic '{topic}' does not exist")
    cluster_id = admin.cluster_id(timeout=timeout_s) or ""  # known since the first answer
    found = described.topic_id
    halves = (found.get_most_significant_bits(), found.get_least_significant_bits())
    digits = b"".join((half % 2**64).to_bytes(8, "big") for half in halves)
    return TopicFacts(spell_topic_id(digits), len(described.partitions), cluster_id)


def unowned_partitions(settings: ClientSettings, topics: Sequence[str], timeout_s: float) -> set[str] | None:
    """Partitions of these topics that no member of the group has; None while the group, or our place in it, is open.

    Raises KafkaUnavailableError.
    """
    admin = AdminClient(client_options(settings, None, {}), logger=log)
    with translated(f"description of group '{settings.group_id}'"):
        group = admin.describe_consumer_groups([settings.group_id], request_timeout=timeout_s)[
            settings.group_id
        ].result()
    if group.state != ConsumerGroupState.STABLE or settings.instance_id not in {
        member.group_instance_id for member in group.members
    }:
        return None
    every: set[str] = set()
    for topic in topics:
        described = _describe(admin, topic, timeout_s)
        every |= {f"{topic}/{number}" for number in range(0 if described is None else len(described.partitions))}
    return every - {
        f"{each.topic}/{each.partition}"
        for member in group.members
        for each in member.assignment.topic_partitions or ()
    }


def remove_static_member(settings: ClientSettings, timeout_s: float) -> None:
    """Let the group forget our instance id: it rebalances, and whoever has the id joins again.

    librdkafka can't ask for that; kafka-python does, with what ``kafka.security`` says.
    """
    from worker.kafka.kafka_python import admin as kafka_python_admin

    kafka_python_admin.remove_static_member(
        replace(settings, client="kafka-python", consumer={}, producer={}), timeout_s
    )


def _describe(admin: AdminClient, topic: str, timeout_s: float) -> Any:
    with translated(f"description of topic '{topic}'"):
        try:
            return admin.describe_topics(TopicCollection([topic]), request_timeout=timeout_s)[topic].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
    return None
