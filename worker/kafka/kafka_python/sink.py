"""The Sink contract on kafka-python: an idempotent producer with every future checked.

Rule of this file: kafka-python does not bound its memory and reports nothing by itself, so the futures of all messages
not yet known to be acknowledged are kept, their number is the bound, and ``flush`` returns only when all of them
succeeded.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import crc32c  # noqa: F401  without it the client silently computes checksums in pure Python, 13 MB/s
from kafka import KafkaProducer, errors

from worker.errors import KafkaUnavailableError, WorkerError
from worker.kafka import destinations
from worker.kafka.contracts import ClientFacts
from worker.kafka.destinations import Destination
from worker.kafka.kafka_python.errors import client_options, delivery_failed, denied_topic, open_client, translate
from worker.kafka.kafka_python.network import Network
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages

log = logging.getLogger("worker.kafka")

UNACKNOWLEDGED_MESSAGES = 50_000
LINGER_MS = 100  # only while messages are handed over: see _together
BATCH_BYTES = 128 * 1024
RECONNECT_BACKOFF_MAX_MS = 1_000  # 30 s by default, also to a broker that has come back
FLUSH_LOOK_S = 0.2
_NODE = re.compile(r"\.node-(\d+)$")  # a broker's metrics; those of the first contact have no number
ENDED_JOIN_S = 1.0  # for the thread of a producer that was told to drop everything


class KafkaPythonSink:
    """Writes messages. Once a message has failed the sink refuses everything: open a new one.

    ``client`` is the producer; ``options`` are added to its own, and ``network`` makes its network client. kafka-python
    can't write a null key with a null value, nor a null header value: these become empty bytes. Raises
    KafkaUnavailableError when the cluster can't be reached, WorkerError when it refuses us.
    """

    def __init__(
        self,
        settings: ClientSettings,
        monotonic: Callable[[], float] = time.monotonic,
        options: Mapping[str, Any] | None = None,
        network: Callable[..., Any] = Network,
    ) -> None:
        own = {
            "enable_idempotence": True,
            "acks": "all",
            "linger_ms": LINGER_MS,
            "batch_size": BATCH_BYTES,
            "allow_auto_create_topics": False,
            "reconnect_backoff_max_ms": RECONNECT_BACKOFF_MAX_MS,
            **(options or {}),
        }
        self.client: Any = open_client(KafkaProducer, client_options(settings, "producer", own), network)
        self._block_s = self.client.config["max_block_ms"] / 1000
        self._monotonic = monotonic
        self._waiting: deque[Any] = deque()  # futures, oldest first
        self._settings = settings
        self._failure: WorkerError | None = None
        self._closed = False
        self._at_once = "linger_ms" not in settings.producer
        if self._at_once:
            self.client._accumulator.begin_flush()

    def send(self, topic: str, messages: Messages) -> None:
        """See Sink."""
        assert not self._closed, "closed"
        self._make_room()
        put, wait = self.client.send, self._waiting.append
        keys, values, headers = messages.keys, messages.values, messages.headers
        refreshed_ms = self.client._metadata._last_successful_refresh_ms
        try:
            with self._together():
                if headers is None:
                    for key, value in zip(keys, values, strict=True):
                        wait(put(topic, b"" if key is value is None else value, key))
                else:
                    for key, value, some in zip(keys, values, headers, strict=True):
                        pairs = [(name, content or b"") for name, content in some]
                        wait(put(topic, b"" if key is value is None else value, key, pairs))
        except errors.KafkaError as error:
            # The rest of the batch was never handed over: no later flush may report success.
            to = self._settings.destination(topic)
            asked = self.client._metadata._last_successful_refresh_ms > refreshed_ms
            missing = asked and self._is_missing(topic)
            self._failure = destinations.missing(to) if missing else delivery_failed(error, to)
            if missing or isinstance(error, errors.MessageSizeTooLargeError):
                raise self._failure from error
            raise translate(error, str(to)) from error

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Messages handed over meanwhile are sent together, and at once when all are there.

        Between calls the client behaves as during a ``flush``, and sends whatever there is. During the call it lingers:
        otherwise its thread would send messages one by one, and take the interpreter for each. A linger set by the user
        is kept.
        """
        if not self._at_once:
            yield
            return
        self.client._accumulator._flushes_in_progress.decrement()
        try:
            yield
        finally:
            self.client._accumulator.begin_flush()
            self.client._sender.wakeup()

    def flush(self, timeout_s: float) -> None:
        """See Sink."""
        deadline = self._monotonic() + timeout_s
        while True:
            left_s = deadline - self._monotonic()
            # The client's own limit starts anew for each batch, and it counts a batch that was split as failed.
            with suppress(errors.KafkaTimeoutError, errors.UnknownError):
                self.client.flush(timeout=min(max(left_s, 0.0), FLUSH_LOOK_S))
            self._forget_acknowledged()
            if not self._waiting:
                return
            if left_s <= 0:
                to = self._to(self._waiting[0])
                why = f": {to} does not exist" if self._is_missing(to.topic) else ""
                raise KafkaUnavailableError(
                    f"{len(self._waiting)} messages are not acknowledged after {timeout_s:.1f} s{why}"
                )

    def acknowledged(self, timeout_s: float) -> bool:
        """See Sink."""
        deadline = self._monotonic() + timeout_s
        # The futures stay where they are: a failure belongs to the next flush.
        with suppress(errors.KafkaError):
            for future in reversed(self._waiting):
                if not future.is_done:
                    future.get(timeout=max(0.0, deadline - self._monotonic()))
        return self._failure is None and all(future.is_done and future.exception is None for future in self._waiting)

    def facts(self) -> ClientFacts:
        """See Writer. The latency is over the client's own window, the last minute."""
        # The client forgets a batch a moment after its futures are done.
        batches = [batch for batch in self.client._accumulator._incomplete.all() if not batch.is_done]
        return ClientFacts(
            _latency_s(self.client.metrics(raw=True) or {}),
            sum(batch.record_count for batch in batches),
            sum(batch.records.size_in_bytes() for batch in batches),
        )

    def close(self, timeout_s: float) -> None:
        """See Sink."""
        if not self._closed:
            self._closed = True
            end_producer(self.client, timeout_s)

    def _forget_acknowledged(self) -> None:
        waiting = self._waiting
        while waiting and waiting[0].is_done and self._failure is None:
            future = waiting.popleft()
            if future.exception is not None:
                self._failure = self._failed(future)
        if self._failure is not None:
            raise self._failure

    def _to(self, future: Any) -> Destination:
        return self._settings.destination(
            denied_topic(future.exception) or future._produce_future.topic_partition.topic
        )

    def _failed(self, future: Any) -> WorkerError:
        to = self._to(future)
        if isinstance(future.exception, errors.KafkaTimeoutError) and self._is_missing(to.topic):
            return destinations.missing(to)
        return delivery_failed(future.exception, to)

    def _is_missing(self, topic: str | None) -> bool:
        """Whether the cluster, when it was last asked, knew nothing of this topic."""
        return self.client._metadata.partitions_for_topic(topic) is None

    def _make_room(self) -> None:
        self._forget_acknowledged()
        if len(self._waiting) < UNACKNOWLEDGED_MESSAGES:
            return
        future = self._waiting[len(self._waiting) // 2]
        try:
            future.get(timeout=self._block_s)
        except errors.KafkaTimeoutError as error:
            # Nothing of this batch was handed over, but the caller can't know that.
            self._failure = delivery_failed(error, self._to(future))
            raise KafkaUnavailableError(f"no acknowledgement within {self._block_s:g} s") from error
        except errors.KafkaError as error:
            self._failure = delivery_failed(error, self._to(future))
            raise self._failure from error
        self._forget_acknowledged()


def _latency_s(metrics: Mapping[Any, Any]) -> dict[str, float]:
    found = {}
    for name, metric in metrics.items():
        if name.name == "request-latency-avg" and (node := _NODE.search(name.group)):
            value = metric.value()
            if math.isfinite(value) and value > 0:
                found[node[1]] = value / 1000
    return found


def end_producer(client: Any, timeout_s: float) -> None:
    """Close a producer: wait for what it still holds, as far as time allows, then drop it.

    With anything left unsent its own ``close`` raises and leaves its thread writing for as long as the process lives.
    """
    with suppress(errors.KafkaError):
        client.close(timeout=timeout_s)
        return
    log.warning("kafka: messages without an acknowledgement are given up")
    client._sender.force_close()
    client._sender.join(ENDED_JOIN_S)
    with suppress(errors.KafkaError):
        client.close(timeout=0)
    client._closed = True  # or it would try again when the collector finds it
