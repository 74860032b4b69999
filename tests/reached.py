"""What a test asks of a cluster before its own matter begins, on a machine that may stand still meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from tests.conftest import eventually
from worker.errors import KafkaUnavailableError
from worker.kafka.contracts import TransactionalSink
from worker.kafka.opening import open_transactional_sink
from worker.kafka.settings import ClientSettings

Answer = TypeVar("Answer")


def reached(attempt: Callable[[], Answer]) -> Answer:
    """What an attempt answers, made anew while the cluster does not answer it in the client's time."""

    def answered() -> tuple[Answer] | None:
        with suppress(KafkaUnavailableError):
            return (attempt(),)
        return None

    (answer,) = eventually(answered)
    return answer


def opened_transactions(settings: ClientSettings) -> TransactionalSink:
    """A transactional sink, as a worker gets it: a try has few seconds, and another follows."""
    return reached(lambda: open_transactional_sink(settings))
