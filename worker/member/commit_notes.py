"""The metadata of a committed offset: of which topic it is, and which records after it are answered. Pure.

Kafka keeps offsets by the topic's name. It deletes them with the topic, but a commit that comes just after that is
kept, and is then found for the next topic of this name. Offsets that a tool has copied to another cluster (MirrorMaker)
mean nothing there: the topic has another id in each.

Tasks that generate read on while the texts of earlier records are unfinished. The offset is then that of the first
record whose answer is not complete, and the note names the others, and how much of each was sent: every other record
below ``read_to`` is answered.

A note marks its own end: confluent-kafka writes a NUL after it, and where another client has written none it reads on
into unrelated memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

from worker.kafka.contracts import TopicFacts
from worker.records.unfinished_list import listed, unlisted

# The id of a cluster may be any text, and only its own ";" may end a note: other characters are quoted as in URLs.
_NOTE = re.compile(r"topic_id=([\w-]+) cluster_id=([^;]*);")
_WORK = re.compile(r" read_to=([0-9]{1,19}) unfinished=([\w-]*);", re.ASCII)


class Place(NamedTuple):
    """How far a partition has come: what a commit says of it.

    ``offset`` is committed: the first record that is not answered. Below ``read_to`` all are but ``unfinished``, in the
    order of their offsets: (offset, how many outputs of it were sent).
    """

    offset: int
    read_to: int
    unfinished: tuple[tuple[int, int], ...] = ()


def note_of(topic: TopicFacts) -> str:
    """The note for offsets of this topic; empty where brokers give no ids."""
    return f"topic_id={topic.id} cluster_id={quote(topic.cluster_id, safe='')};" if topic.id else ""


def noted_topic(note: str, cluster_id: str) -> str:
    """The id that a note names; empty when it says nothing, or is of another cluster."""
    found = _NOTE.match(note)
    return found[1] if found is not None and found[2] == quote(cluster_id, safe="") else ""


def own_note(note: str) -> str:
    """What a worker has written, without what a client may have read behind it; "" where that is nothing."""
    topic = _NOTE.match(note)
    end = 0 if topic is None else topic.end()
    work = _WORK.match(note, end)
    return note[: end if work is None else work.end()]


def with_work(note: str, place: Place) -> str:
    """The note of a topic, followed by what is unfinished, if anything is or was read beyond."""
    if place.read_to == place.offset:
        return note
    return f"{note} read_to={place.read_to} unfinished={listed(place.offset, place.unfinished)};"


def noted_work(note: str, topic: TopicFacts, committed: int) -> tuple[int, Mapping[int, int]]:
    """(read_to, unfinished: offset → outputs sent) beside this committed offset.

    A note that says nothing of it, or is of another topic or unknown, means that all below ``committed`` is answered,
    and nothing above.
    """
    of_topic = note_of(topic)
    found = _WORK.match(note, len(of_topic)) if note.startswith(of_topic) else None
    if found is None:
        return committed, {}
    read_to = int(found[1])
    try:
        unfinished = dict(unlisted(committed, found[2]))
    except ValueError:
        return committed, {}
    sound = read_to > committed and max(unfinished, default=committed) < read_to
    return (read_to, unfinished) if sound else (committed, {})
