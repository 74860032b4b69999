"""Messages on their way to the cluster: what both sinks of confluent-kafka share.

Rule of this file: no callback per message. librdkafka counts what is unacknowledged, and one shared callback hears of
the messages that failed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from worker.errors import DeliveryFailedError, KafkaUnavailableError
from worker.kafka.confluent.errors import client_options, translated
from worker.kafka.confluent.refusals import Attempts
from worker.kafka.contracts import ClientFacts
from worker.kafka.destinations import Destination
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages

FULL_BUFFER_TIMEOUT_S = 60.0
FULL_BUFFER_WAIT_S = 0.1
RECONNECT_BACKOFF_MAX_MS = 1000  # 10 s by default, also to a broker that has come back
STATISTICS_INTERVAL_MS = 1000
_STATE = re.compile(r"\(after \d+ms in state (\w+)")  # of a connection, in what librdkafka says of its end
_BROKEN_CONNECTION = ("FAIL", "REQTMOUT")  # how librdkafka's log names it


class Outbox:
    """A producer that takes messages in order until the first failure, and nothing after it.

    ``written``: the topics of messages that were handed over; whoever ends a transaction empties it. ``options`` are
    added to those that every producer of ours has; ``explain`` makes our error of the client's, for a message that was
    not delivered. ``disturbed``: a connection had a problem since this was last set to false. ``attempts``: what the
    client reports about its servers.

    Raises KafkaUnavailableError when the cluster can't be reached in ``connect_timeout_s``, WorkerError when it refuses
    us.
    """

    def __init__(
        self,
        settings: ClientSettings,
        options: Mapping[str, Any],
        connect_timeout_s: float,
        explain: Callable[[KafkaError, Destination], Exception],
    ) -> None:
        own = {
            "enable.idempotence": True,
            "acks": "all",
            # As Java and kafka-python do it; librdkafka's own default puts keys into other partitions.
            "partitioner": "murmur2_random",
            "delivery.report.only.error": True,
            "on_delivery": self._on_failure,
            "error_cb": self._on_error,
            "statistics.interval.ms": STATISTICS_INTERVAL_MS,
            "stats_cb": self._on_statistics,
            "allow.auto.create.topics": False,
            "reconnect.backoff.max.ms": RECONNECT_BACKOFF_MAX_MS,
            **options,
        }
        self.failure: Exception | None = None
        self.disturbed = False
        self.written: dict[str, Destination] = {}
        self._settings, self._explain = settings, explain
        self._latency_s: dict[str, float] = {}
        self._queued_bytes = 0
        self.attempts = Attempts(settings, connect_timeout_s)
        with translated(f"kafka at {settings.bootstrap_servers}"):
            self.producer: Any = Producer(client_options(settings, "producer", own), logger=_Lines(self))
        with self.attempts.told(self.producer.poll):
            self.producer.list_topics(timeout=connect_timeout_s)
        self.attempts.let_in()

    def put(self, topic: str, messages: Messages) -> None:
        """Hand over a batch; blocks while the buffer is full. Raises as Writer.send."""
        self.serve(0)
        self.written[topic] = self._settings.destination(topic)
        put = self.producer.produce
        keys, values, headers, done = messages.keys, messages.values, messages.headers, 0
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
                self.failure = self._explained(error.args[0], topic)
                raise self.failure from error

    def check(self) -> None:
        """Raise the first failure there was."""
        if self.failure is not None:
            raise self.failure

    def flush(self, timeout_s: float) -> int:
        """Wait until all is acknowledged; returns how many messages are not. Raises the first failure there was."""
        with self._heard():
            left: int = self.producer.flush(timeout_s)
        return left

    def facts(self) -> ClientFacts:
        """See Writer. The client measures every STATISTICS_INTERVAL_MS, and tells when it is called."""
        with suppress(KafkaException):  # a fatal error: the next call that matters says so
            self.producer.poll(0)
        waiting = len(self.producer)
        # The bytes are as old as the last measurement: they may be those of messages acknowledged since.
        return ClientFacts(self._latency_s, waiting, self._queued_bytes if waiting else 0)

    def discard(self) -> None:
        """Give up what is not acknowledged.

        Otherwise librdkafka would keep trying, and the interpreter would wait for it, when the object is freed.
        """
        self.producer.purge(in_queue=True, in_flight=True)
        with suppress(KafkaException):
            self.producer.flush(0)

    def free(self) -> None:
        """End the client and its threads now, not when the garbage collector runs. No call may follow."""
        self.producer = None

    def serve(self, timeout_s: float) -> None:
        """Let the client report what has happened. Raises the first failure there was."""
        with self._heard():
            self.producer.poll(timeout_s)

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """The client calls back meanwhile; a fatal error it may also raise, at every call."""
        try:
            yield
        except KafkaException as error:
            self.failure = self.failure or self._explained(error.args[0])
        self.check()

    def _explained(self, error: KafkaError, topic: str | None = None) -> Exception:
        return self._explain(error, self._settings.destination(topic))

    def _wait_for_room(self) -> None:
        waited_s = 0.0
        before = len(self.producer)
        while len(self.producer) >= before:
            self.serve(FULL_BUFFER_WAIT_S)
            waited_s += FULL_BUFFER_WAIT_S
            if waited_s > FULL_BUFFER_TIMEOUT_S:
                # The rest of the batch was never handed over: no later call may report success.
                self.failure = DeliveryFailedError("only part of a batch was handed over")
                raise KafkaUnavailableError(f"no acknowledgement within {FULL_BUFFER_TIMEOUT_S:g} s")

    def _on_failure(self, error: KafkaError | None, message: Any) -> None:
        if error is not None and self.failure is None:
            self.failure = self._explained(error, message.topic())

    def _on_statistics(self, text: str) -> None:
        said = json.loads(text)
        brokers = [each for each in said["brokers"].values() if each["nodeid"] >= 0 and each["rtt"]["cnt"]]
        self._latency_s = {str(each["nodeid"]): each["rtt"]["avg"] / 1e6 for each in brokers}
        self._queued_bytes = said["msg_size"]

    def _on_error(self, error: KafkaError) -> None:
        self.attempts.error(error)
        self.disturbed = self.disturbed or _may_have_held_requests(error.str())
        if error.fatal() and self.failure is None:
            self.failure = self._explained(error)


class _Lines:
    """librdkafka's own log, the only place where it says that the connection to the transaction coordinator broke."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def log(self, level: int, text: str, facility: str, *rest: str) -> None:
        if facility in _BROKEN_CONNECTION and _may_have_held_requests(rest[-1] if rest else ""):
            self._outbox.disturbed = True
        self._outbox.attempts.log(level, text, facility, *rest)


def _may_have_held_requests(said: str) -> bool:
    """Whether the connection that librdkafka tells of was open. A broker that is away is tried again and again."""
    state = _STATE.search(said)
    return state is None or state[1] == "UP"
