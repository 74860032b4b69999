"""The ciphers that are given for one of kafka-python's clients hold for every connection."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.secured import Authority
from worker.errors import KafkaUnavailableError
from worker.kafka.embedded.local_ports import HOST
from worker.kafka.opening import open_questions, open_sink, open_source, refused_clients
from worker.kafka.settings import ClientSettings

LONG_S = 60.0
LAST_CHOICE = "ECDHE-ECDSA-AES256-SHA"  # nobody takes it for another reason than that it is the only one offered


@pytest.fixture
def shaken(tmp_path: Path) -> Iterator[tuple[ClientSettings, list[str]]]:
    """Settings to reach a server that ends each connection after the handshake, and the cipher of each."""
    Authority(tmp_path, "ours").issue("good", HOST)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "good.crt", tmp_path / "good.key")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    found: list[str] = []
    with socket.create_server((HOST, 0)) as listening:

        def accept() -> None:
            while True:
                try:
                    plain = listening.accept()[0]
                except OSError:
                    return
                with suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
                    cipher = connection.cipher()
                    found.append("" if cipher is None else cipher[0])

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        servers = f"{HOST}:{listening.getsockname()[1]}"
        yield ClientSettings(servers, security={"protocol": "SSL", "ca_file": str(tmp_path / "ours.pem")}), found
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
    accepting.join(LONG_S)


def ask(settings: ClientSettings) -> None:
    with open_questions(settings, LONG_S):
        pass


@pytest.mark.parametrize("opened", [ask, open_source, open_sink])
@pytest.mark.parametrize("section", ["consumer", "producer"])
def test_ciphers_of_either_part_hold_for_every_connection(
    shaken: tuple[ClientSettings, list[str]], section: str, opened: Callable[[ClientSettings], object]
) -> None:
    settings, found = shaken
    options: dict[str, Any] = {section: {"ssl_ciphers": f"{LAST_CHOICE}:@SECLEVEL=0"}}
    given = ClientSettings(settings.bootstrap_servers, security=settings.security, **options)
    assert refused_clients(given) == []
    with pytest.raises(KafkaUnavailableError):
        opened(given)
    assert set(found) == {LAST_CHOICE}


def test_ciphers_that_there_are_not_are_refused() -> None:
    (line,) = refused_clients(
        ClientSettings("nowhere:1", security={"protocol": "SSL"}, consumer={"ssl_ciphers": "NOTHING"})
    )
    assert line.startswith("kafka.consumer.ssl_ciphers: kafka-python refuses it: ")
