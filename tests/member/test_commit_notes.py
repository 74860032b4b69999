"""What stands beside a committed offset is understood by both clients, whichever of them has written it."""

from __future__ import annotations

import itertools

import pytest

from tests.conftest import NewTopic
from tests.reached import opened_transactions
from tests.subscribed import joined_source
from worker.kafka.confluent.commits import note_in
from worker.kafka.contracts import TopicFacts
from worker.kafka.opening import open_source
from worker.kafka.settings import Client, ClientSettings
from worker.member.commit_notes import Place, note_of, noted_topic, noted_work, with_work
from worker.records.ownership import Partition

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


PLACE = Place(100, 250, ((100, 7), (101, 0), (180, 1)))


@pytest.mark.parametrize("topic", [FACTS, TopicFacts("", 1), TopicFacts(FACTS.id, 1, "my cluster; ü")])
@pytest.mark.parametrize("behind", ["", "\0", " read_to=1 unfinished=;", "x"])
@pytest.mark.parametrize("place", [PLACE, Place(100, 101), Place(0, 9_223_372_036_854_775_807, ((0, 0),))])
def test_what_is_unfinished_is_noted(topic: TopicFacts, behind: str, place: Place) -> None:
    note = with_work(note_of(topic), place)
    assert note.isascii()
    assert noted_work(note + behind, topic, place.offset) == (place.read_to, dict(place.unfinished))
    assert noted_topic(note, topic.cluster_id) == topic.id


def test_where_nothing_is_unfinished_a_note_is_as_ever() -> None:
    assert with_work(NOTE, Place(100, 100)) == NOTE


WORK = with_work("", PLACE)


@pytest.mark.parametrize(
    "note",
    [
        "",
        NOTE,
        WORK,
        note_of(TopicFacts("other", 1, FACTS.cluster_id)) + WORK,
        note_of(TopicFacts(FACTS.id, 1, "elsewhere")) + WORK,
        NOTE + WORK[1:],
        NOTE + WORK[:-1],
        NOTE + WORK.replace("=250", "=180"),
        NOTE + WORK.replace("=250", "=-250"),
        NOTE + WORK.replace("=250", "=99999999999999999999"),
        NOTE + WORK.replace("unfinished=", "unfinished=g;"),
        NOTE + " read_to=100 unfinished=;",
        f"of another tool{WORK}",
    ],
)
def test_other_notes_say_nothing_of_it(note: str) -> None:
    assert noted_work(note, FACTS, 100) == (100, {})


@pytest.mark.parametrize(("writer", "reader"), list(itertools.product(CLIENTS, CLIENTS)))
@pytest.mark.parametrize("transactional", [False, True])
def test_each_client_understands_the_note_of_the_other(
    bootstrap_servers: str, topic: NewTopic, writer: Client, reader: Client, transactional: bool
) -> None:
    name = topic(1, "notes")
    place = Partition(name, 0)
    settings = ClientSettings(bootstrap_servers, writer, group_id=name, transactional_id=name)
    source = joined_source(settings, name)
    if transactional:
        sink = opened_transactions(settings)
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
