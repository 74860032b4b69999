"""Whatever happens to the members of a group, and whenever: what comes out is what an undisturbed worker says.

Both sides are data: a log over two partitions, and a script of turns, crashes, restarts, rebalances and failures.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.depth import examples
from tests.one_member import AWAY, CHECKPOINT_S, COMMIT_S, GROUP, P0, P1, Cluster, Member, command
from tests.sums import SPECS, sums_pipeline
from worker.checkpoints.folder import CheckpointStore
from worker.engine.boundaries import BoundaryRules
from worker.engine.emission import EmitRule
from worker.errors import (
    CommitRefusedError,
    DeliveryFailedError,
    KafkaUnavailableError,
    NotAcknowledgedError,
    WorkerError,
)
from worker.pipeline.generation import GenerationPipeline
from worker.pipeline.pipeline import Pipeline
from worker.records.ownership import Partition
from worker.records.states import StateSpec

RULES = BoundaryRules(length=4, gap_ms=30, idle_ms=60)
EVERY_EVENT = EmitRule()
SEEDS = examples(300)  # stories per delivery
GAP = None  # stands for an offset without a record
SETTLING_TURNS_LIMIT = 300

# (key, value, headers): the streams are few, so that much happens to each.
MENU: list[Any] = [
    *[(key, b'{"x": %d, "s": "A"}' % x, None) for key in (b"a", b"b") for x in (1, 2)],
    *[(b"a", b'{"x": 4, "s": "%b"}' % name, None) for name in (b"A", b"B")],
    (b"a", b'{"x": [[1], [2], [3]], "s": "A"}', None),
    (b"b", b'{"x": 8, "s": "A", "first": true}', None),
    (b"a", b'{"x": 8, "s": "A", "last": true}', None),
    (b"a", b'{"x": 666, "s": "A"}', None),
    (b"a", b"{", None),
    (None, b'{"x": 1, "s": "A"}', None),
    (b"a", None, None),
    (b"b", None, None),
    (b"a", b"", command(b"reset")),
    (b"a", b'{"states": {"sum": {"h": [100]}}}', command(b"set-state")),
    (b"a", b'{"states": {}}', command(b"set-state")),
    GAP,
]
records = st.tuples(st.integers(0, 1), st.sampled_from(MENU), st.sampled_from([0, 1, 5, 40, 90, -10]))
DELIVERY_ERRORS = [AWAY, CommitRefusedError("the group has moved on"), DeliveryFailedError("not acknowledged")]
FAILURES = [
    *[(operation, AWAY) for operation in ("poll", "commit", "committed", "log_range", "topic", "send")],
    ("commit", CommitRefusedError("the group has moved on")),
    ("flush", DeliveryFailedError("not acknowledged")),
    *[(operation, NotAcknowledgedError("expired")) for operation in ("flush", "send")],
    ("send", DeliveryFailedError("too large")),
    ("open", AWAY),
    *[("commit_transaction", error) for error in DELIVERY_ERRORS],
]
turns = st.tuples(
    st.just("turn"), st.integers(0, 1), st.integers(1, 6), st.sampled_from([0, 0, COMMIT_S, CHECKPOINT_S])
)
events = st.one_of(
    st.tuples(st.just("crash"), st.integers(0, 1), st.integers(0, 9)),
    st.tuples(st.just("fail"), st.integers(0, 1), st.sampled_from(FAILURES)),
    st.tuples(
        st.sampled_from(["restart", "join", "leave", "expel", "lose", "move", "unanswered", "damage", "wipe"]),
        st.integers(0, 1),
        st.integers(0, 1),
    ),
    st.tuples(st.just("write"), st.just(0), st.integers(1, 12)),
)
REPEATING = {"crash", "fail", "expel", "lose", "unanswered"}  # only these may make an output come twice
scripts = st.lists(st.one_of(turns, turns, events), max_size=25)


@dataclass(frozen=True)
class Setup:
    """What the group is configured with."""

    rules: BoundaryRules = RULES
    emit: EmitRule = EVERY_EVENT
    max_streams: int = 1000

    specs: ClassVar[list[StateSpec]] = SPECS

    def pipeline(self) -> Pipeline:
        return sums_pipeline(self.rules, self.emit, self.max_streams, features="x", id="s", start="first", end="last")


setups = st.sampled_from(
    [
        Setup(),
        Setup(emit=EmitRule("sequence_end")),
        Setup(emit=EmitRule("change", 1.5)),
        Setup(max_streams=1),
        Setup(replace(RULES, late="drop"), EmitRule("change", 1.5), max_streams=1),
        Setup(replace(RULES, late="dead_letter", length=None)),
    ]
)


class Grouped(Protocol):
    """What the members of a group have in common."""

    specs: ClassVar[list[StateSpec]]

    def pipeline(self) -> Pipeline | GenerationPipeline: ...


class Story:
    """A group of one or two members and what happens to them."""

    def __init__(
        self, setup: Grouped, folder: Path, log: list[Any], first: int, shared: bool, exactly_once: bool = False
    ) -> None:
        self.setup, self.cluster = setup, Cluster(folder)
        self.shared, self.exactly_once = shared, exactly_once
        self.log, self.time_ms = log, 0
        self.members: list[Member] = []
        self.write(0, first)
        self.join()

    def write(self, _: int, count: int) -> None:
        for number, record, later_ms in self.log[:count]:
            self.time_ms += later_ms
            if record is GAP:
                self.cluster.broker.add_gap(Partition(P0.topic, number))
            else:
                key, value, headers = record
                self.cluster.write([(number, key, value, self.time_ms, headers)])
        self.log = self.log[count:]

    def join(self, *_: int) -> None:
        while len(self.members) < 2:
            own = self.cluster.folder if self.shared else self.cluster.folder / str(len(self.members))
            try:
                self.members.append(
                    Member(
                        self.cluster,
                        self.setup.pipeline(),
                        folder=own,
                        exactly_once=self.exactly_once,
                        specs=self.setup.specs,
                    )
                )
            except KafkaUnavailableError:  # the process tries until the cluster answers
                continue
            return

    def turn(self, who: int, records: int, after_s: float) -> None:
        self.guarded(who, lambda member: member.turn(records, after_s), survivors=records)

    def crash(self, who: int, survivors: int) -> None:
        self.members.pop(who % len(self.members)).crash(survivors)
        if not self.members:
            self.join()

    def leave(self, who: int, survivors: int) -> None:
        if self.guarded(who, Member.close, survivors):
            del self.members[who % len(self.members)]
        if not self.members:
            self.join()

    def restart(self, who: int, survivors: int) -> None:
        count = len(self.members)
        self.leave(who, survivors)
        if len(self.members) < count:
            self.join()

    def guarded(self, who: int, act: Callable[[Member], object], survivors: int) -> bool:
        """An error that ends the process ends it here, too."""
        try:
            act(self.members[who % len(self.members)])
        except (WorkerError, KafkaUnavailableError):
            self.crash(who, survivors)
            self.join()
            return False
        return True

    def expel(self, who: int, _: int) -> None:
        self.cluster.broker.expel(self.members[who % len(self.members)].source)

    def lose(self, who: int, number: int) -> None:
        member = self.members[who % len(self.members)]
        self.cluster.broker.rebalance(member.source, lost=[(P0, P1)[number]])

    def move(self, who: int, number: int) -> None:
        member = self.members[who % len(self.members)]
        self.cluster.broker.rebalance(member.source, assigned=[(P0, P1)[number]])

    def fail(self, _: int, failure: tuple[str, Exception]) -> None:
        self.cluster.broker.fail(*failure)

    def unanswered(self, who: int, _: int) -> None:
        self.members[who % len(self.members)].source.unanswered += 1

    def damage(self, _: int, number: int) -> None:
        for folder in (self.cluster.folder, self.cluster.folder / "0", self.cluster.folder / "1"):
            for entry in CheckpointStore(folder, GROUP).candidates((P0, P1)[number], None)[:1]:
                entry.path.write_bytes(entry.path.read_bytes()[:-100])

    def wipe(self, _: int, __: int) -> None:
        shutil.rmtree(self.cluster.folder, ignore_errors=True)

    def settle(self) -> dict[Partition, dict[str, Any]]:
        """Go on until everything is read and committed, each partition by one member; the states then."""
        self.write(0, len(self.log))
        ends = {place: self.cluster.broker.log_range(place)[1] for place in (P0, P1)}
        for _ in range(SETTLING_TURNS_LIMIT):
            for who in range(len(self.members)):
                self.turn(who, 5, COMMIT_S)
            owned = [item for member in self.members for item in member.worker.positions.all().items()]
            answered = all((self.cluster.committed(place) or 0) == end for place, end in ends.items())
            busy = any(member.worker.pipeline.busy for member in self.members)
            if sorted(owned) == sorted(ends.items()) and answered and not busy:
                return {place: member.states(place) for member in self.members for place in member.owned()}
        raise AssertionError(f"not settled: {owned} of {ends}")


Identity = tuple[Any, ...]


def said(cluster: Cluster) -> tuple[dict[Identity, Any], dict[Identity, str]]:
    """Outputs and dead letters by the record they answer, first come first; repeats must say the same."""
    outputs: dict[Identity, Any] = {}
    for output in cluster.outputs():
        del output["origin"]  # the one thing that a restart may change
        identity = tuple(output["source"].values())
        assert outputs.setdefault(identity, output) == output
    dead: dict[Identity, str] = {}
    for error, *place in cluster.dead():
        assert dead.setdefault(tuple(place), error) == error
    return outputs, dead


def by_stream(outputs: dict[Identity, Any]) -> dict[Identity, list[Any]]:
    found: dict[Identity, list[Any]] = {}
    for output in outputs.values():
        found.setdefault((output["source"]["partition"], output["stream"]), []).append(output)
    return found


def check_law(cluster: Cluster, folders: list[Path], wanted: tuple[dict[Identity, Any], dict[Identity, str]]) -> None:
    """No checkpoint beyond a commit, no commit beyond what has been answered."""
    outputs, dead = said(cluster)
    for place in (P0, P1):
        committed = cluster.committed(place) or 0
        assert all(
            entry.next_offset <= committed
            for folder in folders
            for entry in CheckpointStore(folder, GROUP).candidates(place, None)
        )
        below = {key for key in wanted[0] if key[1] == place.number and key[2] < committed}
        assert below <= outputs.keys()
        below = {key for key in wanted[1] if key[0] == place.number and key[1] < committed}
        assert below <= dead.keys()


def check_story(
    setup: Grouped, log: list[Any], script: list[Any], first: int, shared: bool, rebuild: bool, exactly_once: bool
) -> None:
    """Tell the story, and compare it with an undisturbed one at every step and in the end."""
    with tempfile.TemporaryDirectory() as name:
        undisturbed = Story(setup, Path(name, "undisturbed"), log, len(log), shared=True)
        states = undisturbed.settle()
        wanted = said(undisturbed.cluster)
        story = Story(setup, Path(name, "story"), log, first, shared, exactly_once)
        folders = [story.cluster.folder, *(story.cluster.folder / str(number) for number in (0, 1))]
        for action, *arguments in script:
            getattr(story, action)(*arguments)
            check_law(story.cluster, folders, wanted)
        assert story.settle() == states
        while len(story.members) > 1:
            story.leave(0, 0)
        story.members[0].sink.land(len(story.members[0].sink.pending))  # late ones, of a partition it has lost
        everything = len(story.cluster.outputs()), len(story.cluster.dead())
        if rebuild:
            story.wipe(0, 0)
            story.crash(0, 0)
        else:
            story.restart(0, 0)
        assert story.settle() == states
        assert (len(story.cluster.outputs()), len(story.cluster.dead())) == everything
        outputs, dead = said(story.cluster)
        assert by_stream(outputs) == by_stream(wanted[0])
        assert dead == wanted[1]
        if exactly_once or not REPEATING.intersection(action for action, *_ in script):
            assert (len(story.cluster.outputs()), len(story.cluster.dead())) == (len(outputs), len(dead))


@pytest.mark.parametrize("exactly_once", [False, True], ids=["at_least_once", "exactly_once"])
@settings(max_examples=SEEDS, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(setups, st.lists(records, max_size=40), scripts, st.integers(0, 40), st.booleans(), st.booleans())
def test_nothing_that_happens_makes_a_difference(
    exactly_once: bool, setup: Setup, log: list[Any], script: list[Any], first: int, shared: bool, rebuild: bool
) -> None:
    check_story(setup, log, script, first, shared, rebuild, exactly_once)
