"""A server that resets connections, in place of ending them with good manners: told as soon, and by both clients."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.secured import Authority
from worker.errors import KafkaRefusedError
from worker.kafka.opening import open_questions
from worker.kafka.settings import Client, ClientSettings

LONG_S = 120.0  # for questions: a refusal is told long before
RESET = struct.pack("ii", 1, 0)  # on close, at once
LOGIN = {"mechanism": "PLAIN", "username": "u", "password": "p"}


@contextmanager
def resetting(context: ssl.SSLContext | None) -> Iterator[str]:
    """Where it listens. It resets connections at the first bytes; with ``context`` at those after the handshake."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection = listening.accept()[0]
                    with suppress(OSError):
                        if context is not None:
                            connection = context.wrap_socket(connection, server_side=True)
                        connection.recv(4)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    connection.close()

        Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
@pytest.mark.parametrize(
    ("security", "handshake", "why", "remedy"),
    [
        ({}, False, "as on a port that speaks TLS", "kafka.security.protocol (SSL or SASL_SSL)"),
        ({"protocol": "SASL_PLAINTEXT", **LOGIN}, False, "as on a port that speaks TLS", "(SSL or SASL_SSL)"),
        ({"protocol": "SSL"}, False, "or asks for a certificate of this client", "PLAINTEXT"),
        ({"protocol": "SSL"}, False, "does not speak TLS on this port, or", "kafka.security.cert_file"),
        ({"protocol": "SASL_SSL", **LOGIN}, False, "does not speak TLS on this port, or", "kafka.security.cert_file"),
        ({"protocol": "SSL"}, True, "ends right after the TLS handshake", "kafka.security.cert_file"),
    ],
)
def test_a_reset_is_told_with_all_that_it_may_mean(
    tmp_path: Path, client: Client, security: dict[str, Any], handshake: bool, why: str, remedy: str
) -> None:
    authority = Authority(tmp_path, "ours")
    authority.issue("good", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "good.crt", tmp_path / "good.key")
    if str(security.get("protocol")).endswith("SSL"):
        security = {**security, "ca_file": str(authority.file)}
    with resetting(context if handshake else None) as server:
        settings = ClientSettings(server, client, security=security)
        with pytest.raises(KafkaRefusedError) as told, open_questions(settings, LONG_S):
            pass
    assert why in str(told.value)
    assert remedy in str(told.value)
