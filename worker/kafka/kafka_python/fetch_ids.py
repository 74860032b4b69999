"""kafka-python's fetches, by topic ids in place of names (Fetch 13 in place of 12, Kafka 3.1, KIP-516).

By name the client continues, at its old position, in whatever topic has that name now: the topic may have been deleted
and created again. By id it gets no record of another topic before it has learnt the new id, which topic_ids then
notices. An older broker, and one that tells no ids, is asked by names as before.

Rule of this file: what changes its requests runs on the client's own thread, inside its fetcher.
"""

from __future__ import annotations

import uuid
from typing import Any

from kafka import errors

from worker.kafka.options import spell_topic_id

BY_NAMES, BY_IDS = 12, 13
NONE = uuid.UUID(int=0)
_ANOTHER_ID = (errors.UnknownTopicIdError.errno, errors.InconsistentTopicIdError.errno)


class FetchesByTopicId:
    """Hooks itself into one consumer's fetcher."""

    def __init__(self, consumer: Any) -> None:
        self._cluster, self._fetcher = consumer._cluster, consumer._fetcher
        self._subscriptions = consumer._subscription
        self._ids: dict[str, uuid.UUID] = {}  # of open sessions; what was learnt is not forgotten
        self._create, self._handle = self._fetcher._create_fetch_requests, self._fetcher._handle_fetch_response
        self._fetcher._create_fetch_requests = self._requests
        self._fetcher._handle_fetch_response = self._response

    def topic_id(self, name: str) -> str:
        """What the client knows; empty where it knows none."""
        found = self._cluster.topic_id(name)
        return "" if found is None else spell_topic_id(found.bytes)

    def learn(self) -> None:
        """Soon, without waiting: the client may not know what the cluster says."""
        self._cluster.request_update()

    def _requests(self) -> Any:
        names = {partition.topic for partition in self._subscriptions.assigned_partitions()}
        known = {name: self._cluster.topic_id(name) or self._ids.get(name, NONE) for name in names}
        ids = {name: self._ids.get(name, NONE) if found == NONE else found for name, found in known.items()}
        if ids != self._ids:
            self._ids = ids
            # A session is about the topics that it began with.
            for session in self._fetcher._session_handlers.values():
                session.next_metadata = session.next_metadata.next_close_existing()
        requests = self._create()
        for request, _ in requests.values():
            topics = (*request.topics, *request.forgotten_topics_data)
            if all(ids.get(topic.topic, NONE) != NONE for topic in topics):
                request._max_version = BY_IDS
                for topic in topics:
                    topic.topic_id = ids[topic.topic]
        return requests

    def _response(self, node_id: Any, offsets: Any, sent_s: float, response: Any) -> Any:
        if response.API_VERSION >= BY_IDS:
            names = {topic_id: name for name, topic_id in self._ids.items()}
            # Fetches sent before another id was learnt are of a topic that is gone.
            response.responses = [topic for topic in response.responses if topic.topic_id in names]
            for topic in response.responses:
                topic.topic = names[topic.topic_id]
                for partition in topic.partitions:
                    if partition.error_code in _ANOTHER_ID:  # which the client does not know
                        partition.error_code = errors.UnknownTopicOrPartitionError.errno
        return self._handle(node_id, offsets, sent_s, response)
