"""Whether confluent-kafka can be built with the users' options: it is, with nobody to connect to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from worker.errors import KafkaUnavailableError
from worker.kafka.confluent.consumer import HEARTBEAT_INTERVAL_MS
from worker.kafka.confluent.sink import ConfluentSink
from worker.kafka.confluent.source import ConfluentSource
from worker.kafka.confluent.transactions import ConfluentTransactions
from worker.kafka.option_limits import below_least, session_too_short
from worker.kafka.settings import ClientSettings, Section

AT_ONCE_S = 0.001
_NOBODY = ""


def refused_value(section: Section, name: str, value: Any) -> str | None:
    """librdkafka looks at most values itself, when it is built. None when it may have this one."""
    return below_least("confluent", name, value)


def refused_client(settings: ClientSettings, section: Section) -> str | None:
    """Why the client of a section can't be built, in a few words; None when it can. Reaches no broker."""
    if section == "consumer" and (short := session_too_short(settings.consumer, HEARTBEAT_INTERVAL_MS)) is not None:
        return short
    alone = replace(settings, bootstrap_servers=_NOBODY)
    try:
        if section == "consumer":
            ConfluentSource(alone, AT_ONCE_S)
        elif settings.transactional_id is None:
            ConfluentSink(alone, AT_ONCE_S)
        else:
            ConfluentTransactions(alone, AT_ONCE_S)
    except KafkaUnavailableError:
        return None
    except Exception as error:  # noqa: BLE001 (whatever the client's insides say of a value)
        inner = error.__cause__.args[0] if isinstance(error.__cause__, KafkaException) else error
        said = inner.str() if isinstance(inner, KafkaError) else str(error)
        return f"confluent refuses it: {' '.join(said.split())}"
    return None
