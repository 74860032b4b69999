"""What stands beside a committed offset is understood by both clients, whichever of them has written it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from worker.kafka.clients import open_source, open_transactional_sink
from worker.kafka.commit_notes import note_of, noted_topic
from worker.kafka.confluent_commits import note_in
from worker.kafka.contracts import TopicFacts
from worker.kafka.settings import Client, ClientSettings
from worker.records import Partition

CLIENTS: tuple[Client, ...] = ("kafka-python", "confluent")
FACTS = TopicFacts("pAw12hApR5W8AkuqeUDGBw", 1, "MkU3OEVBNTcwNTJENDM2Qg")
NOTE = note_of(FACTS)
LONG_S = 60.0


class Answer:
    """As confluent-kafka's answer, which decodes all bytes up to the next NUL in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def metadata(self) -> str:
        return self._content.decode()


@pytest.mark.parametrize("behind", [b"", b"\0", b"\xff\x8c", "ü;cluster_id=x;".encode(), b" "])
def test_whatever_is_read_behind_a_note_it_says_the_same(behind: bytes) -> None:
    assert noted_topic(note_in(Answer(NOTE.encode() + behind)), FACTS.cluster_id) == FACTS.id


@pytest.mark.parametrize("other", [b"", b"\xff", b"\0", b"of another tool", NOTE[:-1].encode()])
def test_what_is_no_note_says_nothing(other: bytes) -> None:
    assert noted_topic(note_in(Answer(other)), FACTS.cluster_id) == ""


@pytest.mark.parametrize("cluster", ["", "my.cluster", "prod:eu", "my cluster", "a;b", "a%3Bb", "größe"])
def test_a_cluster_may_have_any_name(cluster: str) -> None:
    note = note_of(TopicFacts(FACTS.id, 1, cluster))
    assert note.isascii()
    assert noted_topic(note_in(Answer(note.encode() + b"\xff;")), cluster) == FACTS.id
    assert noted_topic(note, "a") == noted_topic(note, f"{cluster};") == ""


def test_a_note_of_another_cluster_says_nothing() -> None:
    assert noted_topic(NOTE, "elsewhere") == ""


@pytest.mark.parametrize(("writer", "reader"), list(itertools.product(CLIENTS, CLIENTS)))
@pytest.mark.parametrize("transactional", [False, True])
def test_each_client_understands_the_note_of_the_other(
    bootstrap_servers: str, topic: Callable[..., str], writer: Client, reader: Client, transactional: bool
) -> None:
    name = topic(1, "notes")
    place = Partition(name, 0)
    settings = ClientSettings(bootstrap_servers, writer, group_id=name, transactional_id=name)
    source = open_source(settings)
    source.subscribe([name], lambda change: dict.fromkeys(change.partitions, 0))
    while not source.joined:
        source.poll(1, 0.1)
    if transactional:
        sink = open_transactional_sink(settings)
        sink.commit({place: 0}, source.member(), LONG_S, {place: NOTE})
        sink.close(LONG_S)
    else:
        source.commit({place: 0}, LONG_S, {place: NOTE})
    other = open_source(ClientSettings(bootstrap_servers, reader, group_id=name))
    found = other.committed([place], LONG_S)[place]
    assert found is not None
    assert (found.offset, noted_topic(found.note, FACTS.cluster_id)) == (0, FACTS.id)
    for each in (source, other):
        each.close(LONG_S)
