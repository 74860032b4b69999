"""Sources that read topics from their start, with either client."""

from __future__ import annotations

from tests.conftest import eventually
from worker.kafka.contracts import Source
from worker.kafka.opening import open_source
from worker.kafka.settings import ClientSettings
from worker.records.ownership import Assigned, Change, Partition, StartOffsets
from worker.records.record_batch import RecordBatch


def subscribed(settings: ClientSettings, *topics: str) -> tuple[Source, list[Partition]]:
    """A source that has subscribed, and the partitions that changes have named to it so far."""
    source = open_source(settings)
    named: list[Partition] = []

    def react(change: Change) -> StartOffsets:
        named.extend(change.partitions)
        return dict.fromkeys(change.partitions, 0) if isinstance(change, Assigned) else {}

    source.subscribe(list(topics), react)
    return source, named


def joined_source(settings: ClientSettings, topic: str) -> Source:
    """A source whose group has taken it in."""
    source, _ = subscribed(settings, topic)

    def is_in() -> bool:
        source.poll(1, 0.1)
        return source.joined

    eventually(is_in)
    return source


def read(settings: ClientSettings, count: int, *topics: str) -> list[RecordBatch]:
    """The batches of topics that have at least ``count`` records."""
    source, _ = subscribed(settings, *topics)
    found: list[RecordBatch] = []

    def everything() -> bool:
        found.extend(source.poll(100, 0.2))
        return sum(map(len, found)) >= count

    eventually(everything)
    source.close(60)
    return found
