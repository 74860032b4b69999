"""What clients report of themselves reaches the metrics once a second, and goes with the broker it is about."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.one_member import AWAY, COMMIT_S, Cluster, Member
from worker.errors import (
    CommitRefusedError,
    DeliveryFailedError,
    KafkaRefusedError,
    KafkaUnavailableError,
    MessageRefusedError,
    StoreUnavailableError,
)
from worker.kafka.contracts import ClientFacts
from worker.member.client_gauges import LOOK_INTERVAL_S, ClientGauges
from worker.records.messages import Messages
from worker.web.families.member import CLIENT_ERRORS
from worker.web.metrics import Metrics


class Writer:
    """Says what it is told to, and counts how often it was asked."""

    def __init__(self) -> None:
        self.said, self.asked = ClientFacts(), 0

    def send(self, topic: str, messages: Messages) -> None:
        raise AssertionError("nothing is sent here")

    def facts(self) -> ClientFacts:
        self.asked += 1
        return self.said


def test_brokers_and_queue_are_told_once_a_second_and_gone_brokers_not_any_more() -> None:
    metrics, writer = Metrics(), Writer()
    gauges, value = ClientGauges(metrics), metrics.registry.get_sample_value
    writer.said = ClientFacts({"1": 0.25, "2": 0.5}, messages=7, bytes=700)
    for now in (0.0, LOOK_INTERVAL_S / 2):
        gauges.look(now, writer)
        writer.said = ClientFacts({"2": 0.75}, messages=1, bytes=2)
    assert writer.asked == 1
    assert value("rnnw_client_broker_latency_seconds", {"broker": "1"}) == 0.25
    assert (value("rnnw_client_queue_messages"), value("rnnw_client_queue_bytes")) == (7, 700)
    gauges.look(LOOK_INTERVAL_S, writer)
    assert value("rnnw_client_broker_latency_seconds", {"broker": "1"}) is None
    assert value("rnnw_client_broker_latency_seconds", {"broker": "2"}) == 0.75
    assert (value("rnnw_client_queue_messages"), value("rnnw_client_queue_bytes")) == (1, 2)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KafkaUnavailableError("x"), "unavailable"),
        (KafkaRefusedError("x"), "refused"),
        (CommitRefusedError("x"), "commit_refused"),
        (DeliveryFailedError("x"), "delivery_failed"),
        (MessageRefusedError("x", too_large=True), "message_refused"),
        (StoreUnavailableError("x"), None),
    ],
)
def test_errors_are_counted_by_their_kind(error: Exception, kind: str | None) -> None:
    metrics = Metrics()
    ClientGauges(metrics).failed(error)
    found = {
        each: metrics.registry.get_sample_value("rnnw_client_errors_total", {"kind": each}) for each in CLIENT_ERRORS
    }
    assert found == {each: float(each == kind) for each in CLIENT_ERRORS}


def test_a_cluster_that_does_not_answer_is_counted_at_each_try(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, [(0, b"a", 1)])
    member = Member(cluster)
    member.turn()
    cluster.broker.fail("commit", AWAY, times=2)
    cluster.broker.fail("poll", AWAY, times=3)
    for _ in range(6):
        member.turn(after_s=COMMIT_S)
    assert member.value("client_errors_total", kind="unavailable") == 5


def test_what_nobody_has_acknowledged_is_seen(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, [(0, b"a", 1)] * 3)
    member = Member(cluster)
    member.turn()
    assert member.value("client_queue_messages") == 3
    size = member.value("client_queue_bytes")
    member.turn(after_s=COMMIT_S)
    member.turn(after_s=LOOK_INTERVAL_S)
    assert (member.value("client_queue_messages"), member.value("client_queue_bytes")) == (0, 0)
    assert size == sum(len(record.key or b"") + len(record.value or b"") for record in cluster.broker.records("out"))
