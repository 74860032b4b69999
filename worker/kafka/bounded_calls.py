"""Calls of confluent-kafka that may never return, made by a thread beside ours, so that we do.

librdkafka waits for the end of a transaction's step without a limit of its own: seen once after a broker's restart,
where the time-out given with the offsets of a transaction was never looked at again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeAlias

from confluent_kafka import KafkaError, KafkaException

GRACE_S = 2.0  # for the client to keep its own time-out

_Order: TypeAlias = tuple[Callable[[], object], SimpleQueue[BaseException | None]]


class BoundedCalls:
    """One call at a time. After one that did not return there are no others: its client is lost, open a new one."""

    def __init__(self) -> None:
        self._stuck: KafkaException | None = None
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        # A daemon: the end of the process does not wait for a call that never returns.
        threading.Thread(target=self._serve, name="transactions", daemon=True).start()

    def call(self, what: str, action: Callable[[], object], timeout_s: float) -> None:
        """Raises what ``action`` raises, and KafkaException when it takes longer than ``timeout_s`` and a little."""
        if self._stuck is not None:
            raise self._stuck
        answer: SimpleQueue[BaseException | None] = SimpleQueue()
        self._orders.put((action, answer))
        try:
            error = answer.get(timeout=timeout_s + GRACE_S)
        except Empty:
            said = f"{what}: the client has not come back after {timeout_s + GRACE_S:.1f} s"
            self._stuck = KafkaException(KafkaError(KafkaError._TIMED_OUT, said))
            raise self._stuck from None
        if error is not None:
            raise error

    def close(self) -> None:
        """No calls any more. Safe to call twice."""
        self._orders.put(None)

    def _serve(self) -> None:
        while (order := self._orders.get()) is not None:
            action, answer = order
            try:
                action()
            except BaseException as error:  # noqa: BLE001 (raised again by ``call``, where it is waited for)
                answer.put(error)
            else:
                answer.put(None)
