"""The Sink contract on kafka-python: an idempotent producer whose every future is looked at.

Rule of this file: kafka-python bounds no memory and calls no one back unasked, so the futures of all messages not yet
seen as acknowledged are kept, their number is the bound, and ``flush`` returns only when all of them succeeded.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import crc32c  # noqa: F401  without it the client computes sums in pure Python, 13 MB/s, and says nothing
from kafka import KafkaProducer, errors

from worker.errors import DeliveryFailedError, KafkaUnavailableError
from worker.kafka.kafka_python_errors import client_options, delivery_failed, open_client, translate
from worker.kafka.settings import ClientSettings
from worker.records import Headers

log = logging.getLogger("worker.kafka")

UNACKNOWLEDGED_MESSAGES = 50_000
LINGER_MS = 5
BATCH_BYTES = 128 * 1024


class KafkaPythonSink:
    """Writes messages. Once a message has failed the sink refuses everything: open a new one.

    kafka-python can't write a null key with a null value, nor a null header value: these become empty bytes.
    Raises KafkaUnavailableError when the cluster can't be reached, WorkerError when it refuses us.
    """

    def __init__(self, settings: ClientSettings, monotonic: Callable[[], float] = time.monotonic) -> None:
        own = {
            "enable_idempotence": True,
            "acks": "all",
            "linger_ms": LINGER_MS,
            "batch_size": BATCH_BYTES,
            "allow_auto_create_topics": False,
        }
        self._producer: Any = open_client(KafkaProducer, client_options(settings, "producer", own))
        self._block_s = self._producer.config["max_block_ms"] / 1000
        self._monotonic = monotonic
        self._waiting: deque[Any] = deque()  # futures, oldest first
        self._failure: DeliveryFailedError | None = None
        self._closed = False

    def send(
        self,
        topic: str,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """See Sink."""
        assert not self._closed, "closed"
        self._make_room()
        put, wait = self._producer.send, self._waiting.append
        try:
            if headers is None:
                for key, value in zip(keys, values, strict=True):
                    wait(put(topic, b"" if key is value is None else value, key))
            else:
                for key, value, some in zip(keys, values, headers, strict=True):
                    pairs = [(name, content or b"") for name, content in some]
                    wait(put(topic, b"" if key is value is None else value, key, pairs))
        except errors.KafkaError as error:
            # The rest of the batch was never handed over: no later flush may say that all is well.
            self._failure = delivery_failed(error)
            if isinstance(error, errors.MessageSizeTooLargeError):
                raise self._failure from error
            raise translate(error, f"output to '{topic}'") from error

    def flush(self, timeout_s: float) -> None:
        """See Sink."""
        try:
            self._producer.flush(timeout=timeout_s)
        except errors.KafkaTimeoutError as error:
            self._forget_acknowledged()
            raise DeliveryFailedError(
                f"{len(self._waiting)} messages are not acknowledged after {timeout_s:g} s"
            ) from error
        self._forget_acknowledged()
        if self._waiting:
            raise DeliveryFailedError(f"{len(self._waiting)} messages are not acknowledged")

    def close(self, timeout_s: float) -> None:
        """See Sink."""
        if not self._closed:
            self._closed = True
            self._producer.close(timeout=timeout_s)

    def _forget_acknowledged(self) -> None:
        waiting = self._waiting
        while waiting and waiting[0].is_done and self._failure is None:
            future = waiting.popleft()
            if future.exception is not None:
                self._failure = delivery_failed(future.exception)
        if self._failure is not None:
            raise self._failure

    def _make_room(self) -> None:
        self._forget_acknowledged()
        if len(self._waiting) < UNACKNOWLEDGED_MESSAGES:
            return
        try:
            self._waiting[len(self._waiting) // 2].get(timeout=self._block_s)
        except errors.KafkaTimeoutError as error:
            # Nothing of this batch was handed over, but the caller can't tell that from a part of it.
            self._failure = delivery_failed(error)
            raise KafkaUnavailableError(f"no acknowledgement within {self._block_s:g} s") from error
        except errors.KafkaError as error:
            self._failure = delivery_failed(error)
            raise self._failure from error
        self._forget_acknowledged()
