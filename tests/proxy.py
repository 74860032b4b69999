"""A network between Kafka clients and a broker that tests can break: it passes whole requests and answers, or doesn't.

Rule of this file: only frames and their first fields are read (length, request type, correlation id); what is inside is
nobody's business here. The broker must advertise the proxy's port to those who come through it: see ``proxied_broker``.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.embedded.local_ports import HOST, free_port

PRODUCE, ADD_PARTITIONS, ADD_OFFSETS, END_TRANSACTION, COMMIT_OFFSETS = 0, 24, 25, 26, 28  # request types
METADATA, FIND_COORDINATOR, HEARTBEAT = 3, 10, 12
CONNECT_TIMEOUT_S = 30.0

Rewrite = Callable[[bytes], bytes]  # an answer, from its correlation id on


class KafkaProxy:
    """Listens on ``port`` of this machine. ``requests`` and ``answers``: the types of all that have passed so far."""

    def __init__(self, broker_port: int, port: int = 0) -> None:
        self.requests: list[int] = []
        self.answers: list[int] = []
        self._broker_port = broker_port
        self._changed = threading.Condition()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._closed = False
        self._deliveries = 0
        self._forget_faults()
        self._listener = socket.create_server((HOST, port))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def bootstrap_servers(self) -> str:
        """``host:port`` of the proxy."""
        return f"{HOST}:{self.port}"

    def freeze(self) -> None:
        """Nothing passes until ``release``; connections stay."""
        self._change(lambda: setattr(self, "_frozen", True))

    def hold_requests(self, kind: int) -> None:
        """Requests of this type, and all that come after them on their connection, wait until ``release``.

        They are then delivered, even if their client has long given up.
        """
        self._change(lambda: self._held_requests.add(kind))

    def hold_answers(self, kind: int) -> None:
        """As ``hold_requests``, for answers: the broker has done what was asked."""
        self._change(lambda: self._held_answers.add(kind))

    def lose_answer(self, kind: int) -> None:
        """The next request of this type is carried out, and its connection breaks in place of the answer."""
        self._change(lambda: self._lost.append(kind))

    def delay_request(self, kind: int) -> None:
        """The connection of the next request of this type breaks; the request itself arrives after ``deliver``."""
        self._change(lambda: self._delayed.append(kind))

    def deliver(self) -> None:
        """What was delayed arrives now."""
        self._change(lambda: setattr(self, "_deliveries", self._deliveries + 1))

    def rewrite_answers(self, kind: int, rewrite: Rewrite) -> None:
        """Change every answer to requests of this type, until ``release``."""
        self._change(lambda: self._rewritten.update({kind: rewrite}))

    def release(self) -> None:
        """No more faults: what was held or delayed passes."""
        self._change(self._forget_faults)
        self.deliver()

    def cut(self) -> None:
        """Break all connections."""
        with self._changed:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _close(*pair)

    def close(self) -> None:
        """End everything."""
        self._change(lambda: setattr(self, "_closed", True))
        _close(self._listener)
        self.cut()

    def _forget_faults(self) -> None:
        self._frozen = False
        self._held_requests: set[int] = set()
        self._held_answers: set[int] = set()
        self._lost: list[int] = []
        self._delayed: list[int] = []
        self._rewritten: dict[int, Rewrite] = {}

    def _change(self, change: Callable[[], object]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._closed)

    def _take(self, once: list[int], kind: int) -> bool:
        with self._changed:
            found = kind in once
            if found:
                once.remove(kind)
            return found

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    broker = socket.create_connection((HOST, self._broker_port), CONNECT_TIMEOUT_S)
                except OSError:
                    client.close()
                    continue
                broker.settimeout(None)
                for end in (client, broker):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._changed:
                    self._pairs.append((client, broker))
                asked: dict[int, int] = {}  # correlation id → request type
                for carry in (self._carry_requests, self._carry_answers):
                    threading.Thread(target=carry, args=(client, broker, asked), daemon=True).start()

    def _carry_requests(self, client: socket.socket, broker: socket.socket, asked: dict[int, int]) -> None:
        with suppress(OSError):
            while frame := _read_frame(client):
                kind, _, correlation = struct.unpack_from(">hhi", frame)
                asked[correlation] = kind
                if self._take(self._delayed, kind):
                    before = self._deliveries
                    _close(client)
                    self._wait_until(lambda: self._deliveries > before)  # noqa: B023  called here only
                else:
                    self._wait_until(lambda: not self._frozen and kind not in self._held_requests)  # noqa: B023
                broker.sendall(struct.pack(">i", len(frame)) + frame)
                self.requests.append(kind)
        # The broker may still have something to answer: the other direction ends with it.
        with suppress(OSError):
            broker.shutdown(socket.SHUT_WR)

    def _carry_answers(self, client: socket.socket, broker: socket.socket, asked: dict[int, int]) -> None:
        with suppress(OSError):
            while frame := _read_frame(broker):
                kind = asked.pop(struct.unpack_from(">i", frame)[0], -1)
                self.answers.append(kind)
                self._wait_until(lambda: not self._frozen and kind not in self._held_answers)  # noqa: B023
                if self._take(self._lost, kind):
                    break
                if kind in self._rewritten:
                    frame = self._rewritten[kind](frame)
                with suppress(OSError):  # a client that has gone: the broker continues with its request
                    client.sendall(struct.pack(">i", len(frame)) + frame)
        _close(client, broker)


@contextmanager
def proxied_broker() -> Iterator[tuple[EmbeddedKafka, KafkaProxy]]:
    """A broker with two doors: its own port, and a proxy whose guests are told to come back through it."""
    direct, behind, controller = free_port(), free_port(), free_port()
    proxy = KafkaProxy(behind)
    properties = {
        "listeners": f"PLAINTEXT://{HOST}:{direct},PROXIED://{HOST}:{behind},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{direct},PROXIED://{proxy.bootstrap_servers}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 200,
    }
    try:
        with EmbeddedKafka(port=direct, heap_mb=256, properties=properties) as broker:
            yield broker, proxy
    finally:
        proxy.close()


def _read_frame(end: socket.socket) -> bytes:
    """The next frame without its length; empty when the connection has ended."""
    length = _read(end, 4)
    return _read(end, struct.unpack(">i", length)[0]) if length else b""


def _read(end: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = end.recv(count - len(parts))
        if not part:
            return b""
        parts += part
    return bytes(parts)


def _close(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
