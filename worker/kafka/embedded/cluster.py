"""Three embedded Kafka nodes as one cluster: three replicas of everything, and a record counts once two of them have
it.

Rule: each node is an EmbeddedKafka, which can be killed, paused and restarted by itself; a majority must live for the
others to start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.embedded.configuration import new_cluster_id
from worker.kafka.embedded.local_ports import HOST, free_port

NODES = 3
HEAP_MB = 256
REPLICATED: Mapping[str, object] = {
    "offsets.topic.replication.factor": NODES,
    "transaction.state.log.replication.factor": NODES,
    "transaction.state.log.min.isr": 2,
    "share.coordinator.state.topic.replication.factor": NODES,
    "share.coordinator.state.topic.min.isr": 2,
    "default.replication.factor": NODES,
    "min.insync.replicas": 2,
}


class EmbeddedCluster:
    """``nodes``: by node id, from 1 on. Usable as a context manager; raises WorkerError as EmbeddedKafka does."""

    def __init__(self, heap_mb: int = HEAP_MB, properties: Mapping[str, object] | None = None) -> None:
        ports = _ports(2 * NODES)
        listeners = dict(enumerate(zip(ports[:NODES], ports[NODES:], strict=True), start=1))
        voters = ",".join(f"{node}@{HOST}:{controller}" for node, (_, controller) in listeners.items())
        cluster = new_cluster_id()
        self.nodes: dict[int, EmbeddedKafka] = {}
        for node, (port, controller) in listeners.items():
            own = {
                "node.id": node,
                "controller.quorum.voters": voters,
                "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
            }
            everything = {**REPLICATED, **own, **(properties or {})}
            self.nodes[node] = EmbeddedKafka(port=port, heap_mb=heap_mb, properties=everything, cluster=cluster)

    @property
    def bootstrap_servers(self) -> str:
        """All nodes."""
        return ",".join(node.bootstrap_servers for node in self.nodes.values())

    def __enter__(self) -> EmbeddedCluster:
        try:
            self._all(EmbeddedKafka.start)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End all nodes, and their folders."""
        self._all(EmbeddedKafka.stop)

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Create a replicated topic and wait until it can be used. Raises WorkerError when Kafka refuses it."""
        next(node for node in self.nodes.values() if node.running).create_topic(name, partitions)

    def _all(self, call: Callable[[EmbeddedKafka], Any]) -> None:
        # All at once: a node answers only when a majority is running.
        with ThreadPoolExecutor(NODES) as threads:
            list(threads.map(call, self.nodes.values()))


def _ports(count: int) -> list[int]:
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return sorted(found)
