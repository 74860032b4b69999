"""Brokers that take no notes as long as those of unfinished texts: said once, with the setting, and the worker ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.reached import opened_transactions
from tests.subscribed import joined_source
from worker.errors import WorkerError
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.settings import Client, ClientSettings
from worker.member.delivery import AtLeastOnce, ExactlyOnce
from worker.member.limits import LoopLimits
from worker.records.messages import Messages
from worker.records.ownership import Partition

pytestmark = pytest.mark.broker

CLIENTS: tuple[Client, ...] = ("kafka-python", "confluent")
NOTE_BYTES = 512
ANSWER_S = 60.0


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(properties={"offset.metadata.max.bytes": NOTE_BYTES}, heap_mb=256) as kafka:
        yield kafka


@pytest.mark.parametrize("transactional", [False, True])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_note_that_the_brokers_do_not_take_is_no_reason_to_try_again(
    broker: EmbeddedKafka, client: Client, transactional: bool
) -> None:
    topic = f"notes-{client}-{transactional}"
    broker.create_topic(topic, 1)
    settings = ClientSettings(broker.bootstrap_servers, client, group_id=topic, transactional_id=topic)
    source, limits = joined_source(settings, topic), LoopLimits()
    close: list[Callable[[float], object]] = [source.close]
    retried = (ExactlyOnce if transactional else AtLeastOnce).retried_after
    try:
        sink = opened_transactions(settings)
        close.append(sink.close)
        place, long = Partition(topic, 0), "x" * (NOTE_BYTES + 1)

        def commit() -> None:
            if transactional:
                sink.send(topic, Messages([b"key"], [b"value"]))
                sink.commit({place: 0}, source.member(), ANSWER_S, {place: long})
            else:
                source.commit({place: 0}, ANSWER_S, {place: long})

        with pytest.raises(WorkerError, match=r"offset\.metadata\.max\.bytes to 4096") as caught:
            commit()
        assert not isinstance(caught.value, retried)
    finally:
        for each in close:
            each(limits.kafka_call_s)
