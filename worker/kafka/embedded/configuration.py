"""What the embedded Kafka broker is told: one node, quick to start, small.

Rule: text in, text out; the only file read is the one that says which cluster a folder was formatted for.
"""

from __future__ import annotations

import re
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

PROPERTIES: Mapping[str, object] = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 4,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1_000,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "share.coordinator.state.topic.num.partitions": 1,
    "default.replication.factor": 1,
    "min.insync.replicas": 1,
    # A broker ended by kill -9 is accepted again only when the session of its former process is over; a broker that a
    # busy machine silences for so long leads no partition until it speaks again.
    "broker.session.timeout.ms": 5_000,
    "broker.heartbeat.interval.ms": 500,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 500,
    "num.network.threads": 2,
    "num.io.threads": 2,
    "background.threads": 2,
    "num.recovery.threads.per.data.dir": 1,
    "log.cleaner.dedupe.buffer.size": 4_194_304,
    "log.index.size.max.bytes": 1_048_576,
}
LOG4J = """status = error
shutdownHook = disable
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1}: %m%n%throwable
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
"""


def server_properties(
    folder: Path,
    host: str,
    port: int,
    controller_port: int,
    properties: Mapping[str, object] = PROPERTIES,
    listeners: Mapping[str, int] | None = None,
) -> str:
    """The text of ``server.properties`` for a node that keeps its log in ``folder``.

    ``listeners``: more of them, name → port; their protocols are set in ``properties``.
    """
    broker = ",".join(f"{name}://{host}:{at}" for name, at in {"PLAINTEXT": port, **(listeners or {})}.items())
    settings: dict[str, object] = {
        "listeners": f"{broker},CONTROLLER://{host}:{controller_port}",
        "advertised.listeners": broker,
        "controller.quorum.voters": f"1@{host}:{controller_port}",
        "log.dirs": folder,
        **properties,
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def cluster_id(folder: Path) -> str | None:
    """The id that this folder was formatted with; None when it is new."""
    try:
        text = (folder / "meta.properties").read_text()
    except FileNotFoundError:
        return None
    match = re.search(r"^cluster\.id=(\S+)", text, re.MULTILINE)
    return match[1] if match else None


def new_cluster_id() -> str:
    """A random id in Kafka's spelling: 22 characters."""
    while (name := urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass  # the format tool would take it for an option
    return name
