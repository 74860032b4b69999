"""A record with a header whose name is not UTF-8 stops nobody: it is a dead letter, with either client."""

from __future__ import annotations

from typing import Any

import pytest
from kafka import KafkaProducer

from tests.conftest import NewTopic
from tests.subscribed import read
from worker.codecs.commands import command_of
from worker.codecs.unusable import UnusableError
from worker.kafka.opening import open_sink
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages
from worker.records.record_batch import NotUtf8


class Raw(str):
    """A name that is sent as Latin-1."""

    def encode(self, *args: object, **options: object) -> bytes:
        return super().encode("latin-1")


HEADERS: list[list[tuple[str, bytes]]] = [
    [],
    [("good", b"1"), (Raw("ÿþnot UTF-8"), b"2"), ("good", b"3")],
    [("grün", b"4")],
    [],
    [(Raw("één"), b"5"), ("good", b"6"), (Raw("ötwo"), b"7"), (Raw("üthree"), b"8")],
]


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_such_a_record_is_read_and_told_apart(
    bootstrap_servers: str, topic: NewTopic, client: Any, compression: str | None
) -> None:
    name = topic()
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers, linger_ms=200, compression_type=compression)
    for number, given in enumerate(HEADERS):
        producer.send(name, key=b"device", value=b"%d" % number, headers=given)
    producer.close()
    settings = ClientSettings(bootstrap_servers, client, group_id=f"group-{client}-{name}")
    found = read(settings, len(HEADERS), name)
    headers = [each for batch in found for each in batch.headers]
    assert [value for batch in found for value in batch.values] == [b"0", b"1", b"2", b"3", b"4"]
    assert [headers[0], headers[2], headers[3]] == [None, [("grün", b"4")], None]
    for index, first in ((1, r"\xff\xfenot UTF-8"), (4, r"\xe9\xe9n")):
        assert any(isinstance(text, NotUtf8) for text, _ in headers[index] or ())
        with pytest.raises(UnusableError) as refused:
            command_of(headers[index])
        assert refused.value.error == "not_utf8"
        assert refused.value.reason == f"the name of a header is not UTF-8: {first}"
    if client == "kafka-python":
        assert headers[1] == [("good", b"1"), ("\\xff\\xfenot UTF-8", b"2"), ("good", b"3")]
    sink = open_sink(ClientSettings(bootstrap_servers, client))  # a dead letter holds them, as far as they are known
    sink.send(name, Messages([b"device"], [b"1"], [headers[1] or []]))
    sink.flush(120)
    sink.close(30)
