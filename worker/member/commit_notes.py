"""The metadata of a committed offset: of which topic it is. Pure.

Kafka keeps offsets by the topic's name. It deletes them with the topic, but a commit that comes just after that is
kept, and is then found for the next topic of this name. Offsets that a tool has copied to another cluster (MirrorMaker)
mean nothing there: the topic has another id in each.

A note marks its own end: confluent-kafka writes a NUL after it, and where another client has written none it reads on
into unrelated memory.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from worker.kafka.contracts import TopicFacts

# The id of a cluster may be any text, and only its own ";" may end a note: other characters are quoted as in URLs.
_NOTE = re.compile(r"topic_id=([\w-]+) cluster_id=([^;]*);")


def note_of(topic: TopicFacts) -> str:
    """The note for offsets of this topic; empty where brokers give no ids."""
    return f"topic_id={topic.id} cluster_id={quote(topic.cluster_id, safe='')};" if topic.id else ""


def noted_topic(note: str, cluster_id: str) -> str:
    """The id that a note names; empty when it says nothing, or is of another cluster."""
    found = _NOTE.match(note)
    return found[1] if found is not None and found[2] == quote(cluster_id, safe="") else ""
