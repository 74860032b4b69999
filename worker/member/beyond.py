"""Checkpoints beyond a partition's committed offset: there are none, unless records were lost or offsets set back.

In tasks that generate a checkpoint is beyond it, too, where it has read further than the group had.

They would be believed again once the committed offset has passed them. If states since then followed from the log
alone, they are right then, too. But if they hold records that no log has any more, or states that have since developed
differently (started at zero by policy, or under other rules), nobody could tell later: such checkpoints are deleted
now.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from worker.checkpoints.contracts import Entry, Store
from worker.checkpoints.header import read_to
from worker.errors import CheckpointUnusableError, StoreUnavailableError
from worker.member.partition_counts import Look, of_this_topic
from worker.member.recovery_policy import LogFacts
from worker.records.log_fields import about
from worker.records.states import PartitionState

log = logging.getLogger("worker.recovery")


def reads_beyond(facts: LogFacts, entry: Entry, look: Look) -> bool:
    """Whether a checkpoint at or below C1 has read further than the group. Raises StoreUnavailableError."""
    try:
        return look(entry).read_to > facts.read_to
    except CheckpointUnusableError:
        return False


def too_far(facts: LogFacts, state: PartitionState) -> str | None:
    """Why these states have seen more than is answered, if they have."""
    if read_to(state) > facts.read_to:
        return f"it has read further than the group had, to {facts.read_to}"
    unfinished = {each.offset for each in state.unfinished}
    finished = [offset for offset in facts.owed if offset < read_to(state) and offset not in unfinished]
    return f"it has seen the record at {finished[0]}, which is not answered" if finished else None


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
        if header.read_to > facts.end:
            why = f"it has seen records that the cluster has lost: the log of {facts.partition} ends at {facts.end}"
        elif another_way:
            why = f"it is beyond the committed offset {facts.committed}, and its states no longer match what follows"
        else:
            continue
        log.warning("checkpoint deleted: %s: %s", entry, why, extra=about(facts.partition, entry.next_offset))
        try:
            store.delete(entry)
        except OSError as error:
            raise StoreUnavailableError(f"can't delete {entry}: {error}") from error
