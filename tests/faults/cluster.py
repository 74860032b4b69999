"""Faults of a cluster of three nodes: who coordinates what, which replicas are complete, and what is done to them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from kafka import KafkaAdminClient, TopicPartition, errors

from tests.faults.bare import java_hash
from tests.faults.faults import fault
from tests.faults.leg import Leg
from worker.kafka.embedded.cluster import NODES, EmbeddedCluster
from worker.kafka.settings import transactional_id

OFFSETS, TRANSACTIONS = "__consumer_offsets", "__transaction_state"
FREEZES_S = (12.0, 22.0)
AWAY_S = (0.0, 12.0)
BETWEEN_S = 1.0
ELECTIONS = 3
IN_SYNC_TIMEOUT_S = 120.0
ASK_AGAIN_S = 0.3
REQUEST_TIMEOUT_MS = 10_000


def ask(cluster: EmbeddedCluster, question: Callable[[Any], Any]) -> Any:
    """The answer of the nodes that are there; asked again while they can't tell."""
    servers = [node.bootstrap_servers for node in cluster.nodes.values() if node.running]
    deadline = time.monotonic() + IN_SYNC_TIMEOUT_S
    while True:
        try:
            with closing(KafkaAdminClient(bootstrap_servers=servers, request_timeout_ms=REQUEST_TIMEOUT_MS)) as admin:
                return question(admin)
        except errors.KafkaError:
            if time.monotonic() > deadline:
                raise
        time.sleep(ASK_AGAIN_S)


def partitions_of(cluster: EmbeddedCluster, topic: str) -> dict[int, Mapping[str, Any]]:
    """What the cluster says of each partition of a topic; empty when it does not exist yet."""
    (described,) = ask(cluster, lambda admin: admin.describe_topics([topic]))
    return {each["partition_index"]: each for each in described["partitions"]}


def coordinator(cluster: EmbeddedCluster, topic: str, name: str, draw: random.Random) -> int:
    """The node that coordinates the group or the transactional id; any, while it is not known."""
    known = partitions_of(cluster, topic)
    leader = int(known[java_hash(name) % len(known)]["leader_id"]) if known else -1
    return leader if leader in cluster.nodes else draw.randint(1, NODES)


def aside(leg: Leg, call: Callable[[], object]) -> None:
    """Do it while the harness keeps listening. Raises what it raises."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 (raised below)
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    leg.pump_until(lambda: not thread.is_alive(), 2 * IN_SYNC_TIMEOUT_S)
    thread.join()
    if raised:
        raise raised[0]


def all_in_sync(leg: Leg) -> None:
    """Until every partition has all its replicas and a leader."""

    def look(admin: Any) -> bool:
        return all(
            len(each["isr_nodes"]) == len(each["replica_nodes"]) and each["leader_id"] in each["replica_nodes"]
            for topic in admin.describe_topics()
            for each in topic["partitions"]
        )

    def wait() -> None:
        deadline = time.monotonic() + IN_SYNC_TIMEOUT_S
        while not ask(leg.cluster, look):
            assert time.monotonic() < deadline, "replicas are not in sync again"
            time.sleep(ASK_AGAIN_S)

    aside(leg, wait)


def without(leg: Leg, number: int, seconds: float) -> None:
    """A node is killed and comes back."""
    node = leg.cluster.nodes[number]
    node.kill()
    leg.pump(seconds)
    aside(leg, node.restart)


def group_coordinator(leg: Leg, draw: random.Random) -> int:
    return coordinator(leg.cluster, OFFSETS, leg.group, draw)


def transaction_coordinator(leg: Leg, draw: random.Random) -> int:
    return coordinator(leg.cluster, TRANSACTIONS, transactional_id(leg.group, "member-0"), draw)


@fault("kill -9 of the group's coordinator", nodes=NODES)
def kill_group_coordinator(leg: Leg, draw: random.Random) -> None:
    without(leg, group_coordinator(leg, draw), draw.uniform(*AWAY_S))


@fault("kill -9 of a transaction coordinator", nodes=NODES)
def kill_transaction_coordinator(leg: Leg, draw: random.Random) -> None:
    without(leg, transaction_coordinator(leg, draw), draw.uniform(*AWAY_S))


@fault("kill -9 of a node", nodes=NODES)
def kill_node(leg: Leg, draw: random.Random) -> None:
    without(leg, draw.randint(1, NODES), draw.uniform(*AWAY_S))


@fault("rolling restart", nodes=NODES)
def roll(leg: Leg, draw: random.Random) -> None:
    for node in leg.cluster.nodes.values():
        aside(leg, node.restart)
        all_in_sync(leg)
        leg.pump(BETWEEN_S)


def freeze(leg: Leg, draw: random.Random, seconds: float) -> None:
    number = draw.choice([group_coordinator(leg, draw), draw.randint(1, NODES)])
    leg.load.hold.set()  # what it is sent then arrives after all: nothing may be sent again for its silence
    leg.cluster.nodes[number].pause()
    leg.pump(seconds)
    leg.cluster.nodes[number].resume()
    leg.load.hold.clear()


@fault("SIGSTOP of a node for 12 s", nodes=NODES)
def freeze_for_12_s(leg: Leg, draw: random.Random) -> None:
    freeze(leg, draw, FREEZES_S[0])


@fault("SIGSTOP of a node for 22 s", nodes=NODES)
def freeze_for_22_s(leg: Leg, draw: random.Random) -> None:
    freeze(leg, draw, FREEZES_S[1])


@fault("leader elections", nodes=NODES)
def elect(leg: Leg, draw: random.Random) -> None:
    """Every partition of the topics, and those of the coordinators, gets another leader, some times in a row."""
    topics = [*leg.topics, OFFSETS, TRANSACTIONS]

    def elect_others(admin: Any) -> None:
        wanted = {}
        for topic in admin.describe_topics(topics):
            for each in topic["partitions"]:
                others = [node for node in each["replica_nodes"] if node != each["leader_id"]]
                draw.shuffle(others)
                place = TopicPartition(topic["name"], each["partition_index"])
                wanted[place] = [*others, each["leader_id"]]
        admin.alter_partition_reassignments(wanted)
        admin.elect_leaders(0, {topic: [p.partition for p in wanted if p.topic == topic] for topic in topics})

    for _ in range(ELECTIONS):
        aside(leg, lambda: ask(leg.cluster, elect_others))
        leg.pump(BETWEEN_S)
