"""Questions about a confluent-kafka consumer that is silent, or has been removed from its group."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from worker.errors import KafkaUnavailableError
from worker.kafka.confluent.admin import answers, is_reachable
from worker.kafka.confluent.errors import client_options, translated
from worker.kafka.confluent.offsets import log_ranges
from worker.kafka.settings import ClientSettings
from worker.records.ownership import Partition

log = logging.getLogger("worker.kafka")

QUESTION_TIMEOUT_S = 2.0  # for what the watchdog asks, at most every LOOK_INTERVAL_S
JOIN_LIMIT_S = 330.0  # longer than the group waits for a member that is busy (max.poll.interval.ms)


def looks_stuck(
    consumer: Any, settings: ClientSettings, topic: str, positions: Mapping[Partition, int], without_a_group_s: float
) -> bool:
    """One look: the cluster answers others but not this client, or this client reads nothing new, or joins no group.

    Seen once, after a broker's restart: a consumer without a connection that never made another. A cluster that is
    away is no reason: a new client would change nothing, and this one may yet keep its place.
    """
    try:
        ends = log_ranges(consumer, settings, positions, QUESTION_TIMEOUT_S)
    except KafkaUnavailableError:
        return is_reachable(settings, topic, QUESTION_TIMEOUT_S)
    if not answers(consumer, topic, QUESTION_TIMEOUT_S) or without_a_group_s > JOIN_LIMIT_S:
        return is_reachable(settings, topic, QUESTION_TIMEOUT_S)
    return any(ends[partition][1] > position for partition, position in positions.items())


def holder_of_instance_id(settings: ClientSettings, timeout_s: float) -> str | None:
    """The member id that has our instance id, as the group's coordinator knows it now. Raises KafkaUnavailableError."""
    group = _described(AdminClient(client_options(settings, None, {}), logger=log), settings.group_id, timeout_s)
    members = [] if group is None else group.members
    return next((each.member_id for each in members if each.group_instance_id == settings.instance_id), None)


def _described(admin: Any, group_id: str, timeout_s: float) -> Any:
    """None for a group that nobody is in."""
    with translated(f"description of group '{group_id}'"):
        try:
            return admin.describe_consumer_groups([group_id], request_timeout=timeout_s)[group_id].result()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return None
            raise
