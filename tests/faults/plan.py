"""What is done to whom, drawn from the seed alone: the same seed gives the same faults in the same order."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, TypeAlias

CLIENTS = ("kafka-python", "confluent")
DELIVERIES = ("at_least_once", "exactly_once")
LEG_ROUNDS = 10
SESSION_S = 6.0
CLUSTER_MEMBERS = 2
MEMBERS_AT_MOST = 3

Fault: TypeAlias = str
Folders: TypeAlias = Literal["shared", "own"]


@dataclass(frozen=True, slots=True)
class Combination:
    """What is tested as one."""

    client: str
    delivery: str

    def __str__(self) -> str:
        return f"{self.client}, {self.delivery}"


@dataclass(frozen=True, slots=True)
class LegPlan:
    """A leg: rounds on topics of their own, with the check at its end."""

    combination: Combination
    number: int
    seed: str
    first_round: int  # counted within the combination
    rounds: int
    members: int  # workers at the start
    static: bool  # kafka.instance_id set
    folders: Folders
    nodes: int = 1  # of the cluster
    session_s: float = SESSION_S

    def __str__(self) -> str:
        kind = "static" if self.static else "dynamic"
        nodes = "" if self.nodes == 1 else f", {self.nodes} nodes"
        return f"{self.combination}, {self.members} {kind} workers, {self.folders} state folders{nodes}"


def combinations(client: str, delivery: str) -> list[Combination]:
    """``both`` takes each."""
    return [
        Combination(one, other)
        for other in (DELIVERIES if delivery == "both" else (delivery,))
        for one in (CLIENTS if client == "both" else (client,))
    ]


def legs(
    combination: Combination,
    rounds: int,
    seed: int,
    nodes: int = 1,
    session_s: float = SESSION_S,
    static: bool = False,
) -> list[LegPlan]:
    """All legs of a combination. Static and shared alternate, so that a short run has each.

    On a cluster, and with ``static``, all are static.
    """
    found = []
    draw = random.Random(f"{seed} {combination}")
    turn = draw.randrange(4)
    for number, first in enumerate(range(0, rounds, LEG_ROUNDS)):
        choice = (turn + number) % 4
        found.append(
            LegPlan(
                combination=combination,
                number=number,
                seed=f"{seed} {combination} {number}",
                first_round=first,
                rounds=min(LEG_ROUNDS, rounds - first),
                members=draw.randint(1, MEMBERS_AT_MOST) if nodes == 1 else CLUSTER_MEMBERS,
                static=static or nodes > 1 or choice in (0, 1),
                folders="shared" if choice in (0, 2) else "own",
                nodes=nodes,
                session_s=session_s,
            )
        )
    return found


def share(rounds: int, among: list[Combination]) -> list[int]:
    """Rounds for each combination: as equal as can be."""
    return [rounds // len(among) + (index < rounds % len(among)) for index in range(len(among))]


class Deck:
    """Faults in random order, each kind once before any comes again, over all legs of a combination."""

    def __init__(self, kinds: list[Fault], combination: Combination, seed: int) -> None:
        self._kinds, self._random = kinds, random.Random(f"{seed} {combination} faults")
        self._left: list[Fault] = []

    def draw(self, possible: set[Fault]) -> Fault:
        """The next one that is possible now; those that are not keep their place."""
        if not possible & set(self._left):
            fresh = list(self._kinds)
            self._random.shuffle(fresh)
            self._left += [kind for kind in fresh if kind not in self._left]
        chosen = next(kind for kind in self._left if kind in possible)
        self._left.remove(chosen)
        return chosen
