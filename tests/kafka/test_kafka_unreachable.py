"""When no server can be reached, the error says of each what it has failed with; the same with both clients."""

from __future__ import annotations

import logging
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import eventually
from tests.foreign_server import foreign_server
from tests.proxy import METADATA, proxied_broker
from tests.running import WAIT_S, get, worker
from tests.said import said
from tests.sequences import configuration, save_model
from worker.errors import KafkaUnavailableError
from worker.kafka.confluent.sink import ConfluentSink
from worker.kafka.confluent.source import ConfluentSource
from worker.kafka.confluent.transactions import ConfluentTransactions
from worker.kafka.embedded.local_ports import HOST, free_port
from worker.kafka.opening import open_questions
from worker.kafka.settings import ClientSettings

CLIENTS = ("kafka-python", "confluent")
LONG_S = 120.0  # what is known at once is told at once
SHORT_S = 2.0
FOR_ALL_S = 20.0  # enough for each of three servers to be asked, also on a busy machine
NOWHERE = "nowhere.invalid:9092"
HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
NOISE = b"SSH-2.0-OpenSSH_9.6\r\n"


def told(settings: ClientSettings, timeout_s: float) -> str:
    with pytest.raises(KafkaUnavailableError) as said, open_questions(settings, timeout_s):
        pass
    assert "\n" not in str(said.value)
    return str(said.value)


@pytest.mark.parametrize("client", CLIENTS)
def test_each_server_is_named_with_what_it_has_failed_with(client: Any) -> None:
    refused = f"{HOST}:{free_port()}"
    with foreign_server() as silent:
        said = told(ClientSettings(f"{NOWHERE},{refused},{silent}", client), FOR_ALL_S)
    assert "no server has answered (" in said
    assert re.search(rf"{NOWHERE}: [^;]*resol", said, re.IGNORECASE)
    assert re.search(rf"{refused}: [^;]*refused", said, re.IGNORECASE)
    assert f"{silent}: it has not answered within {FOR_ALL_S:g} s" in said
    assert "in state" not in said


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("security", [{}, {"protocol": "SSL"}])
def test_a_silent_server_alone_is_said_to_be_silent(client: Any, security: dict[str, str]) -> None:
    with foreign_server() as silent:
        said = told(ClientSettings(silent, client, security=security), SHORT_S)
    assert said.endswith(f"no server has answered ({silent}: it has not answered within {SHORT_S:g} s)")


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("answer", "security", "why"),
    [
        (HTTP, {}, "this port speaks HTTP, which is not Kafka's protocol"),
        (HTTP, {"protocol": "SASL_PLAINTEXT", "mechanism": "PLAIN", "username": "u", "password": "p"}, "speaks HTTP"),
        (NOISE, {}, "this port does not speak Kafka's protocol"),
        (b"\x15\x03\x03\x00\x02\x02\x46", {}, "as on a port that speaks TLS"),
        (HTTP, {"protocol": "SSL"}, "does not speak TLS on this port"),
    ],
)
def test_another_protocol_is_named_at_once(client: Any, answer: bytes, security: dict[str, str], why: str) -> None:
    with foreign_server(answer) as other:
        said = told(ClientSettings(other, client, security=security), LONG_S)
    assert why in said
    assert "kafka.security.protocol" in said


OPENED: tuple[Callable[[ClientSettings], object], ...] = (
    lambda settings: ConfluentSource(settings, SHORT_S),
    lambda settings: ConfluentSink(settings, SHORT_S),
    lambda settings: ConfluentTransactions(settings, SHORT_S),
)


@pytest.mark.parametrize("opened", OPENED)
def test_every_client_of_confluent_says_so_once(
    opened: Callable[[ClientSettings], object], caplog: pytest.LogCaptureFixture
) -> None:
    refused = f"{HOST}:{free_port()}"
    with caplog.at_level(logging.INFO), pytest.raises(KafkaUnavailableError) as raised:
        opened(ClientSettings(refused, "confluent", transactional_id="id"))
    assert re.search(rf"no server has answered \({refused}: .*Connection refused\)$", str(raised.value))
    assert said(caplog) == []


@pytest.mark.parametrize("client", CLIENTS)
def test_a_worker_says_why_it_reaches_nobody(client: Any, tmp_path: Path) -> None:
    save_model(tmp_path / "model.keras")
    keys = configuration(tmp_path, f"{HOST}:{free_port()}", client, ("in", "out", "dead"))
    keys["http"]["port"] = port = free_port()
    (tmp_path / "worker.yaml").write_text(yaml.safe_dump(keys))
    with worker(tmp_path, "worker"):
        status, _ = eventually(
            lambda: found if (found := get(port, "/readyz"))[1].upper().count("REFUSED") else None, WAIT_S
        )
    assert status == 503
    assert "Traceback" not in (tmp_path / "worker.log").read_text()


ASKS = """
import sys
from worker.errors import KafkaUnavailableError
from worker.kafka.opening import open_questions
from worker.kafka.settings import ClientSettings

while True:  # as `worker run` does: a client that has been told of no broker may not find one again
    try:
        with open_questions(ClientSettings(sys.argv[1], "confluent"), 10.0) as cluster:
            print(cluster.partitions("readings"))
        break
    except KafkaUnavailableError:
        pass
"""


class WithoutBrokers:
    """Second and third answer to questions about topics (version 13), by a broker that its cluster has put out."""

    def __init__(self) -> None:
        self._answers = 0

    def __call__(self, frame: bytes) -> bytes:
        self._answers += 1
        if self._answers not in (2, 3):
            return frame
        topics = [name for name in (b"__consumer_offsets", b"readings") if name in frame]
        unknown, no_id, no_partitions, tags = struct.pack(">h", 3), bytes(16), b"\x00\x01", b"\x00"
        rights = struct.pack(">i", -(2**31))
        told = [unknown + bytes([len(name) + 1]) + name + no_id + no_partitions + rights + tags for name in topics]
        head = frame[:4] + tags + struct.pack(">iBBi", 0, 1, 0, -1)  # no wait, no brokers, no cluster, no controller
        return head + bytes([len(told) + 1]) + b"".join(told) + struct.pack(">h", 0) + tags


@pytest.mark.broker
def test_a_broker_that_knows_of_no_brokers_ends_nobody() -> None:
    """So answers one that is just coming back: librdkafka takes it for a bug of its own, and ends the process."""
    with proxied_broker() as (broker, proxy):
        broker.create_topic("readings", 3)
        proxy.rewrite_answers(METADATA, WithoutBrokers())
        asking = [sys.executable, "-c", ASKS, proxy.bootstrap_servers]
        answer = subprocess.run(asking, capture_output=True, text=True, check=False, timeout=2 * LONG_S)
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.strip() in ("3", "None")
