"""Metrics and probes over HTTP, on threads of their own: they answer while the loop is busy, and never ask Kafka."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus

from worker.errors import WorkerError
from worker.web.connections import MAX_CONNECTIONS, BoundedServer
from worker.web.metrics import Metrics
from worker.web.requests import MAX_HEAD_BYTES, Refused, Request, is_complete, metrics_format, read_request
from worker.web.status import WorkerStatus

REQUEST_TIMEOUT_S = 10.0  # from the connection to the end of the request's head, however slowly it comes
ANSWER_TIMEOUT_S = 10.0  # for the client to take the whole answer
LINGER_TIMEOUT_S = 1.0  # for the client to close first: data it still sends would break the answer under way
LINGER_BYTES = 64 * 1024
CLOSE_TIMEOUT_S = 5.0
RECEIVE_BYTES = 4096
TEXT = "text/plain; charset=utf-8"
METHODS = ("GET", "HEAD")
PATHS = ("/", "/metrics", "/livez", "/readyz")
INDEX = """<!doctype html><html lang="en"><meta charset="utf-8"><title>rnn-stream-worker</title>
<h1>rnn-stream-worker</h1>
<ul><li><a href="/metrics">/metrics</a>: for Prometheus
<li><a href="/livez">/livez</a>: the loop turns
<li><a href="/readyz">/readyz</a>: model warm, group joined, states restored</ul>
"""


class ProbeServer:
    """Serves from construction until ``close``."""

    def __init__(self, host: str, port: int, metrics: Metrics, status: WorkerStatus) -> None:
        """Port 0 takes any free one. Raises WorkerError when the address can't be used."""
        metrics.watch(status)

        class Handler(_Handler):
            routes = _Routes(metrics, status)

        try:
            self._server = BoundedServer((host, port), Handler)
        except (OSError, OverflowError, TypeError) as error:  # TypeError: a name that can't be a host's
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise WorkerError(
                f"http.port: can't listen on {host}:{port}: {reason}; choose another http.port or http.host"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stops listening. Safe to call twice."""
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up(MAX_CONNECTIONS)
        self._thread.join(CLOSE_TIMEOUT_S)


class _Routes:
    """Request → (status, content type, body)."""

    def __init__(self, metrics: Metrics, status: WorkerStatus) -> None:
        self._metrics, self._status = metrics, status

    def answer(self, request: Request) -> tuple[HTTPStatus, str, bytes]:
        if request.path not in PATHS:
            return HTTPStatus.NOT_FOUND, TEXT, b"not found; see /\n"
        if request.method not in METHODS:
            return HTTPStatus.METHOD_NOT_ALLOWED, TEXT, f"use {' or '.join(METHODS)}\n".encode()
        match request.path:
            case "/metrics":
                return HTTPStatus.OK, *self._metrics.exposition(metrics_format(request.accept))
            case "/livez":
                stuck = self._status.stuck()
                return _verdict([stuck] if stuck else [], "alive")
            case "/readyz":
                return _verdict(self._status.missing(), "ready")
        return HTTPStatus.OK, "text/html; charset=utf-8", INDEX.encode()


def _verdict(reasons: list[str], fine: str) -> tuple[HTTPStatus, str, bytes]:
    status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
    return status, TEXT, "".join(f"{line}\n" for line in reasons or [fine]).encode()


class _Handler(socketserver.BaseRequestHandler):
    """One request per connection: probes don't ask twice, and a closed connection needs no limit."""

    routes: _Routes
    request: socket.socket

    def handle(self) -> None:
        head = self._receive_head(time.monotonic() + REQUEST_TIMEOUT_S)
        if not head:
            return
        asked = head if isinstance(head, Refused) else read_request(head)
        if isinstance(asked, Refused):
            status, content_type, body = asked.status, TEXT, f"{asked.reason}\n".encode()
        else:
            status, content_type, body = self.routes.answer(asked)
        with_body = isinstance(asked, Refused) or asked.method != "HEAD"
        self.request.settimeout(ANSWER_TIMEOUT_S)
        self.request.sendall(_head_of(status, content_type, len(body)) + (body if with_body else b""))
        self._linger(time.monotonic() + LINGER_TIMEOUT_S)

    def _receive_head(self, deadline_s: float) -> bytes | Refused:
        """The bytes of one request; b"" for a client that said nothing."""
        received = b""
        while not is_complete(received):
            if len(received) > MAX_HEAD_BYTES:
                long = (
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if b"\n" in received else HTTPStatus.REQUEST_URI_TOO_LONG
                )
                return Refused(long, f"a request has at most {MAX_HEAD_BYTES} bytes")
            try:
                piece = self._receive(deadline_s)
            except TimeoutError:
                late = Refused(HTTPStatus.REQUEST_TIMEOUT, f"a request takes at most {REQUEST_TIMEOUT_S:.0f} s")
                return late if received else b""
            if not piece:
                return Refused(HTTPStatus.BAD_REQUEST, "the request ends early") if received else b""
            received = (received + piece).lstrip(b"\r\n")  # empty lines before a request are allowed
        return received

    def _receive(self, deadline_s: float) -> bytes:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self.request.settimeout(left_s)
        return self.request.recv(RECEIVE_BYTES)

    def _linger(self, deadline_s: float) -> None:
        with suppress(OSError):
            self.request.shutdown(socket.SHUT_WR)
            for _ in range(LINGER_BYTES // RECEIVE_BYTES):
                if not self._receive(deadline_s):
                    return


def _head_of(status: HTTPStatus, content_type: str, length: int) -> bytes:
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Date: {formatdate(usegmt=True)}",
        "Server: rnn-stream-worker",
        f"Content-Type: {content_type}",
        f"Content-Length: {length}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append(f"Allow: {', '.join(METHODS)}")
    return "\r\n".join([*lines, "", ""]).encode()
