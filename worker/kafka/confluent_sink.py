"""The Sink contract on confluent-kafka: an idempotent producer that reports only failures.

Rule of this file: no callback per message. librdkafka counts what is unacknowledged, and one shared callback hears of
the messages that failed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from worker.errors import DeliveryFailedError, KafkaUnavailableError
from worker.kafka.confluent_errors import client_options, translate, translated
from worker.kafka.settings import ClientSettings
from worker.records import Headers

log = logging.getLogger("worker.kafka")

CONNECT_TIMEOUT_S = 30.0
FULL_BUFFER_TIMEOUT_S = 60.0
FULL_BUFFER_WAIT_S = 0.1
LINGER_MS = 5


class ConfluentSink:
    """Writes messages. Once a message has failed the sink refuses everything: open a new one.

    Raises KafkaUnavailableError when the cluster can't be reached, WorkerError when it refuses us.
    """

    def __init__(self, settings: ClientSettings, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        own = {
            "enable.idempotence": True,
            "acks": "all",
            # As Java and kafka-python do it; librdkafka's own default puts keys into other partitions.
            "partitioner": "murmur2_random",
            "linger.ms": LINGER_MS,
            "delivery.report.only.error": True,
            "on_delivery": self._on_failure,
            "error_cb": self._on_error,
            "allow.auto.create.topics": False,
        }
        self._failure: DeliveryFailedError | None = None
        self._closed = False
        with translated(f"kafka at {settings.bootstrap_servers}"):
            self._producer: Any = Producer(client_options(settings, "producer", own), logger=log)
            self._producer.list_topics(timeout=connect_timeout_s)

    def send(
        self,
        topic: str,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """See Sink."""
        assert not self._closed, "closed"
        self._producer.poll(0)
        self._check()
        put = self._producer.produce
        done = 0
        while done < len(keys):
            try:
                if headers is None:
                    for key, value in zip(keys[done:], values[done:], strict=True):
                        put(topic, value, key)
                        done += 1
                else:
                    for key, value, some in zip(keys[done:], values[done:], headers[done:], strict=True):
                        put(topic, value, key, headers=list(some))
                        done += 1
            except BufferError:
                self._wait_for_room()
            except KafkaException as error:
                self._failure = _failed(error.args[0])
                raise self._failure from error

    def flush(self, timeout_s: float) -> None:
        """See Sink."""
        left = self._producer.flush(timeout_s)
        self._check()
        if left:
            raise DeliveryFailedError(f"{left} messages are not acknowledged after {timeout_s:g} s")

    def close(self, timeout_s: float) -> None:
        """See Sink."""
        if self._closed:
            return
        self._closed = True
        if self._producer.flush(timeout_s):
            # Or librdkafka would go on trying, and the interpreter wait for it, when the object is freed.
            self._producer.purge(in_queue=True, in_flight=True)
            self._producer.flush(0)

    def _wait_for_room(self) -> None:
        waited_s = 0.0
        before = len(self._producer)
        while len(self._producer) >= before:
            self._producer.poll(FULL_BUFFER_WAIT_S)
            self._check()
            waited_s += FULL_BUFFER_WAIT_S
            if waited_s > FULL_BUFFER_TIMEOUT_S:
                # The rest of the batch was never handed over: no later flush may say that all is well.
                self._failure = DeliveryFailedError("a batch was handed over in part")
                raise KafkaUnavailableError(f"no acknowledgement within {FULL_BUFFER_TIMEOUT_S:g} s")

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _on_failure(self, error: KafkaError | None, message: Any) -> None:
        if error is not None and self._failure is None:
            self._failure = _failed(error)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() and self._failure is None:
            self._failure = _failed(error)
        log.log(logging.ERROR if error.fatal() else logging.INFO, "kafka: %s: %s", error.name(), error.str())


def _failed(error: KafkaError) -> DeliveryFailedError:
    ours = translate(error, "output")
    return DeliveryFailedError(f"a message was not delivered: {ours or error.str()}")
