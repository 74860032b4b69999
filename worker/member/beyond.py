"""Checkpoints beyond a partition's committed offset: there are none, unless records were lost or offsets set back.

They would be believed again once the committed offset has passed them. If states since then followed from the log
alone, they are right then, too. But if they hold records that no log has any more, or states that have since developed
differently (started at zero by policy, or under other rules), nobody could tell later: such checkpoints are deleted
now.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from worker.checkpoints.contracts import Entry, Store
from worker.errors import CheckpointUnusableError, StoreUnavailableError
from worker.member.partition_counts import Look, of_this_topic
from worker.member.recovery_policy import LogFacts

log = logging.getLogger("worker.recovery")


def delete_beyond(
    store: Store, facts: LogFacts, entries: Sequence[Entry], look: Look, rules: str, *, another_way: bool
) -> None:
    """``entries`` are those beyond, newest first. ``another_way``: from this start on, states develop differently than
    before.

    From the first checkpoint written under other ``rules`` on, they already did before. Raises StoreUnavailableError: a
    checkpoint that can't be deleted now must not be forgotten.
    """
    for entry in reversed(entries):
        try:
            header = look(entry)
        except CheckpointUnusableError:
            continue
        if not of_this_topic(header, facts.topic.id):
            continue
        found = header.identity.rules
        another_way = another_way or bool(found and rules and found != rules)
        if header.next_offset > facts.end:
            why = f"it has seen records that the cluster has lost: the log of {facts.partition} ends at {facts.end}"
        elif another_way:
            why = f"it is beyond the committed offset {facts.committed}, and its states no longer match what follows"
        else:
            continue
        log.warning("checkpoint deleted: %s: %s", entry, why)
        try:
            store.delete(entry)
        except OSError as error:
            raise StoreUnavailableError(f"can't delete {entry}: {error}") from error
