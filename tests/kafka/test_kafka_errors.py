"""What brokers say while something in the cluster changes ends no worker, whichever client hears it."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError
from kafka import errors

from worker.errors import CommitRefusedError, KafkaUnavailableError, OffsetOutOfRangeError, WorkerError
from worker.kafka.confluent.errors import translate as of_confluent
from worker.kafka.kafka_python.errors import translate as of_kafka_python

OF_OTHERS = (errors.ElectionNotNeededError, errors.ShareSessionNotFoundError, errors.InvalidShareSessionEpochError)
RESPONSES: list[Any] = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.BrokerResponseError)
]
# By the protocol's own word; kafka-python has it in its classes, librdkafka in none.
RETRIABLE = sorted({kind.errno: kind for kind in RESPONSES if kind.retriable and kind not in OF_OTHERS}.items())
FORESEEN = (KafkaUnavailableError, CommitRefusedError, OffsetOutOfRangeError, WorkerError)


@pytest.mark.parametrize(("number", "kind"), RETRIABLE)
def test_what_can_be_tried_again_is_tried_again(number: int, kind: type[errors.KafkaError]) -> None:
    for found in (of_confluent(KafkaError(number), "ends"), of_kafka_python(kind(), "ends")):
        assert isinstance(found, FORESEEN), kind.__name__
        if not isinstance(found, (CommitRefusedError, OffsetOutOfRangeError)):
            assert isinstance(found, KafkaUnavailableError), kind.__name__


def test_there_are_such_errors() -> None:
    assert {KafkaError.OFFSET_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION} <= {number for number, _ in RETRIABLE}
