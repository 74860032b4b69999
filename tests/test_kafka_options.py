"""What users may pass to a client, and when a silent client counts as stuck."""

from __future__ import annotations

from typing import Any

import pytest

from worker.kafka.clients import refused_options
from worker.kafka.options import contradicting_options, security_options, spell_topic_id
from worker.kafka.watchdog import BAD_LOOKS_UNTIL_REBUILD, LOOK_INTERVAL_S, StallWatch


@pytest.mark.parametrize(
    ("client", "section", "free", "refused"),
    [
        ("kafka-python", "consumer", ["fetch_max_wait_ms", "session_timeout_ms"], ["group_id", "auto_offset_reset"]),
        ("kafka-python", "consumer", ["fetch_min_bytes"], ["value_deserializer", "security_protocol"]),
        ("kafka-python", "producer", ["linger_ms", "batch_size"], ["acks", "enable_idempotence", "partitioner"]),
        ("confluent", "consumer", ["session.timeout.ms"], ["isolation.level", "enable.partition.eof", "group.id"]),
        ("confluent", "producer", ["linger.ms", "compression.type"], ["request.required.acks", "bootstrap.servers"]),
    ],
)
def test_options_the_worker_must_control_are_named(
    client: Any, section: Any, free: list[str], refused: list[str]
) -> None:
    assert refused_options(client, section, dict.fromkeys([*free, *refused], 1)) == refused


def test_options_that_security_gives_already_are_refused_and_others_pass() -> None:
    security = {"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "u", "password": "p", "ca_file": None}
    options = {"sasl.mechanisms": 1, "sasl.mechanism": 1, "sasl.username": 1, "ssl.ca.location": 1}
    assert refused_options("confluent", "consumer", options, security) == list(options)[:3]
    assert refused_options("confluent", "consumer", options) == []


@pytest.mark.parametrize(
    ("client", "wanted"),
    [
        ("kafka-python", {"security_protocol": "SSL", "ssl_cafile": "a", "ssl_certfile": "b", "ssl_keyfile": "c"}),
        (
            "confluent",
            {
                "security.protocol": "SSL",
                "ssl.ca.location": "a",
                "ssl.certificate.location": "b",
                "ssl.key.location": "c",
            },
        ),
    ],
)
def test_security_is_spelt_for_each_client(client: Any, wanted: dict[str, str]) -> None:
    security = {"protocol": "SSL", "mechanism": None, "ca_file": "a", "cert_file": "b", "key_file": "c"}
    assert security_options(client, security) == wanted


def test_every_option_of_security_exists_in_kafka_python() -> None:
    from kafka import KafkaConsumer, KafkaProducer

    names = ["protocol", "mechanism", "username", "password", "ca_file", "cert_file", "key_file"]
    ours = set(security_options("kafka-python", dict.fromkeys(names, "x")))
    assert ours <= set(KafkaConsumer.DEFAULT_CONFIG) & set(KafkaProducer.DEFAULT_CONFIG)


def test_topic_ids_are_spelt_as_kafka_does() -> None:
    assert spell_topic_id(bytes(15) + b"\x01") == "AAAAAAAAAAAAAAAAAAAAAQ"


def looks(*results: bool | str) -> list[bool]:
    """Answers of a watch to looks at each interval: True = bad, False = good, a string = progress in between."""
    watch, now_s, answers = StallWatch(0.0), 0.0, []
    for result in results:
        now_s += LOOK_INTERVAL_S
        if isinstance(result, str):
            watch.progressed(now_s)
        else:
            assert watch.is_due(now_s)
            answers.append(watch.looked(now_s, result))
        assert not watch.is_due(now_s + LOOK_INTERVAL_S / 2)
    return answers


def test_a_client_is_stuck_after_bad_looks_in_a_row() -> None:
    assert BAD_LOOKS_UNTIL_REBUILD == 3
    assert looks(True, True, True) == [False, False, True]
    assert looks(True, True, False, True, True, True) == [False] * 5 + [True]
    assert looks(True, True, "a record", True, True) == [False] * 4
    assert looks(*[False] * 9) == [False] * 9


LIMITS = ("transaction_timeout_ms", "request_timeout_ms", "delivery_timeout_ms")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, []),
        ({"transaction_timeout_ms": 20_000, "request_timeout_ms": 15_000}, []),
        ({"transaction_timeout_ms": 30_000}, ["delivery_timeout_ms"]),
        ({"delivery_timeout_ms": 10_000}, ["delivery_timeout_ms"]),
        ({"request_timeout_ms": 10_000}, ["request_timeout_ms"]),
        ({"transaction_timeout_ms": 5_000}, ["request_timeout_ms"]),
        (
            {"request_timeout_ms": 40_000, "transaction_timeout_ms": 30_000},
            ["request_timeout_ms", "delivery_timeout_ms"],
        ),
    ],
)
def test_limits_that_contradict_transactions_are_named_with_the_way_out(
    options: dict[str, int], named: list[str]
) -> None:
    said = contradicting_options("kafka-python", "exactly_once", options)
    assert [sentence.split()[1] for sentence in said] == named
    assert all("raise" in sentence and "lower" in sentence for sentence in said)
    assert contradicting_options("kafka-python", "at_least_once", options) == []
