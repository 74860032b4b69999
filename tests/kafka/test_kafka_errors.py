"""What brokers say while something in the cluster changes ends no worker, whichever client hears it."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError
from kafka import errors

from worker.errors import (
    CommitRefusedError,
    KafkaUnavailableError,
    MessageRefusedError,
    OffsetOutOfRangeError,
    TopicRefusedError,
    WorkerError,
)
from worker.kafka.confluent.errors import failed_transaction
from worker.kafka.confluent.errors import translate as of_confluent
from worker.kafka.destinations import Destination
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


PRODUCED = "ProduceRequest for a.dead [0] with 1 message(s) failed: Broker: refused (broker 1), base seq 0)"
WRITTEN = [Destination("a", "output.topic"), Destination("a.dead", "dead_letters.topic")]


@pytest.mark.parametrize(
    ("code", "said", "kind", "named"),
    [
        (
            KafkaError.MSG_SIZE_TOO_LARGE,
            PRODUCED,
            MessageRefusedError,
            "topic 'a.dead' (dead_letters.topic): a message",
        ),
        (KafkaError.MSG_SIZE_TOO_LARGE, "too large", MessageRefusedError, "a message was refused"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, PRODUCED, TopicRefusedError, "topic 'a.dead' (dead_letters.topic) does not"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, PRODUCED, TopicRefusedError, "topic 'a.dead' (dead_letters.topic) may"),
        (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            "AddPartitionsToTxn failed",
            TopicRefusedError,
            "topic 'a' (output.topic) or topic 'a.dead' (dead_letters.topic) may not be written",
        ),
        (KafkaError._STATE, PRODUCED, KafkaUnavailableError, "transaction: _STATE"),
    ],
)
def test_a_transaction_that_failed_for_one_topic_names_it(
    code: int, said: str, kind: type[WorkerError], named: str
) -> None:
    """The transaction may fail before the client hands out which message it was."""
    found = failed_transaction(KafkaError(code, said), "transaction", WRITTEN)
    assert type(found) is kind
    assert str(found).startswith(named)
