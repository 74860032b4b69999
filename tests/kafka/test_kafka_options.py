"""What users may pass to a client, and when a silent client counts as stuck."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.secured import Authority
from worker.kafka.connection_options import client_options, contradicting_security, security_options
from worker.kafka.kafka_python.errors import translate
from worker.kafka.opening import refused_clients
from worker.kafka.options import CODEC_PACKAGES, contradicting_options, refused_options, spell_topic_id, why_refused
from worker.kafka.settings import LONGEST_ID_BYTES, ClientSettings, transactional_id
from worker.kafka.tls_files import wrong_files
from worker.kafka.watchdog import BAD_LOOKS_UNTIL_REBUILD, LOOK_INTERVAL_S, StallWatch


@pytest.mark.parametrize(
    ("client", "section", "free", "refused"),
    [
        ("kafka-python", "consumer", ["fetch_max_wait_ms", "session_timeout_ms"], ["group_id", "auto_offset_reset"]),
        ("kafka-python", "consumer", ["fetch_min_bytes"], ["value_deserializer", "isolation_level"]),
        ("kafka-python", "producer", ["linger_ms", "batch_size"], ["acks", "enable_idempotence", "partitioner"]),
        ("confluent", "consumer", ["session.timeout.ms"], ["isolation.level", "enable.partition.eof", "group.id"]),
        ("confluent", "producer", ["linger.ms", "compression.type"], ["request.required.acks", "bootstrap.servers"]),
        (
            "confluent",
            "consumer",
            ["topic.metadata.refresh.sparse"],
            ["default.topic.config", "topic.auto.offset.reset"],
        ),
        (
            "confluent",
            "consumer",
            ["fetch.min.bytes"],
            ["auto.commit.enable", "offset.store.method", "topic.blacklist"],
        ),
        ("confluent", "producer", ["metadata.max.age.ms"], ["default.topic.config", "topic.partitioner", "topic.acks"]),
        ("confluent", "producer", ["compression.level"], ["topic.compression.type", "queuing.strategy"]),
        ("confluent", "producer", [], ["plugin.library.paths", "interceptors", "test.mock.num.brokers"]),
    ],
)
def test_options_the_worker_must_control_are_named(
    client: Any, section: Any, free: list[str], refused: list[str]
) -> None:
    assert refused_options(client, section, dict.fromkeys([*free, *refused], 1)) == refused


@pytest.mark.parametrize("section", ["consumer", "producer"])
def test_options_of_topics_are_refused_where_they_would_pass_over_the_check_and_taken_by_their_own_names(
    section: Any,
) -> None:
    """librdkafka takes them in three spellings; the last one is looked at."""
    assert why_refused("default.topic.config").endswith("write them here by their own names and remove it")
    assert why_refused("topic.compression.type").endswith("write compression.type")
    assert why_refused("acks") == "the worker sets this itself; remove it"
    of_sections: dict[str, dict[str, Any]] = {
        "producer": {"compression.type": "zstd"}, "consumer": {"fetch.min.bytes": 2},
    }  # fmt: skip
    plain = of_sections[section]
    of_section: dict[str, Any] = {section: plain}
    assert refused_options("confluent", section, plain) == []
    assert refused_clients(ClientSettings("nowhere:1", "confluent", **of_section)) == []


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
        (line,) = contradicting_security(section, {"fetch.min.bytes": 1, name: "x"}, LOGIN)
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


WRONG = [
    ("kafka-python", "producer", {"compression_type": "brotli"}, "compression_type", "Not supported codec"),
    ("kafka-python", "consumer", {"request_timeout_ms": "30s"}, "request_timeout_ms", "should be a number"),
    ("kafka-python", "consumer", {"request_timeout_ms": 100}, "request_timeout_ms", "must be larger than"),
    ("kafka-python", "consumer", {"fetch_max_wait_ms": 1, "fetch_min_byte": 1}, "fetch_min_byte", "no such option"),
    ("kafka-python", "consumer", {"check_crcs": "yes"}, "check_crcs", "true or false"),
    ("kafka-python", "producer", {"linger_ms": 2**31}, "linger_ms", "should be a number"),
    ("kafka-python", "producer", {"proxy_url": "ftp://proxy"}, "proxy_url", "Unsupported proxy url scheme"),
    ("kafka-python", "consumer", {"client_dns_lookup": "all"}, "client_dns_lookup", "must be one of"),
    ("kafka-python", "consumer", {"metric_reporters": ["x"]}, "metric_reporters", "Python object"),
    ("kafka-python", "consumer", {"socket_options": [[1]]}, "socket_options", "should be a list"),
    ("kafka-python", "consumer", {"api_version": "new"}, "api_version", "should be text such as"),
    ("kafka-python", "consumer", {"api_version": 2.7}, "api_version", "should be text such as"),
    ("confluent", "producer", {"compression.type": "brotli"}, "compression.type", "Invalid value"),
    ("confluent", "producer", {"linger.ms": 1, "no.such": 1}, "no.such", "No such configuration property"),
    ("confluent", "consumer", {"fetch.min.bytes": [1]}, "fetch.min.bytes", "Invalid value"),
    ("confluent", "consumer", {"oauth_cb": "x"}, "oauth_cb", "callable"),
    ("kafka-python", "producer", {"max_request_size": 0}, "max_request_size", "should be at least 1000, not 0"),
    ("kafka-python", "producer", {"max_block_ms": 0}, "max_block_ms", "should be at least 100"),
    ("kafka-python", "producer", {"retry_backoff_ms": -1}, "retry_backoff_ms", "should be at least 0"),
    ("kafka-python", "consumer", {"max_partition_fetch_bytes": 0}, "max_partition_fetch_bytes", "should be at least 1"),
    ("kafka-python", "consumer", {"session_timeout_ms": 100, "heartbeat_interval_ms": 3000}, "session_timeout_ms",
     "must be lower than the session timeout"),
    ("confluent", "producer", {"delivery.timeout.ms": 1}, "delivery.timeout.ms", "should be at least 1000, not 1"),
    ("confluent", "producer", {"message.timeout.ms": "1"}, "message.timeout.ms", "should be at least 1000"),
    ("confluent", "consumer", {"socket.timeout.ms": 10}, "socket.timeout.ms", "should be at least 100"),
    ("confluent", "consumer", {"session.timeout.ms": 100, "heartbeat.interval.ms": 3000}, "session.timeout.ms",
     "must be below session.timeout.ms (100)"),
    ("confluent", "consumer", {"heartbeat.interval.ms": "45000"}, "heartbeat.interval.ms", "raise the second or lower"),
    ("confluent", "consumer", {"max.poll.interval.ms": 1_000}, "max.poll.interval.ms", "session.timeout.ms"),
]  # fmt: skip


@pytest.mark.parametrize("transactional", [None, "group/one"])
@pytest.mark.parametrize(("client", "section", "options", "name", "why"), WRONG)
def test_what_a_client_refuses_is_told_without_a_broker(
    client: Any, section: str, options: dict[str, Any], name: str, why: str, transactional: str | None
) -> None:
    of_section: dict[str, Any] = {section: options}
    settings = ClientSettings("nowhere:1", client, transactional_id=transactional, **of_section)
    (line,) = refused_clients(settings)
    assert line.startswith(f"kafka.{section}.{name}: ")
    assert why in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "settings",
    [
        ClientSettings("nowhere:1", "kafka-python", consumer={"fetch_max_wait_ms": 5, "socket_options": [[6, 1, 1]]}),
        ClientSettings("nowhere:1", "kafka-python", producer={"compression_type": "zstd", "linger_ms": 0.5}),
        ClientSettings("nowhere:1", "kafka-python", producer={"compression_type": "none", "api_version": [2, 7]}),
        ClientSettings("nowhere:1", "kafka-python", consumer={"api_version": "2.7"}, producer={"api_version": "auto"}),
        ClientSettings("nowhere:1", "confluent", producer={"compression.type": "none"}),
        ClientSettings("nowhere:1", "confluent", consumer={"session.timeout.ms": 10_000}),
        ClientSettings("nowhere:1", "confluent", consumer={"session.timeout.ms": 1_000, "heartbeat.interval.ms": 100}),
        ClientSettings("nowhere:1", "confluent", producer={"delivery.timeout.ms": 0}),
        ClientSettings("nowhere:1", "kafka-python", producer={"batch_size": 0, "send_buffer_bytes": -1}),
        ClientSettings("nowhere:1", "confluent", producer={"compression.type": "zstd"}, transactional_id="x"),
        ClientSettings("nowhere:1", "confluent", security={"protocol": "SSL", "check_hostname": False}),
        ClientSettings("nowhere:1", "kafka-python", security={"protocol": "SSL", "check_hostname": False}),
    ],
)
def test_what_a_client_takes_is_not_refused(settings: ClientSettings) -> None:
    assert refused_clients(settings) == []


@pytest.mark.parametrize(("codec", "module"), [("snappy", "snappy"), ("lz4", "lz4"), ("zstd", "zstd")])
def test_a_codec_that_is_missing_is_named_with_its_package_and_the_other_client(
    codec: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import kafka.codec
    from kafka import errors

    monkeypatch.setattr(kafka.codec, module, None)
    (line,) = refused_clients(ClientSettings("nowhere:1", producer={"compression_type": codec}))
    read = str(translate(errors.UnsupportedCodecError(f"Libraries for {codec} compression codec not found"), "poll"))
    for said in (line, read):
        assert f"pip install {CODEC_PACKAGES[codec]}" in said
        assert "kafka.client: confluent" in said


def test_files_of_security_are_opened_before_any_broker_is_asked(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    authority.issue("one", "one", password="secret")
    authority.issue("two", "two")
    (tmp_path / "text").write_text("text")
    place = {name: str(tmp_path / name) for name in ("ours.pem", "one.crt", "one.key", "two.key", "text", "nowhere")}

    def said(**keys: str) -> list[str]:
        given = {key: place.get(value, value) for key, value in keys.items()}
        found = list(wrong_files(given))
        for client in ("kafka-python", "confluent"):
            settings = ClientSettings("nowhere:1", client, security={"protocol": "SSL", **given})
            assert refused_clients(settings) == found
        return [line.replace(f"{tmp_path}/", "") for line in found]

    assert said(ca_file="ours.pem", cert_file="one.crt", key_file="one.key", key_password="secret") == []
    assert said(ca_file="nowhere") == ["kafka.security.ca_file: can't read 'nowhere': No such file or directory"]
    assert said(ca_file="text") == ["kafka.security.ca_file: 'text' holds no certificate in PEM form"]
    assert said(cert_file="one.crt", key_file="one.key") == [
        "kafka.security.key_password: is required, the key in 'one.key' is encrypted"
    ]
    assert said(cert_file="one.crt", key_file="one.key", key_password="wrong") == [
        "kafka.security.key_password: does not open the key in 'one.key'"
    ]
    assert said(cert_file="one.crt", key_file="two.key") == [
        "kafka.security.key_file: the key in 'two.key' does not belong to the certificate in cert_file"
    ]
    assert said(cert_file="text", key_file="two.key") == [
        "kafka.security.cert_file: 'text' holds no certificate in PEM form"
    ]
    assert said(cert_file="one.crt", key_file="text") == [
        "kafka.security.key_file: 'text' holds no private key in PEM form"
    ]
