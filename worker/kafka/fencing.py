"""The group says that another member has our instance id. Is there one, or was it ourselves?

Rule of this file: no I/O and no clock; time is an argument.

A static member whose session expired while the cluster was away continues, for a moment, without the name that the
group knows it by. librdkafka then treats the group's answer as fatal (https://github.com/confluentinc/librdkafka, issue
3437), though there is no other member. So we look up in the group's description who has the instance id.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from worker.errors import KafkaUnavailableError
from worker.kafka.settings import ClientSettings, instance_id_taken

log = logging.getLogger("worker.kafka")

QUESTION_TIMEOUT_S = 2.0
REMEMBERED_IDS = 100  # names that the group has given us
STILL_THERE = 1.5  # sessions; a member whose process is gone is removed after one

Holder = Callable[[ClientSettings, float], str | None]  # member id that has the instance id now; raises when unknown


class Fencing:
    """Handles the time from the moment the client was told that it is fenced until it is clear by whom."""

    def __init__(self, settings: ClientSettings, holder: Holder) -> None:
        self._settings, self._holder = settings, holder
        self._ours: deque[str] = deque(maxlen=REMEMBERED_IDS)
        self._suspect: tuple[str, float] | None = None  # who else has it, and since when we have seen that

    def note(self, member_id: str | None) -> None:
        """The name under which we are in the group now; nothing when it is empty."""
        if member_id and (not self._ours or self._ours[-1] != member_id):
            self._ours.append(member_id)

    def settle(self, now_s: float, member_id: str | None) -> None:
        """Returns when no other process has the instance id: join again, with a new client.

        ``member_id``: the name under which we were fenced. Without one, an unknown member may still be ours, from a
        join whose answer was lost: then it disappears with its session. Raises WorkerError when another process has the
        id, KafkaUnavailableError while this is not known: ask again.
        """
        self.note(member_id)
        said = f"fenced as instance id '{self._settings.instance_id}'"
        holder = self._holder(self._settings, QUESTION_TIMEOUT_S)
        if holder is None or holder in self._ours:
            log.warning("kafka: %s, but no other process has it: joining again with a new client", said)
            self._suspect = None
            return
        if member_id:
            raise instance_id_taken(self._settings)
        if self._suspect is None or self._suspect[0] != holder:
            log.warning("kafka: %s: checking whether '%s' is another process", said, holder)
            self._suspect = holder, now_s
        elif now_s - self._suspect[1] > STILL_THERE * self._settings.session_s:
            raise instance_id_taken(self._settings)
        raise KafkaUnavailableError(f"kafka: {said}: checking whether '{holder}' is another process")
