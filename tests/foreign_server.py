"""A server on this machine that is no Kafka broker."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from worker.kafka.embedded.local_ports import HOST

ENDED_S = 60.0  # for its thread to end


@contextmanager
def foreign_server(answer: bytes | None = None) -> Iterator[str]:
    """``host:port`` of a server that accepts all and answers each question with these bytes; None: with nothing."""
    kept: list[socket.socket] = []
    with socket.create_server((HOST, 0)) as listening:

        def serve(connection: socket.socket, said: bytes) -> None:
            with suppress(OSError):
                connection.recv(1024)
                connection.sendall(said)
                connection.close()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    kept.append(listening.accept()[0])
                    if answer is not None:
                        threading.Thread(target=serve, args=(kept[-1], answer), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield f"{HOST}:{listening.getsockname()[1]}"
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
    accepting.join(ENDED_S)
    for each in kept:
        each.close()
