"""TCP connections on a bounded number of threads: a silent connection makes room for a new one.

Probes must get through while somebody else holds connections open: above the limit the oldest connection is closed, not
the newest refused. A thread ends with its connection, and a connection within its time limits.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import threading
import time
from contextlib import suppress
from typing import Any

MAX_CONNECTIONS = 64
BACKLOG_CONNECTIONS = 128  # connections that the system keeps until they are accepted
ROOM_TIMEOUT_S = 1.0  # for the thread of the oldest connection to notice that it was closed
ACCEPT_PAUSE_S = 0.1  # when the system has no more files to open

log = logging.getLogger(__name__)


class BoundedServer(socketserver.TCPServer):
    """Runs ``handler`` for each connection on a thread of its own, at most MAX_CONNECTIONS at a time."""

    allow_reuse_address = True
    request_queue_size = BACKLOG_CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: type[socketserver.BaseRequestHandler]) -> None:
        """Raises OSError or OverflowError when the address can't be used."""
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._lock = threading.Lock()  # a connection in `_open` is open: no other connection has its number yet
        self._open: dict[socket.socket, None] = {}
        super().__init__(address, handler)

    def hang_up(self, connections: int) -> None:
        """Closes so many connections, the oldest first, whatever they are waiting for."""
        with self._lock:
            for oldest in list(self._open)[:connections]:
                del self._open[oldest]
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection. Raises OSError when there is none."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(ACCEPT_PAUSE_S)  # or the loop would retry at once, for as long as the shortage lasts
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers on a thread, when there is room for one or room can be made."""
        if not self._room.acquire(blocking=False):
            self.hang_up(1)
            if not self._room.acquire(timeout=ROOM_TIMEOUT_S):
                self.shutdown_request(request)
                return
        with self._lock:
            self._open[request] = None
        thread = threading.Thread(target=self._serve, args=(request, client_address), name="http-answer", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            log.warning("no thread for a connection to http.port: %s", error)
            self._end(request)

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # a client that went away is not worth a log line
        except Exception:
            log.exception("a request to http.port was not answered")
        finally:
            self._end(request)

    def _end(self, request: socket.socket) -> None:
        with self._lock:
            self._open.pop(request, None)
        self.shutdown_request(request)
        self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Called by the accepting thread; a connection that broke is not worth a log line either."""
        log.debug("a connection to http.port broke", exc_info=True)
