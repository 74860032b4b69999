"""Outputs of a shadow on their way: the loop never waits for them; they are dropped and counted instead."""

from __future__ import annotations

from collections.abc import Callable

from worker.bounded_calls import BoundedCalls, Pending
from worker.errors import KafkaUnavailableError, UnavailableError, WorkerError, counted
from worker.kafka.contracts import Sink
from worker.records.messages import Messages

UNACKNOWLEDGED_MESSAGES = 10_000  # then outputs are dropped until all of these are acknowledged
UNACKNOWLEDGED_BYTES = 8 * 1024 * 1024
LOOK_INTERVAL_S = 0.1  # between two questions for acknowledgements
RETRY_S = 10.0  # between two tries to open a sink
GIVEN_UP_CLOSE_S = 1.0  # for a sink that has failed, on a thread of its own
HANGING_LIMIT = 3  # sinks being opened or closed that do not answer


class ShadowOutbox:
    """Writes to one topic, as far as the cluster takes it at once. ``open_sink`` is called on another thread."""

    def __init__(self, topic: str, open_sink: Callable[[], Sink]) -> None:
        self.topic = topic
        self.lost = 0  # outputs dropped, since the start
        self._open_sink = open_sink
        self._calls = BoundedCalls("shadow", HANGING_LIMIT)
        self._opening: Pending[Sink] | None = None
        self._sink: Sink | None = None
        self._open_at = self._look_at = 0.0
        self._messages = self._bytes = 0  # handed over since everything was acknowledged last

    def connect(self, now: float, timeout_s: float) -> None:
        """Before the loop begins there is time to wait for a sink; outputs are dropped while there is none.

        Raises WorkerError, KafkaUnavailableError.
        """
        self._opened(now, timeout_s)

    def send(self, now: float, messages: Messages) -> None:
        """Hand them over, or drop and count them. Raises WorkerError, KafkaUnavailableError: why they were dropped."""
        try:
            self._hand_over(now, messages)
        except (WorkerError, UnavailableError):
            self.lost += len(messages)
            raise

    def look(self, now: float) -> None:
        """Ask for acknowledgements, now and then. Raises WorkerError when an output was refused."""
        if self._sink is None or not self._messages or now < self._look_at:
            return
        self._look_at = now + LOOK_INTERVAL_S
        try:
            self._sink.flush(0.0)
        except KafkaUnavailableError:
            return
        except WorkerError:
            self.lost += self._messages  # the client doesn't say which of them
            self._give_up(now)
            raise
        self._messages = self._bytes = 0

    def close(self, timeout_s: float) -> None:
        """Wait for acknowledgements, as far as time allows. Safe to call twice."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close(timeout_s)
        self._calls.close()

    def _hand_over(self, now: float, messages: Messages) -> None:
        if self._messages >= UNACKNOWLEDGED_MESSAGES or self._bytes >= UNACKNOWLEDGED_BYTES:
            raise KafkaUnavailableError(f"{counted(self._messages, 'output')} of the shadow are not acknowledged yet")
        sink = self._opened(now)
        self._messages += len(messages)
        self._bytes += sum(len(value or b"") for value in messages.values)
        try:
            sink.send(self.topic, messages)
        except (WorkerError, UnavailableError):
            self._give_up(now)
            raise

    def _opened(self, now: float, timeout_s: float = 0.0) -> Sink:
        if self._sink is not None:
            return self._sink
        if self._opening is None and now < self._open_at:
            raise KafkaUnavailableError(f"the last try to write to topic '{self.topic}' has failed")
        try:
            self._opening = self._opening or self._calls.begin(self._open_sink)
            self._sink = self._opening.answer(timeout_s)
        except TimeoutError as error:
            raise KafkaUnavailableError(f"a producer for topic '{self.topic}' is not open yet") from error
        except (WorkerError, UnavailableError):
            self._opening, self._open_at = None, now + RETRY_S
            raise
        self._opening = None
        return self._sink

    def _give_up(self, now: float) -> None:
        sink, self._sink = self._sink, None
        self._open_at, self._messages, self._bytes = now + RETRY_S, 0, 0
        if sink is None:
            return
        try:
            self._calls.begin(lambda: sink.close(GIVEN_UP_CLOSE_S))
        except TimeoutError:
            return  # earlier ones hang: the process keeps it
