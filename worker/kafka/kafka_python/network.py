"""How kafka-python connects. The client itself gives all its time to one server, taken at random, and says only in its
log why a connection was refused.

Here every listed server gets its chance: the next one is asked when the last has failed, or has not answered for a
moment. Servers that refuse us are kept in ``refusals``, and tried again slowly.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

from kafka import errors
from kafka.future import Future
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from worker.kafka.kafka_python.refusals import cause_of, detail_of, has_ended, plain, reason_of
from worker.kafka.kafka_python.tls import tls_context
from worker.kafka.refusals import Reason, Refusal, no_server, not_answered

NEXT_SERVER_S = 1.0  # without an answer; the slow one may still be first
ROUND_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
ROUND_LIMIT_S = 60.0
REFUSED_PAUSE_S = 10.0  # a broker logs each wrong password
SETUP_TIMEOUT_MS = 5_000  # for a connection to a broker, then twice as long up to the client's own limit
# A frozen node keeps its connections: the client would wait 30 s for it, long after another node has replaced it. So
# answers that a healthy node gives at once are waited for no longer than this.
SHORT_ANSWER_MS = 5_000
# As the protocol numbers them: ListOffsets, Metadata, OffsetFetch, FindCoordinator, Heartbeat.
SHORT_REQUESTS = frozenset({2, 3, 9, 10, 12})

_GIVEN_UP = "given up: it has not answered"
_SILENCE = (_GIVEN_UP, "Connection timed out")  # ours, and the client's


class _Plain(logging.Filter):
    """The client reports whatever ends a connection as an error, with a traceback of its own insides."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], OSError):
            record.exc_info = None
        return _GIVEN_UP not in record.getMessage()


logging.getLogger("kafka.net.transport").addFilter(_Plain())
logging.getLogger("kafka.net.connection").addFilter(_Plain())


class RefusedError(errors.KafkaError):  # type: ignore[misc]
    """No server accepts us; the message says why."""


class Network(KafkaNetClient):  # type: ignore[misc]
    """What a consumer, producer or admin client sends its requests with."""

    def __init__(self, **config: Any) -> None:
        net = NetworkSelector(**config)
        super().__init__(net=net, manager=Connections(net, **config))

    def close(self, node_id: Any = None) -> None:
        """The connections end on the thread that reads them: ended by another, it may yet wait for a socket that is
        gone, and the client reports that with a traceback.
        """
        if node_id is None:
            with suppress(Exception):  # that thread has ended, and this says of what, or it is this one
                self._net.run(self._manager.close)
        super().close(node_id)


class Connections(KafkaConnectionManager):  # type: ignore[misc]
    """``refusals``: node → why the last connection to it was refused."""

    DEFAULT_CONFIG: ClassVar[dict[str, Any]] = {
        **KafkaConnectionManager.DEFAULT_CONFIG,
        "socket_connection_setup_timeout_ms": SETUP_TIMEOUT_MS,
        "ssl_ciphers": None,
    }

    def __init__(self, net: Any, **config: Any) -> None:
        super().__init__(net, **config)
        self.refusals: dict[Any, Refusal] = {}
        self._failed: dict[str, BaseException] = {}  # server → its last failure

    def send(self, request: Any, node_id: Any = None, request_timeout_ms: float | None = None) -> Any:
        """Send a request; its answer, in time, or its connection is given up."""
        if request_timeout_ms is None and request.API_KEY in SHORT_REQUESTS:
            request_timeout_ms = min(self.config["request_timeout_ms"], SHORT_ANSWER_MS)
        return super().send(request, node_id, request_timeout_ms)

    def locked_out(self) -> Refusal | None:
        """Why no broker accepts us, when that is certain; None while one does."""
        if any(connection.connected for connection in list(self._conns.values())):
            return None
        return next((refusal for refusal in list(self.refusals.values()) if refusal.sure), None)

    async def _do_bootstrap(self, deadline: float | None) -> bool:
        limit, pause_s, begun_s = math.inf if deadline is None else deadline, ROUND_PAUSE_S, time.monotonic()
        while not self.closed and time.monotonic() < limit:
            if await self._ask_all(limit):
                self.cluster.start_refresh_loop()
                return True
            if self.refusals and deadline is not None:
                raise RefusedError(str(min(self.refusals.values(), key=lambda refusal: not refusal.sure)))
            await self._bootstrap_wakeup(max(min(pause_s, limit - time.monotonic()), 0.0))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        silent = not_answered(round(time.monotonic() - begun_s))
        failed = ((server, silent if _is_silence(error) else plain(error)) for server, error in self._failed.items())
        raise errors.KafkaTimeoutError(no_server(failed))

    async def _ask_all(self, limit: float) -> bool:
        """One round; whether a server has described the cluster."""
        servers = self.cluster.bootstrap_brokers()
        random.shuffle(servers)
        tries: list[Any] = []
        try:
            for number, server in enumerate(servers, 1):
                tries.append(self.call_soon(self._ask, server.node_id, limit))
                tries[-1].add_errback(partial(self._note_failure, f"{server.host}:{server.port}"))
                left_s = limit - time.monotonic()
                await self._settled(tries, left_s if number == len(servers) else min(NEXT_SERVER_S, left_s))
                if any(each.succeeded() for each in tries):
                    return True
            return False
        finally:
            for server in servers:  # those that have not answered
                if (connection := self._conns.pop(server.node_id, None)) is not None:
                    connection.close(errors.KafkaConnectionError(_GIVEN_UP))

    def _note_failure(self, server: str, error: BaseException) -> None:
        if server not in self._failed or not _is_silence(error):  # the end of the time says least
            self._failed[server] = error

    async def _settled(self, tries: Sequence[Any], timeout_s: float) -> None:
        """Until one has succeeded, all have failed, or the time is over."""
        settled = Future()

        def look(_: object) -> None:
            over = any(each.succeeded() for each in tries) or all(each.is_done for each in tries)
            if over and not settled.is_done:
                settled.success(None)

        def give_up() -> None:
            if not settled.is_done:
                settled.success(None)

        for each in tries:
            each.add_both(look)
        timer = self._net.call_later(min(max(timeout_s, 0.0), ROUND_LIMIT_S), give_up)
        try:
            await settled
        finally:
            self._net.cancel(timer)

    async def _ask(self, node_id: Any, limit: float) -> None:
        """Connect and let it describe the cluster. Raises the client's errors."""
        self.reset_backoff(node_id)
        left_ms = None if limit == math.inf else max(limit - time.monotonic(), 0.0) * 1000
        connection = self.get_connection(
            node_id, left_ms, pop_on_close=False, refresh_metadata_on_err=False, reset_backoff_on_connect=False
        )
        await connection
        try:
            await self.cluster._do_refresh_metadata(node_id)  # the public one may wait for that of another server
        except errors.KafkaConnectionError as error:
            if has_ended(error) and not self.config["security_protocol"].startswith("SASL"):
                self._note(node_id, "login_port")
            raise
        if not self.cluster.brokers():
            raise errors.BrokerNotAvailableError("it knows of no brokers")

    async def _connect(self, node: Any, conn: Any, *args: Any, **options: Any) -> None:
        await super()._connect(node, conn, *args, **options)
        opened = conn.init_future
        if not opened.is_done:
            return
        if opened.exception is None:
            self.refusals.pop(node.node_id, None)
            return
        reason = reason_of(opened.exception, self.config, answered=conn.broker_version_data is not None)
        # The client treats a failed login as a good connection, and would try again at once.
        self.update_backoff(node.node_id)
        if reason is not None:
            self._note(node.node_id, reason, opened.exception)
            if not self.refusals[node.node_id].sure:
                return
            failures, _, setup_ms = self._backoff[node.node_id]
            self._backoff[node.node_id] = (failures, time.monotonic() + REFUSED_PAUSE_S, setup_ms)

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        if self.ssl_enabled and self.config["ssl_ciphers"] is not None:
            self.config["ssl_context"] = tls_context({**self.config, "ssl_context": None})  # files may be new ones
        transport = await super()._build_transport(node, timeout_at=timeout_at)
        transport._sock_recv = _answer_first(transport._sock_recv)
        return transport

    def _note(self, node_id: Any, reason: Reason, error: BaseException | None = None) -> None:
        node = self.cluster.broker_metadata(node_id)
        where = "a broker" if node is None else f"{node.host}:{node.port}"
        detail = "" if error is None else detail_of(cause_of(error))
        self.refusals[node_id] = Refusal(where, reason, detail, self.config["sasl_mechanism"])


def _is_silence(error: BaseException) -> bool:
    return isinstance(error, errors.RequestTimedOutError) or any(words in str(error) for words in _SILENCE)


def _answer_first(receive: Callable[[], tuple[bytes, Any]]) -> Callable[[], tuple[bytes, Any]]:
    """Data that arrive together with the connection's end are read first: a broker that refuses a login says why."""
    held: list[Any] = []

    def answer() -> tuple[bytes, Any]:
        if held:
            return b"", held.pop()
        data, error = receive()
        if data and error is not None:
            held.append(error)
            error = None
        return data, error

    return answer
