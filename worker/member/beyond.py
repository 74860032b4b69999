"""Checkpoints beyond a partition's committed offset: there are none, unless records were lost or offsets set back.

They would be believed again once the committed offset has passed them. Where nothing but the log has decided since,
they are right then, too. Of records that no log has any more, or of states that have taken another way meanwhile (begun
at zero by policy, gone on by other rules), nobody could tell it later: such checkpoints go, now.
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
    """``entries`` are those beyond, newest first. ``another_way``: states don't go on as they did before this start.

    From the first one that was written by other ``rules`` on, they did not before, either. Raises
    StoreUnavailableError: what can't be deleted now must not be forgotten.
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
