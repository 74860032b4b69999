"""A call of confluent-kafka that never returns costs its time-out and the client, not the worker."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.conftest import NewTopic
from tests.reached import reached
from tests.subscribed import joined_source
from worker.errors import KafkaUnavailableError, MessageRefusedError
from worker.kafka.confluent import transactions as confluent_transactions
from worker.kafka.confluent.sink import ConfluentSink
from worker.kafka.confluent.transactions import ConfluentTransactions
from worker.kafka.contracts import Committed
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages
from worker.records.ownership import Partition


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confluent_transactions, "GRACE_S", 0.5)
    monkeypatch.setattr(confluent_transactions, "DISTURBED_S", 0.5)


class NeverSends:
    """The client's producer, but for one call."""

    def __init__(self, producer: Any, released: threading.Event) -> None:
        self._producer, self._released = producer, released

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def send_offsets_to_transaction(self, *_: Any) -> None:
        self._released.wait()


@pytest.mark.parametrize(
    ("timeout_s", "connection_lost", "said"),
    [(0.5, False, r"has not come back: no answer within [\d.]+ s$"), (3600.0, True, "; a connection was lost$")],
)
def test_a_commit_that_never_returns_is_answered_and_the_next_sink_goes_on(
    bootstrap_servers: str, topic: NewTopic, timeout_s: float, connection_lost: bool, said: str
) -> None:
    name, out = topic(1, "readings"), topic(1, "probabilities")
    settings = ClientSettings(bootstrap_servers, "confluent", group_id=name, transactional_id=f"writer-of-{name}")
    source, released = joined_source(settings, name), threading.Event()
    stuck = reached(lambda: ConfluentTransactions(settings))
    stuck._outbox.producer = NeverSends(stuck._outbox.producer, released)
    stuck.send(out, Messages([b"a"], [b"1"]))
    stuck._outbox.disturbed = connection_lost
    with pytest.raises(KafkaUnavailableError, match=said):
        stuck.commit({Partition(name, 0): 0}, source.member(), timeout_s)
    stuck.close(60.0)
    fresh = reached(lambda: ConfluentTransactions(settings))
    fresh.send(out, Messages([b"a"], [b"2"]))
    fresh.commit({Partition(name, 0): 0}, source.member(), 60.0)
    fresh.close(60.0)
    assert source.committed([Partition(name, 0)], 60.0) == {Partition(name, 0): Committed(0)}
    source.close(60.0)
    released.set()


def test_a_commit_that_is_not_answered_fails_of_the_message_that_was_refused(
    bootstrap_servers: str, topic: NewTopic
) -> None:
    """A message that failed is why the client does not answer: told as a time-out, nothing would look for it."""
    from kafka.admin import KafkaAdminClient

    name = topic(1, "readings")
    out = f"small-{name}"
    with KafkaAdminClient(bootstrap_servers=bootstrap_servers) as admin:
        rules = {"max.message.bytes": "1000"}
        admin.create_topics({out: {"num_partitions": 1, "configs": rules}}, wait_for_metadata=True)
    settings = ClientSettings(bootstrap_servers, "confluent", group_id=name, transactional_id=f"writer-of-{name}")
    source, released = joined_source(settings, name), threading.Event()
    sink = ConfluentTransactions(settings)
    sink._outbox.producer = NeverSends(sink._outbox.producer, released)
    sink.send(out, Messages([b"a"], [b"v" * 2000]))
    with pytest.raises(MessageRefusedError) as refused:
        sink.commit({Partition(name, 0): 0}, source.member(), 120.0)
    assert refused.value.too_large
    with pytest.raises(MessageRefusedError):
        sink.send(out, Messages([b"a"], [b"1"]))
    sink.close(60.0)
    source.close(60.0)
    released.set()


def test_bytes_measured_before_an_acknowledgement_are_not_reported_after_it(
    bootstrap_servers: str, topic: NewTopic
) -> None:
    sink = ConfluentSink(ClientSettings(bootstrap_servers, "confluent"))
    sink.send(topic(1, "probabilities"), Messages([b"a"], [b"1"]))
    sink.flush(60.0)
    sink._outbox._on_statistics('{"brokers": {}, "msg_size": 2}')
    assert (sink.facts().messages, sink.facts().bytes) == (0, 0)
    sink.close(60.0)
