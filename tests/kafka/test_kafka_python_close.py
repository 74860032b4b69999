"""A client of kafka-python ends at once and in silence, whatever it waits for."""

from __future__ import annotations

import logging
import time

import pytest
from kafka import KafkaAdminClient
from kafka.protocol.metadata import MetadataRequest

from tests.conftest import NewTopic, eventually
from tests.subscribed import subscribed
from worker.kafka.kafka_python.errors import client_options, open_client
from worker.kafka.kafka_python.source import KafkaPythonSource
from worker.kafka.settings import ClientSettings

LONG_S = 120.0
CLIENTS = 300
MOMENTS, MOMENT_S = 10, 0.0005
QUESTIONS = 30


@pytest.mark.parametrize("instance_id", [None, "two"])
def test_a_member_that_was_not_let_in_yet_leaves(
    bootstrap_servers: str, topic: NewTopic, instance_id: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    name = topic(2)
    first, owned = subscribed(ClientSettings(bootstrap_servers, group_id=name), name)
    eventually(lambda: first.poll(10, 0.1) or len(owned) == 2)
    second, never = subscribed(ClientSettings(bootstrap_servers, group_id=name, instance_id=instance_id), name)
    assert isinstance(second, KafkaPythonSource)
    ownership = second._connected().ownership

    def waits() -> bool:  # for the first, which does not poll
        second.poll(10, 0.1)
        return ownership.awaits_answer() and bool(instance_id or ownership.member_id())

    eventually(waits)
    second.close(LONG_S)
    assert not [line for line in caplog.messages if "did not close" in line or "LeaveGroup" in line]
    assert never == []
    if instance_id is None:
        eventually(lambda: first.poll(10, 0.1) or first.joined)
        assert len(owned) == 2  # nobody is waited for
    first.close(LONG_S)


def test_closing_amid_answers_says_nothing(bootstrap_servers: str, caplog: pytest.LogCaptureFixture) -> None:
    options = client_options(ClientSettings(bootstrap_servers), None, {})
    for number in range(CLIENTS):
        admin = open_client(KafkaAdminClient, options)
        for _ in range(QUESTIONS):
            admin._manager._net.call_soon_threadsafe(lambda on=admin._manager: on.send(MetadataRequest(topics=None)))
        time.sleep(number % MOMENTS * MOMENT_S)  # not to wait for anything: to close at another moment each time
        admin.close()
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING and record.exc_info]
    assert told == []
