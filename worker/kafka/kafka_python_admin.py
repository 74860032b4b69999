"""Questions to the cluster and creation of topics, by kafka-python's admin client, whatever reads and writes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer, errors
from kafka.admin import MemberToRemove

from worker.errors import KafkaUnavailableError, WorkerError
from worker.kafka.contracts import TopicFacts
from worker.kafka.kafka_python_errors import client_options, open_client, translated
from worker.kafka.options import spell_topic_id
from worker.kafka.settings import ClientSettings

POLL_INTERVAL_S = 0.1


def create_missing_topics(settings: ClientSettings, topics: Mapping[str, int], timeout_s: float) -> None:
    """See clients.ensure_topics."""
    deadline = time.monotonic() + timeout_s
    with _admin(settings, timeout_s) as admin:
        missing = {name: count for name, count in topics.items() if _partitions(admin, name) is None}
        for name, count in missing.items():
            with translated(f"creation of topic '{name}'"), suppress(errors.TopicAlreadyExistsError):
                admin.create_topics({name: {"num_partitions": count}}, timeout_ms=round(timeout_s * 1000))
        for name, count in missing.items():
            while (_partitions(admin, name) or 0) < count:
                if time.monotonic() > deadline:
                    raise KafkaUnavailableError(f"topic '{name}' is not ready after {timeout_s:g} s")
                time.sleep(POLL_INTERVAL_S)


def count_partitions(settings: ClientSettings, topic: str, timeout_s: float) -> int | None:
    """See clients.partition_count."""
    with _admin(settings, timeout_s) as admin:
        return _partitions(admin, topic)


def comes_when_asked_for(settings: ClientSettings, topic: str, timeout_s: float) -> bool:
    """Whether a topic is there once it was asked for as producers do: a broker may be set up to create it then."""
    options = client_options(settings, None, {"max_block_ms": timeout_s * 1000, "allow_auto_create_topics": True})
    producer = open_client(KafkaProducer, options)
    try:
        with translated(f"partitions of topic '{topic}'"):
            return bool(producer.partitions_for(topic))
    except KafkaUnavailableError:
        return False
    finally:
        producer.close(timeout=timeout_s)


def find_topic(settings: ClientSettings, topic: str, timeout_s: float) -> TopicFacts:
    """What the cluster says of a topic. Raises WorkerError when there is no such topic."""
    with _admin(settings, timeout_s) as admin:
        described = _describe(admin, topic)
    if described is None:
        raise WorkerError(f"topic '{topic}' does not exist")
    return TopicFacts(spell_topic_id(uuid.UUID(str(described["topic_id"])).bytes), len(described["partitions"]))


def unowned_partitions(settings: ClientSettings, topics: Sequence[str], timeout_s: float) -> set[str] | None:
    """Partitions of these topics that no member of the group has; None while the group, or our place in it, is open.

    Raises KafkaUnavailableError, WorkerError.
    """
    with _admin(settings, timeout_s) as admin:
        with translated(f"description of group '{settings.group_id}'"):
            group = admin.describe_groups([settings.group_id])[settings.group_id]
        members = group["members"]
        if group["group_state"] != "Stable" or settings.instance_id not in {
            each["group_instance_id"] for each in members
        }:
            return None
        every = {(topic, number) for topic in topics for number in range(_partitions(admin, topic) or 0)}
    owned = {
        (assigned["topic"], number)
        for member in members
        for assigned in (member["member_assignment"] or {}).get("assigned_partitions", ())
        for number in assigned["partitions"]
    }
    return {f"{topic}/{number}" for topic, number in every - owned}


def remove_static_member(settings: ClientSettings, timeout_s: float) -> None:
    """Let the group forget our instance id: it rebalances, and whoever has the id joins again."""
    with _admin(settings, timeout_s) as admin, translated(f"leaving group '{settings.group_id}'"):
        admin.remove_group_members(settings.group_id, [MemberToRemove(group_instance_id=settings.instance_id)])


def is_reachable(settings: ClientSettings, timeout_s: float) -> bool:
    """Whether a new connection to the cluster gets an answer now."""
    try:
        with _admin(settings, timeout_s):
            return True
    except KafkaUnavailableError:
        return False


@contextmanager
def _admin(settings: ClientSettings, timeout_s: float) -> Iterator[Any]:
    options = client_options(settings, None, {"bootstrap_timeout_ms": timeout_s * 1000})
    admin = open_client(KafkaAdminClient, options)
    try:
        yield admin
    finally:
        admin.close()


def _partitions(admin: Any, topic: str) -> int | None:
    described = _describe(admin, topic)
    return None if described is None else len(described["partitions"])


def _describe(admin: Any, topic: str) -> dict[str, Any] | None:
    with translated(f"description of topic '{topic}'"):
        for described in admin.describe_topics([topic]):
            error = errors.for_code(described["error_code"])
            if error is errors.NoError:
                return dict(described)
            if error is not errors.UnknownTopicOrPartitionError:
                raise error(topic)
    return None
