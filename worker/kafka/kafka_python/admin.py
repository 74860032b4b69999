"""Questions to the cluster and creation of topics, by kafka-python's admin client."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from kafka import KafkaAdminClient, errors
from kafka.admin import ConfigResource, ConfigResourceType, MemberToRemove
from kafka.protocol.metadata import MetadataRequest

from worker.errors import KafkaUnavailableError, WorkerError
from worker.kafka.contracts import Committed, TopicFacts
from worker.kafka.destinations import too_few_brokers
from worker.kafka.kafka_python.errors import client_options, open_client, translated
from worker.kafka.kafka_python.network import RefusedError
from worker.kafka.kafka_python.offsets import with_notes
from worker.kafka.message_sizes import TopicRules
from worker.kafka.options import spell_topic_id
from worker.kafka.settings import ClientSettings, instance_id_taken
from worker.records.ownership import Partition

Answer = TypeVar("Answer")
POLL_INTERVAL_S = 0.1
NO_TOPIC_ID = uuid.UUID(int=0)


class KafkaPythonQuestions:
    """See Questions. Every question has ``timeout_s``."""

    def __init__(self, admin: Any, timeout_s: float) -> None:
        self._admin = admin
        self._timeout_s = timeout_s

    def partitions(self, topic: str) -> int | None:
        """See Questions."""
        return _partitions(self._admin, topic, self._timeout_s)

    def comes_when_asked_for(self, topic: str, timeout_s: float) -> bool:
        """See Questions."""
        deadline = time.monotonic() + timeout_s
        with translated(f"metadata of topic '{topic}'"):
            while not self._asked_as_producers_do(topic):
                if time.monotonic() > deadline:
                    return False
                time.sleep(POLL_INTERVAL_S)
        return True

    def rules(self, topic: str) -> TopicRules:
        """See Questions."""
        asked = ConfigResource(ConfigResourceType.TOPIC, topic)
        with translated(f"configuration of topic '{topic}'"):
            try:
                found = self._admin.describe_configs([asked], config_filter="all").get("topic", {}).get(topic, {})
            except (errors.AuthorizationError, errors.UnsupportedVersionError):
                found = {}  # nor does the client report its own errors: then there is no configuration
        return TopicRules.of({name: each["value"] for name, each in found.items()})

    def create(self, topics: Mapping[str, int]) -> None:
        """See Questions."""
        for name, count in topics.items():
            with translated(f"creation of topic '{name}'"), suppress(errors.TopicAlreadyExistsError):
                try:
                    wanted = {name: {"num_partitions": count}}
                    self._admin.create_topics(wanted, timeout_ms=round(self._timeout_s * 1000))
                except errors.InvalidReplicationFactorError as error:
                    raise too_few_brokers(name) from error

    def members(self, group_id: str) -> list[str]:
        """See Questions."""

        def ask() -> list[str]:
            group = self._admin.describe_groups([group_id])[group_id]
            if group["error"] is not None:  # [Error 69] NameOfItsClass: words
                error = getattr(errors, group["error"].partition("] ")[2].partition(":")[0], errors.UnknownError)
                if error is not errors.GroupIdNotFoundError:
                    raise error(group["error"])
            return [each.get("group_instance_id") or each["member_id"] for each in group["members"]]

        with translated(f"description of group '{group_id}'"):
            return _from_any_broker(self._admin, ask, self._timeout_s)

    def set_committed(self, group_id: str, offsets: Mapping[Partition, Committed]) -> None:
        """See Questions."""
        notes = {partition: at.note for partition, at in offsets.items()}
        wanted = with_notes({partition: at.offset for partition, at in offsets.items()}, notes)

        def ask() -> None:
            for partition, error in self._admin.alter_group_offsets(group_id, wanted).items():
                if error is not errors.NoError:
                    raise error(f"{partition.topic}/{partition.partition}")

        with translated(f"offsets of group '{group_id}'"):
            _from_any_broker(self._admin, ask, self._timeout_s)

    def _asked_as_producers_do(self, topic: str) -> bool:
        wanted = MetadataRequest.MetadataRequestTopic(name=topic)
        request = MetadataRequest(topics=[wanted], allow_auto_topic_creation=True)
        answer = self._admin._manager.run(self._admin._manager.send, request)
        error = errors.for_code(answer.topics[0].error_code)
        if not issubclass(error, (errors.NoError, errors.UnknownTopicOrPartitionError, errors.LeaderNotAvailableError)):
            raise error(topic)
        return bool(error is errors.NoError and answer.topics[0].partitions)


@contextmanager
def questions(settings: ClientSettings, timeout_s: float) -> Iterator[KafkaPythonQuestions]:
    """See clients.open_questions."""
    with _admin(settings, timeout_s) as admin:
        yield KafkaPythonQuestions(admin, timeout_s)


def find_topic(settings: ClientSettings, topic: str, timeout_s: float) -> TopicFacts:
    """What the cluster says of a topic. Raises WorkerError when there is no such topic."""
    with _admin(settings, timeout_s) as admin:
        described = _describe(admin, topic, timeout_s)
        cluster_id = admin._manager.cluster.cluster_id or ""
    if described is None:
        raise WorkerError(f"topic '{topic}' does not exist")
    topic_id = uuid.UUID(str(described.get("topic_id", NO_TOPIC_ID)))  # brokers before 2.8 tell none
    return TopicFacts(spell_topic_id(topic_id.bytes), len(described["partitions"]), cluster_id)


def unowned_partitions(settings: ClientSettings, topics: Sequence[str], timeout_s: float) -> set[str] | None:
    """Partitions of these topics that no member of the group has; None while the group, or our place in it, is open.

    Raises KafkaUnavailableError, WorkerError.
    """
    with _admin(settings, timeout_s) as admin:
        with translated(f"description of group '{settings.group_id}'"):
            group = admin.describe_groups([settings.group_id])[settings.group_id]
        members = group["members"]
        if not all(_tells_instance_id(each) for each in members):
            return set()  # where owners can't be determined, we don't look for ours again and again
        if group["group_state"] != "Stable" or settings.instance_id not in {
            each["group_instance_id"] for each in members
        }:
            return None
        every = {(topic, number) for topic in topics for number in range(_partitions(admin, topic, timeout_s) or 0)}
    owned = {
        (assigned["topic"], number)
        for member in members
        for assigned in (member["member_assignment"] or {}).get("assigned_partitions", ())
        for number in assigned["partitions"]
    }
    return {f"{topic}/{number}" for topic, number in every - owned}


def holder_of_instance_id(settings: ClientSettings, timeout_s: float) -> str | None:
    """The member id that has our instance id, as the group's coordinator knows it now.

    Raises KafkaUnavailableError, WorkerError when these brokers can't say.
    """
    with _admin(settings, timeout_s) as admin, translated(f"description of group '{settings.group_id}'"):
        try:
            members = admin.describe_groups([settings.group_id])[settings.group_id]["members"]
        except errors.GroupIdNotFoundError:
            return None
    if not all(_tells_instance_id(each) for each in members):
        raise instance_id_taken(settings)  # so the group has said; these brokers can't say who it is
    return next((each["member_id"] for each in members if each["group_instance_id"] == settings.instance_id), None)


def remove_static_member(settings: ClientSettings, timeout_s: float) -> None:
    """Let the group forget our instance id: it rebalances, and whoever has the id joins again."""
    with _admin(settings, timeout_s) as admin, translated(f"leaving group '{settings.group_id}'"):
        admin.remove_group_members(settings.group_id, [MemberToRemove(group_instance_id=settings.instance_id)])


def leave_group(settings: ClientSettings, member_id: str, timeout_s: float) -> None:
    """Let the group forget this member, from another connection than its own."""
    with _admin(settings, timeout_s) as admin, translated(f"leaving group '{settings.group_id}'"):
        admin.remove_group_members(settings.group_id, [MemberToRemove(member_id=member_id)])


def is_reachable(settings: ClientSettings, timeout_s: float) -> bool:
    """Whether a new connection to the cluster gets an answer now."""
    try:
        with _admin(settings, timeout_s):
            return True
    except KafkaUnavailableError:
        return False


def _tells_instance_id(member: Mapping[str, Any]) -> bool:
    """Brokers before 2.4 do not, in the description of a group."""
    return "group_instance_id" in member


@contextmanager
def _admin(settings: ClientSettings, timeout_s: float) -> Iterator[Any]:
    limits = {"bootstrap_timeout_ms": timeout_s * 1000, "request_timeout_ms": timeout_s * 1000}
    admin = open_client(KafkaAdminClient, client_options(settings, None, limits))
    try:
        yield admin
    finally:
        admin.close()


def _partitions(admin: Any, topic: str, timeout_s: float) -> int | None:
    described = _describe(admin, topic, timeout_s)
    return None if described is None else len(described["partitions"])


def _describe(admin: Any, topic: str, timeout_s: float) -> dict[str, Any] | None:
    with translated(f"description of topic '{topic}'"):
        for described in _from_any_broker(admin, lambda: admin.describe_topics([topic]), timeout_s):
            error = errors.for_code(described["error_code"])
            if error is errors.NoError:
                return dict(described)
            if error is not errors.UnknownTopicOrPartitionError:
                raise error(topic)
    return None


def _from_any_broker(admin: Any, ask: Callable[[], Answer], timeout_s: float) -> Answer:
    """Ask again, and with it another broker, while the one that was asked does not answer."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return ask()
        except errors.KafkaError as error:
            if (refusal := admin._manager.locked_out()) is not None:
                raise RefusedError(str(refusal)) from error
            if not error.retriable or time.monotonic() > deadline:
                raise
        time.sleep(POLL_INTERVAL_S)
