"""What users may pass to a client, and when a silent client counts as stuck."""

from __future__ import annotations

from typing import Any

import pytest

from worker.kafka.clients import refused_options
from worker.kafka.connection_options import client_options, contradicting_security, security_options
from worker.kafka.options import contradicting_options, spell_topic_id
from worker.kafka.settings import LONGEST_ID_BYTES, ClientSettings, transactional_id
from worker.kafka.watchdog import BAD_LOOKS_UNTIL_REBUILD, LOOK_INTERVAL_S, StallWatch


@pytest.mark.parametrize(
    ("client", "section", "free", "refused"),
    [
        ("kafka-python", "consumer", ["fetch_max_wait_ms", "session_timeout_ms"], ["group_id", "auto_offset_reset"]),
        ("kafka-python", "consumer", ["fetch_min_bytes"], ["value_deserializer", "isolation_level"]),
        ("kafka-python", "producer", ["linger_ms", "batch_size"], ["acks", "enable_idempotence", "partitioner"]),
        ("confluent", "consumer", ["session.timeout.ms"], ["isolation.level", "enable.partition.eof", "group.id"]),
        ("confluent", "producer", ["linger.ms", "compression.type"], ["request.required.acks", "bootstrap.servers"]),
    ],
)
def test_options_the_worker_must_control_are_named(
    client: Any, section: Any, free: list[str], refused: list[str]
) -> None:
    assert refused_options(client, section, dict.fromkeys([*free, *refused], 1)) == refused


LOGIN = {"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "u", "password": "p", "ca_file": "ca"}


@pytest.mark.parametrize(
    "name",
    [
        "security.protocol", "security_protocol", "sasl.mechanism", "sasl.mechanisms", "sasl_mechanism",
        "sasl.username", "sasl_plain_username", "sasl.password", "sasl_plain_password", "sasl.oauthbearer.method",
        "sasl.kerberos.principal", "sasl_oauth_token_provider", "ssl.ca.location", "ssl.ca.pem", "ssl_cafile",
        "ssl_cadata", "ssl_context", "enable.ssl.certificate.verification",
    ],
)  # fmt: skip
def test_what_security_says_can_not_be_said_again_in_either_spelling(name: str) -> None:
    for section in ("consumer", "producer"):
        (line,) = contradicting_security(section, {"fetch.min.bytes": 1, name: "x"}, LOGIN)  # type: ignore[arg-type]
        assert line.startswith(f"kafka.{section}.{name}: ")
        assert "kafka.security." in line


def test_what_security_does_not_say_passes() -> None:
    rest = {"ssl.certificate.pem": 1, "ssl.endpoint.identification.algorithm": "none", "ssl_check_hostname": False}
    assert list(contradicting_security("consumer", rest, LOGIN)) == []
    said = {**LOGIN, "check_hostname": True, "cert_file": "c"}
    assert len(list(contradicting_security("consumer", rest, said))) == 3


def test_options_of_tls_are_refused_where_there_is_none() -> None:
    (line,) = contradicting_security("producer", {"ssl_crlfile": "x"}, {"protocol": "PLAINTEXT"})
    assert line == "kafka.producer.ssl_crlfile: is not used with kafka.security.protocol PLAINTEXT (SSL or SASL_SSL)"


def test_options_of_connections_reach_every_client() -> None:
    settings = ClientSettings(
        "b", "confluent", security={"protocol": "SSL", "check_hostname": False},
        consumer={"broker.address.family": "v4", "ssl.ca.pem": "A", "fetch.min.bytes": 2},
        producer={"client.dns.lookup": "x", "ssl.ca.pem": "B", "linger.ms": 5},
    )  # fmt: skip
    security = {"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": "none"}
    both = {"broker.address.family": "v4", "client.dns.lookup": "x", **security}
    assert client_options(settings, None) == {**both, "ssl.ca.pem": "A"}
    assert client_options(settings, "consumer") == {**both, "ssl.ca.pem": "A", "fetch.min.bytes": 2}
    assert client_options(settings, "producer") == {**both, "ssl.ca.pem": "B", "linger.ms": 5}


def test_options_of_connections_are_options_of_every_kafka_python_client() -> None:
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

    common = (
        set(KafkaConsumer.DEFAULT_CONFIG) & set(KafkaProducer.DEFAULT_CONFIG) & set(KafkaAdminClient.DEFAULT_CONFIG)
    )
    given = dict.fromkeys(common, 1)
    found = client_options(ClientSettings("b", "kafka-python", consumer=given), None)
    assert {name for name in common if name.startswith(("ssl_", "proxy", "socks5", "client_dns"))} <= set(found)
    assert not {"request_timeout_ms", "bootstrap_servers", "metric_reporters"} & set(found)


IDS = [
    "scores",
    "scores-blue",
    "scores-blue-0",
    "0",
    "blue-0",
    "-",
    "/",
    "a/b",
    "b/c",
    "a",
    "b",
    "c",
    "a/1",
    "1",
    "a/b/1",
]


def test_every_member_of_every_group_has_a_transactional_id_of_its_own() -> None:
    pairs = {transactional_id(group, member): (group, member) for group in IDS for member in IDS}
    assert len(pairs) == len(IDS) ** 2
    assert transactional_id("scores-blue", "0") == "scores-blue/0"
    assert all(name.startswith(group) for name, (group, _) in pairs.items())
    long = {transactional_id("é" * size, "0") for size in (20_000, 20_001)}
    assert len(long) == 2
    assert all(len(name.encode()) <= LONGEST_ID_BYTES for name in long)


@pytest.mark.parametrize(
    ("client", "wanted"),
    [
        (
            "kafka-python",
            {
                "security_protocol": "SSL",
                "ssl_cafile": "a",
                "ssl_certfile": "b",
                "ssl_keyfile": "c",
                "ssl_check_hostname": True,
                "ssl_password": "d",
            },
        ),
        (
            "confluent",
            {
                "security.protocol": "SSL",
                "ssl.ca.location": "a",
                "ssl.certificate.location": "b",
                "ssl.key.location": "c",
                "ssl.endpoint.identification.algorithm": "https",
                "ssl.key.password": "d",
            },
        ),
    ],
)
def test_security_is_spelt_for_each_client(client: Any, wanted: dict[str, str]) -> None:
    security = {
        "protocol": "SSL",
        "mechanism": None,
        "ca_file": "a",
        "cert_file": "b",
        "key_file": "c",
        "check_hostname": True,
        "key_password": "d",
    }
    assert security_options(client, security) == wanted


def test_every_option_of_security_exists_in_kafka_python() -> None:
    from kafka import KafkaConsumer, KafkaProducer

    names = [
        "protocol",
        "mechanism",
        "username",
        "password",
        "ca_file",
        "cert_file",
        "key_file",
        "key_password",
        "check_hostname",
    ]
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
