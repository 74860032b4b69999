"""Whether the committed offset belongs to this log: to this topic, not a deleted namesake, and within its range."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from worker.checkpoints.header import CheckpointHeader
from worker.member.commit_notes import noted_topic
from worker.member.partition_counts import of_this_topic
from worker.member.recovery_policy import LogFacts
from worker.records.log_fields import about

log = logging.getLogger("worker.recovery")


def checked(facts: LogFacts, newest: Callable[[str], CheckpointHeader | None]) -> LogFacts:
    """The same facts, without a committed offset where it belongs to another topic.

    ``newest`` finds the partition's newest checkpoint by its topic's id ("": of any).
    """
    partition, committed, topic_id = facts.partition, facts.committed, facts.topic.id
    if committed is None:
        return facts
    was = noted_topic(facts.note, facts.topic.cluster_id)  # empty when nobody knows, as where an operator has set it
    if was and topic_id and was != topic_id:
        log.warning(
            "%s: committed offset %d belongs to a deleted topic of the same name (id %s, now %s); reading all of the "
            "new one", partition, committed, was, topic_id, extra=about(partition, committed),
        )  # fmt: skip
        return replace(facts, committed=None)
    if committed < facts.begin:
        log.warning(
            "%s: offsets %d to %d were deleted from the log before they were read; continuing at %d",
            partition, committed, facts.begin, facts.begin, extra=about(partition, committed),
        )  # fmt: skip
    if committed <= facts.end:
        if facts.lost:
            log.warning(
                "%s: the group had read beyond the log's end %d: the cluster has lost records; continuing at its end",
                partition, facts.end, extra=about(partition, facts.end),
            )  # fmt: skip
        return facts
    if not was and _of_a_deleted_topic(newest(""), newest(topic_id), facts):
        log.warning(
            "%s: committed offset %d belongs to a deleted topic of the same name, the new one ends at %d; reading all "
            "of it", partition, committed, facts.end, extra=about(partition, committed),
        )  # fmt: skip
        return replace(facts, committed=None)
    log.warning(
        "%s: committed offset %d lies beyond the log's end %d: the cluster has lost records; continuing at its end",
        partition, committed, facts.end, extra=about(partition, committed),
    )  # fmt: skip
    return facts


def _of_a_deleted_topic(newest: CheckpointHeader | None, ours: CheckpointHeader | None, facts: LogFacts) -> bool:
    """Whether the checkpoints here are of another topic of this name: then the committed offset is, too.

    A checkpoint of this topic at its log's start only shows that another start came to the same result.
    """
    if newest is None or of_this_topic(newest, facts.topic.id):
        return False
    return ours is None or ours.next_offset <= facts.begin
