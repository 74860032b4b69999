"""The ids that librdkafka gives topics: it says them in its log and nowhere else.

It continues at the old position of a topic that was created again (its source calls that an open task). From Kafka 3.1
on it reads by the id, so it logs a new id before it delivers a record of that topic, and the polling thread sees both
in this order. Where its log does not show the ids, the cluster is asked now and then.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from worker.errors import KafkaUnavailableError
from worker.kafka.confluent.admin import find_topic
from worker.kafka.confluent.errors import translated
from worker.kafka.options import spell_topic_id
from worker.kafka.settings import ClientSettings
from worker.kafka.topic_ids import LOOK_INTERVAL_S, TopicIds
from worker.records.ownership import Partition

log = logging.getLogger("worker.kafka")

QUESTION_TIMEOUT_S = 2.0
SAID_IN = "metadata"  # a part of the client's log
_CHANGED = re.compile(r"Topic (\S+) changed id from \S+ to ([\w+/]{22})$")


def saying_ids(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a consumer whose log shows what ``TopicIdLog`` listens for, beside what its user wants there."""
    return {**options, "debug": ",".join(filter(None, (options.get("debug"), SAID_IN)))}


class TopicIdLog:
    """For a consumer's ``logger=``: keeps the ``ids`` that it shows. Other lines are passed on."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}
        self.hand_on: Callable[..., object] = log.log

    def log(self, level: int, text: str, *words: str) -> None:
        """One line of the client's."""
        if level > logging.DEBUG:
            self.hand_on(level, text, *words)
            return
        log.log(level, text, *words)
        if (found := _CHANGED.search(words[-1] if words else text)) is not None:
            self.ids[found[1]] = spell_topic_id(base64.b64decode(found[2] + "=="))


class ConfluentTopicIds(TopicIds):
    """``said``: the log of the consumer that reads now."""

    def __init__(self, settings: ClientSettings, monotonic: Callable[[], float]) -> None:
        self.said = TopicIdLog()
        self._settings, self._monotonic = settings, monotonic
        self._answers: dict[str, str] = {}
        self._ask_at_s = monotonic()
        super().__init__(lambda name: self.said.ids.get(name) or self._answers.get(name, ""))

    def look(self, consumer: Any) -> tuple[Partition, ...]:
        """Partitions of topics that were created again. Raises KafkaUnavailableError, WorkerError."""
        self._ask()
        doubtful = self.doubtful()
        anew = self.made_anew(doubtful, self._now)
        for name in doubtful.difference(partition.topic for partition in anew):  # the client's knowledge is older
            with translated(f"metadata of topic '{name}'"):
                consumer.list_topics(name, QUESTION_TIMEOUT_S)
        return anew

    def _ask(self) -> None:
        unsaid = self.names().difference(self.said.ids)
        if unsaid and self._monotonic() >= self._ask_at_s:
            self._ask_at_s = self._monotonic() + LOOK_INTERVAL_S
            with suppress(KafkaUnavailableError):
                self._answers = {name: self._now(name) for name in unsaid}

    def _now(self, name: str) -> str:
        return find_topic(self._settings, name, QUESTION_TIMEOUT_S).id
