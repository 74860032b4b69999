"""Which outputs can be written. A record with others gets a dead letter instead.

Rule of this file: no I/O; sizes are those of the encoded messages, without the framing that the client adds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from worker.codecs.dead_letters import RefusedLetter
from worker.records.arrays import Index
from worker.records.events import Events, Refusal
from worker.records.messages import Messages
from worker.records.ownership import Partition
from worker.records.refusals import by_record

TOO_LARGE, REFUSED = "output_too_large", "output_refused"


@dataclass(frozen=True, slots=True)
class Unwritable:
    """Which of a record's messages the cluster refuses.

    ``why``: its outputs are refused, ``too_large``: for their size. ``letter``: what was refused of its dead letter.
    """

    why: str | None = None
    too_large: bool = False
    letter: RefusedLetter | None = None


def fitting(
    events: Events,
    outputs: Messages,
    emitted: Index,
    limit_bytes: int,
    unwritable: Mapping[tuple[Partition, int], Unwritable],
) -> tuple[Messages, list[Refusal]]:
    """The outputs that can be written, and a refusal for each record with others. ``emitted``: their events."""
    large = too_large(outputs, limit_bytes)
    marked = of_these(events, unwritable) if unwritable else {}
    refused = {record: why for record, why in marked.items() if why.why is not None}
    if not large and not refused:
        return outputs, []
    keep = ~np.isin(outputs.records, list(refused))
    keep[large] = False
    found = [
        Refusal(record, TOO_LARGE if why.too_large else REFUSED, f"its outputs can't be written: {why.why}")
        for record, why in refused.items()
    ]
    if large:
        largest = max(map(outputs.bytes_of, large))
        reason = f"an output of {largest} bytes can't be written: the producer, or its topic, takes {limit_bytes}"
        others = by_record(events, np.unique(np.arange(len(events))[emitted][large]), TOO_LARGE, reason)
        found += [each for each in others if each.record not in refused]
    return outputs.chosen(np.flatnonzero(keep)), found


def too_large(messages: Messages, limit_bytes: int) -> list[int]:
    """Which messages hold more than ``limit_bytes``."""
    return [index for index in range(len(messages)) if messages.bytes_of(index) > limit_bytes]


def one_each(first: Iterable[Refusal], others: Iterable[Refusal]) -> list[Refusal]:
    """One refusal for each record, in order: where a record has several, the first, which names the others."""
    found = {refusal.record: refusal for refusal in first}
    for other in others:
        known = found.get(other.record)
        found[other.record] = (
            other if known is None else known._replace(reason=f"{known.reason}; and {other.error}: {other.reason}")
        )
    return sorted(found.values())


def of_these(events: Events, unwritable: Mapping[tuple[Partition, int], Unwritable]) -> dict[int, Unwritable]:
    """What is known of these records, by their index."""
    partition, offsets = events.batch.partition, events.batch.offsets
    return {
        offsets.index(offset): why
        for (its_partition, offset), why in unwritable.items()
        if its_partition == partition and offset in offsets
    }
