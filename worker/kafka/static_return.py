"""Looks after a static member that has come back: did it die between the two rounds of a rebalance?

Rebalances are cooperative (KIP-429): in the first round a member gives partitions back, in the second they get their
next owner, and the member that gave them back asks for the second. If it dies in between and comes back under its
instance id (KIP-345), the group gives it what the first round had left it and considers the rebalance done: nobody asks
for the second round, and the partitions stay without an owner. So a member that comes back checks whether all
partitions have an owner. If not, it removes itself from the group: the others rebalance, and it joins again like any
member.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from types import ModuleType

from worker.errors import KafkaUnavailableError
from worker.kafka.settings import ClientSettings
from worker.records.log_fields import LISTED_LIMIT

log = logging.getLogger("worker.kafka")

LOOK_INTERVAL_S = 5.0  # a second round that is under way is over by then
LONGEST_INTERVAL_S = 60.0  # between looks that tell nothing
QUESTION_TIMEOUT_S = 10.0
REJOINS_LIMIT = 3  # a partition still without an owner then has another reason, and each rebalance stops our partitions
NAMED_LIMIT = 5  # partitions that a line names
REMEDY = "do all members of this group read the same topics? partitions that nobody reads get no outputs"


class StaticReturn:
    """Looks on a thread of its own, from each ``begin`` until the group has once assigned everything."""

    def __init__(self, settings: ClientSettings, interval_s: float = LOOK_INTERVAL_S) -> None:
        self._settings, self._interval_s = settings, interval_s
        self._ended = threading.Event()
        self._cluster = _questions_to_the_cluster(settings)

    def begin(self, topics: Sequence[str]) -> None:
        """A consumer has just subscribed to these topics; without an instance id nothing is done."""
        if self._settings.instance_id is None:
            return
        self.close()
        self._ended = threading.Event()
        # A daemon: the end of the process does not wait for a question that is on its way.
        threading.Thread(target=self._look, args=(topics, self._ended), name="static-return", daemon=True).start()

    def close(self) -> None:
        """Ask nothing any more. Safe to call twice."""
        self._ended.set()

    def _look(self, topics: Sequence[str], ended: threading.Event) -> None:
        before: set[str] = set()
        rejoins, wait_s = 0, self._interval_s
        while not ended.wait(wait_s):
            try:
                unowned = self._cluster.unowned_partitions(self._settings, topics, QUESTION_TIMEOUT_S)
                if unowned is not None and not unowned:
                    return
                stuck = (unowned or set()) & before
                before, wait_s = unowned or set(), self._interval_s
                if stuck and rejoins == REJOINS_LIMIT:
                    told = "kafka: no member has %s after %d rebalances: %s"
                    log.error(told, _some(stuck), rejoins, REMEDY, extra={"partitions": sorted(stuck)[:LISTED_LIMIT]})
                    return
                if stuck and not ended.is_set():
                    told = "kafka: no member has %s: joining again, so that the group rebalances"
                    log.warning(told, _some(stuck), extra={"partitions": sorted(stuck)[:LISTED_LIMIT]})
                    self._cluster.remove_static_member(self._settings, QUESTION_TIMEOUT_S)
                    before, rejoins = set(), rejoins + 1
            except KafkaUnavailableError as error:
                log.debug("kafka: %s", error)
            except Exception as error:  # noqa: BLE001 (a missing right or an old broker: the stream continues)
                wait_s = min(2 * wait_s, LONGEST_INTERVAL_S)
                log.warning("kafka: can't see whether all partitions have an owner: %s", error)


def _some(partitions: set[str]) -> str:
    named = ", ".join(sorted(partitions)[:NAMED_LIMIT])
    return named if len(partitions) <= NAMED_LIMIT else f"{named} and {len(partitions) - NAMED_LIMIT} more"


def _questions_to_the_cluster(settings: ClientSettings) -> ModuleType:
    if settings.client == "confluent":
        from worker.kafka.confluent import admin as confluent_admin

        return confluent_admin
    from worker.kafka.kafka_python import admin as kafka_python_admin

    return kafka_python_admin
