"""The faults, one function each, which returns as soon as nothing prevents recovery any more.

``leg`` gives the workers, the broker, the folders, and ``pump``: time passes while the harness keeps listening.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tests.faults.damage import DAMAGES, checkpoints
from tests.faults.leg import PARTITIONS, Leg
from tests.faults.plan import MEMBERS_AT_MOST

FILE_LIMIT_BYTES = 4096
EFFECT_TIMEOUT_S = 60.0  # until what the fault is about is there
LONG_PAUSE_SHARE = 0.4
SHORT_PAUSE_S = (0.2, 3.0)
LONGER_THAN_A_SESSION_S = (1.0, 4.0)
AWAY_SHARE = 1.5  # of a session
BROKER_AWAY_S = (0.0, 3.0)

Action: TypeAlias = Callable[[Leg, random.Random], None]


@dataclass(frozen=True, slots=True)
class Kind:
    """A fault by name, on how many nodes it is made, and whether it is possible in a leg as it is."""

    name: str
    action: Action
    nodes: int
    possible: Callable[[Leg], bool]


KINDS: dict[str, Kind] = {}


def fault(name: str, possible: Callable[[Leg], bool] = lambda leg: True, nodes: int = 1) -> Callable[[Action], Action]:
    def register(action: Action) -> Action:
        KINDS[name] = Kind(name, action, nodes, possible)
        return action

    return register


@fault("kill -9")
def kill(leg: Leg, draw: random.Random) -> None:
    victim = leg.members.victim(draw)
    victim.process.kill()
    leg.members.replace(victim)


@fault("kill -9 of all")
def kill_all(leg: Leg, draw: random.Random) -> None:
    leg.members.kill()
    for member in leg.members.members:
        leg.members.replace(member)


@fault("SIGTERM")
def terminate(leg: Leg, draw: random.Random) -> None:
    victim = leg.members.victim(draw)
    leg.members.stop(victim)
    leg.members.replace(victim)


@fault("SIGSTOP")
def pause(leg: Leg, draw: random.Random) -> None:
    """For a moment, or for longer than the session: then its partitions are another's when it wakes up."""
    victim = leg.members.victim(draw)
    long = draw.random() < LONG_PAUSE_SHARE
    victim.process.signal(signal.SIGSTOP)
    victim.paused = True
    leg.pump(longer_than_a_session(leg, draw) if long else draw.uniform(*SHORT_PAUSE_S))
    victim.process.signal(signal.SIGCONT)
    victim.paused = False


@fault("SIGSTOP, another in its place", lambda leg: leg.plan.static)
def pause_and_replace(leg: Leg, draw: random.Random) -> None:
    """A new process with the same instance id, then the old one wakes up."""
    victim = leg.members.victim(draw)
    old = victim.process
    old.signal(signal.SIGSTOP)
    leg.members.replace(victim)
    leg.pump(longer_than_a_session(leg, draw))
    old.signal(signal.SIGCONT)


@fault("broker kill -9")
def kill_broker(leg: Leg, draw: random.Random) -> None:
    without_broker(leg, draw.uniform(*BROKER_AWAY_S))


@fault("broker kill -9, away for longer than a session")
def kill_broker_for_long(leg: Leg, draw: random.Random) -> None:
    without_broker(leg, leg.plan.session_s * AWAY_SHARE)


def without_broker(leg: Leg, seconds: float) -> None:
    leg.load.hold.set()
    leg.broker.kill()
    leg.pump(seconds)
    leg.restart_broker()
    leg.load.hold.clear()


def longer_than_a_session(leg: Leg, draw: random.Random) -> float:
    return leg.plan.session_s + draw.uniform(*LONGER_THAN_A_SESSION_S)


@fault("broker SIGSTOP")
def pause_broker(leg: Leg, draw: random.Random) -> None:
    long = draw.random() < LONG_PAUSE_SHARE
    leg.load.hold.set()
    leg.broker.pause()
    leg.pump(longer_than_a_session(leg, draw) if long else draw.uniform(*SHORT_PAUSE_S))
    leg.broker.resume()
    leg.load.hold.clear()


@fault("disk full")
def fill_disk(leg: Leg, draw: random.Random) -> None:
    """Until a checkpoint has failed; in half of the rounds the worker is killed then."""
    victim = leg.members.victim(draw)
    killed = draw.random() < 0.5
    before = victim.failed_checkpoints()
    victim.process.limit_files(FILE_LIMIT_BYTES)
    life = victim.process
    # One that has no partitions (any more), or has ended, has nothing to write.
    leg.pump_until(
        lambda: victim.failed_checkpoints() > before or not victim.owns() or victim.process is not life,
        EFFECT_TIMEOUT_S,
    )
    if killed and victim.process is life:
        life.kill()
        leg.members.replace(victim)
    elif life.exit_code() is None:
        life.limit_files(None)


@fault("newest checkpoints damaged")
def damage(leg: Leg, draw: random.Random) -> None:
    """Of some partitions or all, in another way each; then kill -9, so that somebody reads them."""
    numbers = draw.sample(range(PARTITIONS), draw.randint(1, PARTITIONS))
    ways = [draw.choice(DAMAGES) for _ in numbers]
    leg.pump_until(lambda: all(checkpoints(leg.topic_folders(), number) for number in numbers), EFFECT_TIMEOUT_S)
    leg.members.kill()
    for number, way in zip(numbers, ways, strict=True):
        for file in checkpoints(leg.topic_folders(), number)[:1]:
            way(file, draw)
    for member in leg.members.members:
        leg.members.replace(member)


@fault("all checkpoints of a partition deleted")
def delete(leg: Leg, draw: random.Random) -> None:
    number = draw.randrange(PARTITIONS)
    leg.pump_until(lambda: bool(checkpoints(leg.topic_folders(), number)), EFFECT_TIMEOUT_S)
    leg.members.kill()
    for file in checkpoints(leg.topic_folders(), number):
        file.unlink()
    for member in leg.members.members:
        leg.members.replace(member)


@fault("worker added", lambda leg: len(leg.members.members) < MEMBERS_AT_MOST)
def add(leg: Leg, draw: random.Random) -> None:
    """And taken in by the group."""
    member = leg.members.add()
    leg.pump_until(member.owns, EFFECT_TIMEOUT_S)


@fault("worker removed", lambda leg: len(leg.members.members) > 1)
def remove(leg: Leg, draw: random.Random) -> None:
    leg.members.remove(leg.members.victim(draw))
