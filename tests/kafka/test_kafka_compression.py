"""A default installation reads and writes every compression that Kafka has, with either client."""

from __future__ import annotations

import pytest

from tests.conftest import NewTopic
from tests.subscribed import read
from worker.errors import WorkerError
from worker.kafka.opening import missing_codecs, open_sink
from worker.kafka.options import about_missing_codec
from worker.kafka.settings import Client, ClientSettings
from worker.records.messages import Messages

CODECS = ("gzip", "snappy", "lz4", "zstd")
CLIENTS: tuple[Client, ...] = ("kafka-python", "confluent")
# Far more than a block of any codec, in batches that are small once compressed.
VALUES = [b'{"a": %d, "pad": "%s"}' % (number, b"x" * 300_000) for number in range(8)]


def write(servers: str, topic: str, client: Client, codec: str) -> None:
    name = {"kafka-python": "compression_type", "confluent": "compression.type"}[client]
    sink = open_sink(ClientSettings(servers, client, producer={name: codec}))
    sink.send(topic, Messages([b"device"] * len(VALUES), list(VALUES), [[("trace", b"7")]] * len(VALUES)))
    sink.flush(120)
    sink.close(30)


def values(servers: str, topics: list[str], client: Client) -> dict[str, list[bytes | None]]:
    settings = ClientSettings(servers, client, group_id=f"group-{client}-of-{topics[0]}")
    found = read(settings, len(topics) * len(VALUES), *topics)
    return {
        topic: [value for batch in found if batch.partition.topic == topic for value in batch.values]
        for topic in topics
    }


def test_either_client_reads_what_either_has_compressed(bootstrap_servers: str, topic: NewTopic) -> None:
    names = {(client, codec): topic(prefix=f"{codec}-{client}") for client in CLIENTS for codec in CODECS}
    for (client, codec), name in names.items():
        write(bootstrap_servers, name, client, codec)
    for client in CLIENTS:
        found = values(bootstrap_servers, list(names.values()), client)
        assert {name: each == VALUES for name, each in found.items()} == dict.fromkeys(found, True)


def test_a_codec_that_is_missing_is_told_with_the_place(
    bootstrap_servers: str, topic: NewTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic(prefix="zstd")
    write(bootstrap_servers, name, "confluent", "zstd")
    monkeypatch.setattr("kafka.codec.zstd", None)
    assert missing_codecs(ClientSettings(bootstrap_servers)) == [about_missing_codec("zstd")]
    with pytest.raises(WorkerError) as told:
        values(bootstrap_servers, [name], "kafka-python")
    assert str(told.value) == f"poll: {name}/0 at offset 0: {about_missing_codec('zstd')}"
