"""A member that is busy for longer than its group waits for a poll, and batches that no client can read."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka import KafkaError
from kafka import KafkaAdminClient, errors

from tests.conftest import eventually
from tests.kafka.test_kafka_contract import CLOSE_S, ClusterKit, Member, until
from tests.reached import opened_transactions
from worker.errors import CommitRefusedError, KafkaUnavailableError, WorkerError
from worker.kafka.confluent.errors import translate as of_confluent
from worker.kafka.kafka_python.errors import translate as of_kafka_python
from worker.kafka.opening import open_source
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages
from worker.records.ownership import Assigned, Change, Lost, Partition

LIMIT_MS = 6_000  # the least that Kafka takes for a session
OPTIONS = {
    "kafka-python": {"max_poll_interval_ms": LIMIT_MS, "session_timeout_ms": LIMIT_MS},
    "confluent": {"max.poll.interval.ms": LIMIT_MS, "session.timeout.ms": LIMIT_MS},
}


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_a_member_that_is_busy_for_too_long_is_put_out_and_may_not_commit(bootstrap_servers: str, client: Any) -> None:
    kit = ClusterKit(bootstrap_servers, client)
    topic, output = kit.topic(), kit.topic()
    group = f"group-{topic}"
    settings = ClientSettings(
        bootstrap_servers, client, group, consumer=OPTIONS[client], transactional_id=uuid.uuid4().hex
    )
    member = Member(open_source(settings), group, topic, {}).join()
    until(lambda: member.owned, member)
    sink = opened_transactions(settings)
    sink.send(output, Messages([b"key"], [b"late"]))
    with KafkaAdminClient(bootstrap_servers=bootstrap_servers) as admin:
        eventually(lambda: not admin.describe_groups([group])[group]["members"])
    with pytest.raises((CommitRefusedError, KafkaUnavailableError)):
        sink.commit({Partition(topic, 0): 1}, member.source.member(), 30)
    sink.close(CLOSE_S)
    eventually(lambda: lost_at_a_poll(member))
    assert member.source.committed([Partition(topic, 0)], 30) == {Partition(topic, 0): None}
    member.source.close(CLOSE_S)
    reader = Member(kit.source(f"group-{output}"), f"group-{output}", output, {0: 0}).join()
    kit.append(Partition(output, 0), [b"last"])
    until(lambda: reader.records, reader)
    assert [record[3] for record in reader.records] == [b"last"]
    reader.source.close(CLOSE_S)


def lost_at_a_poll(member: Member) -> bool:
    with suppress(KafkaUnavailableError):  # that it was away for too long: the next poll says what was lost
        member.step()
    return any(isinstance(change, Lost) for change in member.events)


class Restoring(Member):
    """Takes longer to take partitions over than its group waits for a poll, and says so meanwhile."""

    def react(self, change: Change) -> dict[Partition, int]:
        if isinstance(change, Assigned):
            until_s = time.monotonic() + 2 * LIMIT_MS / 1000
            while time.monotonic() < until_s:
                self.source.committed(change.partitions, 30)
                self.source.still_here()
        return super().react(change)


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_a_member_that_restores_for_long_and_says_so_stays(bootstrap_servers: str, client: Any) -> None:
    kit = ClusterKit(bootstrap_servers, client)
    topic = kit.topic()
    kit.append(Partition(topic, 0), [b"one"])
    settings = ClientSettings(bootstrap_servers, client, f"group-{topic}", consumer=OPTIONS[client])
    member = Restoring(open_source(settings), f"group-{topic}", topic).join()
    until(lambda: member.records, member)
    assert member.kinds() == [Assigned]
    member.source.commit(member.positions, 30)
    member.source.close(CLOSE_S)


@pytest.mark.parametrize(
    "error",
    [
        of_kafka_python(errors.CorruptRecordError("CRC"), "poll"),
        of_kafka_python(errors.UnsupportedCodecError("lz4"), "poll"),
        of_confluent(KafkaError(KafkaError._BAD_MSG), "poll"),
        of_confluent(KafkaError(KafkaError._BAD_COMPRESSION), "poll"),
    ],
    ids=str,
)
def test_a_batch_that_can_not_be_unpacked_ends_the_worker_in_one_line(error: Exception) -> None:
    assert isinstance(error, WorkerError)
    assert str(error).startswith("poll: ")
    assert "a record can't be read, so nothing after it can be read either" in str(error)
