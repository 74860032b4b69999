"""Metrics and probes over HTTP, on threads of their own: they answer while the loop is busy, and never ask Kafka."""

from __future__ import annotations

import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from worker.errors import WorkerError
from worker.web.metrics import Metrics
from worker.web.status import WorkerStatus

REQUEST_TIMEOUT_S = 10.0  # a client that says nothing for longer is hung up on
CLOSE_TIMEOUT_S = 5.0
TEXT = "text/plain; charset=utf-8"
INDEX = """<!doctype html><html lang="en"><meta charset="utf-8"><title>rnn-stream-worker</title>
<h1>rnn-stream-worker</h1>
<ul><li><a href="/metrics">/metrics</a>: for Prometheus
<li><a href="/livez">/livez</a>: the loop turns
<li><a href="/readyz">/readyz</a>: model warm, group joined, states restored</ul>
"""


class ProbeServer:
    """Serves from construction until ``close``."""

    def __init__(self, host: str, port: int, metrics: Metrics, status: WorkerStatus) -> None:
        """Port 0 takes any free one. Raises WorkerError when the address can't be had."""

        class Handler(_Handler):
            routes = _Routes(metrics, status)

        try:
            self._server = _Server((host, port), Handler)
        except (OSError, OverflowError) as error:
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
        self._thread.join(CLOSE_TIMEOUT_S)


class _Routes:
    """Path → (status, content type, body)."""

    def __init__(self, metrics: Metrics, status: WorkerStatus) -> None:
        self._metrics, self._status = metrics, status

    def answer(self, path: str, accept: str) -> tuple[HTTPStatus, str, bytes]:
        match path:
            case "/":
                return HTTPStatus.OK, "text/html; charset=utf-8", INDEX.encode()
            case "/metrics":
                return HTTPStatus.OK, *self._metrics.exposition(accept)
            case "/livez":
                stuck = self._status.stuck()
                return _verdict([stuck] if stuck else [], "alive")
            case "/readyz":
                return _verdict(self._status.missing(), "ready")
        return HTTPStatus.NOT_FOUND, TEXT, b"not found; see /\n"


def _verdict(reasons: list[str], fine: str) -> tuple[HTTPStatus, str, bytes]:
    status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
    return status, TEXT, "".join(f"{line}\n" for line in reasons or [fine]).encode()


class _Handler(BaseHTTPRequestHandler):
    routes: _Routes
    timeout = REQUEST_TIMEOUT_S
    server_version = "rnn-stream-worker"
    sys_version = ""

    def do_GET(self) -> None:
        self._respond(with_body=True)

    def do_HEAD(self) -> None:
        self._respond(with_body=False)

    def _respond(self, *, with_body: bool) -> None:
        status, content_type, body = self.routes.answer(urlsplit(self.path).path, self.headers.get("Accept", ""))
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Probes come every few seconds: nothing worth a line."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # The library would look up the host's name, which takes seconds where there is no name service.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that went away is no news
            super().handle_error(request, client_address)
