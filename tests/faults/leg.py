"""A leg: topics, load and workers of their own, some rounds of one fault each, and the check at the end."""

from __future__ import annotations

import random
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from confluent_kafka import KafkaException

from tests.faults import judge
from tests.faults.bare import Bare, bare_beside
from tests.faults.load import Load
from tests.faults.members import Members
from tests.faults.plan import LegPlan
from tests.faults.pool import Pool
from tests.faults.reference import LABELS, Reference, cut
from tests.faults.results import LegResult, RoundResult
from tests.faults.silences import Silences, answered_after
from tests.faults.topics import Row, TopicReader, committed, ends, everything
from tests.sequences import configuration, make_log
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.embedded.cluster import EmbeddedCluster

PARTITIONS = 4
STREAMS = 40
EVENTS_PER_S = 300.0
EVENTS_PER_ROUND = 12_000  # what the log has: a round may take 40 s on average before the load runs dry
WELL_TIMEOUT_S = 180.0
FINISH_TIMEOUT_S = 120.0
PUMP_S = 0.05
LAST_LOAD_S = 1.0
BUSY_S = 45.0  # how long the group waits for a member that does not answer a rebalance; 300 s by default
LIMIT_OPTIONS = {
    "kafka-python": ("session_timeout_ms", "max_poll_interval_ms"),
    "confluent": ("session.timeout.ms", "max.poll.interval.ms"),
}


class StuckError(Exception):
    """Outputs do not flow again, even with new workers: the leg can't continue."""


class Mark(NamedTuple):
    """A round, and which event was the next one when its fault began."""

    round: int
    fault: str
    event: int


@dataclass(slots=True)
class Stage:
    """What all legs share."""

    folder: Path
    kafka: EmbeddedKafka | EmbeddedCluster
    pool: Pool
    model: Path
    every: Any  # answers the prefixes of sequences, see tests.sequences


class Leg:
    """Make one, ``start`` it, go through ``round`` after ``round``, ``finish`` it; ``abandon`` whatever happens."""

    def __init__(self, stage: Stage, plan: LegPlan, name: str) -> None:
        self.stage, self.plan = stage, plan
        self.folder = stage.folder / name
        self.folder.mkdir()
        self.topics = (f"readings-{name}", f"probabilities-{name}", f"dead-{name}")
        self.result = LegResult(plan)
        self.rows: list[Row] = []
        self.group = f"group-{self.topics[0]}"
        self._heard = [Silences() for _ in range(PARTITIONS)]
        self._bare: Bare | None = None
        self._marks = [Mark(plan.first_round, "start", 0)]
        self._answered: dict[int, int] = {}  # partition → offset after the last one answered
        self._goal: tuple[int, dict[int, int]] | None = None
        for topic, partitions in zip(self.topics, (PARTITIONS, PARTITIONS, 1), strict=True):
            stage.kafka.create_topic(topic, partitions)
        self.servers = stage.kafka.bootstrap_servers
        self.log = make_log((plan.rounds + 1) * EVENTS_PER_ROUND, STREAMS, zlib.crc32(plan.seed.encode()))
        self.load = Load(self.servers, self.topics[0], PARTITIONS, self.log, EVENTS_PER_S)
        self.members = Members(stage.pool, self._configure, self._report)
        self._answers = TopicReader(self.servers, self.topics[1], PARTITIONS)

    def topic_folders(self) -> list[Path]:
        """Where the checkpoints of the input topic are: one folder, or one per worker."""
        topic = self.topics[0]
        return [folder / f"group-{topic}" / topic for folder in sorted(self.folder.glob("state*"))]

    def start(self) -> None:
        for _ in range(self.plan.members):
            self.members.add()
        self.load.start()
        self._until_well()
        if self.plan.nodes > 1 and self.plan.combination.delivery == "exactly_once":
            self._bare = bare_beside(self)
            self._bare.start()

    def round(self, number: int, name: str, action: Callable[[Leg, random.Random], None]) -> RoundResult:
        """One fault at a random moment, until everything sent so far is answered. Raises StuckError."""
        draw = random.Random(f"{self.plan.seed} round {number}")
        self.pump(draw.uniform(0.0, 1.5))
        self._marks.append(Mark(number, name, self.load.sent))
        begun = time.monotonic()
        action(self, draw)
        self._until_well()
        now = time.monotonic()
        found = RoundResult(name, now - begun)
        if self._bare is not None:
            pairs = zip(self._heard, self.load.heard, strict=True)
            found.back_s = max(answered_after(outputs, inputs, begun, now) for outputs, inputs in pairs)
            found.bare_s = self._bare.back_after(begun, self.pump_until)
        self.result.rounds.append(found)
        return found

    def pump(self, seconds: float) -> None:
        """Let time go by: outputs are read, workers that have ended are started again."""
        deadline = time.monotonic() + seconds
        self.pump_until(lambda: time.monotonic() >= deadline, seconds + 1.0)

    def pump_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Until the condition is true; whether it was in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self._read(self._answers.poll(PUMP_S))
            self.members.look()
        return True

    @property
    def broker(self) -> EmbeddedKafka:
        """The one there is."""
        assert isinstance(self.stage.kafka, EmbeddedKafka), "this fault is for one node"
        return self.stage.kafka

    @property
    def cluster(self) -> EmbeddedCluster:
        """All nodes."""
        assert isinstance(self.stage.kafka, EmbeddedCluster), "this fault is for a cluster"
        return self.stage.kafka

    def restart_broker(self) -> None:
        """And a new reader: librdkafka may forget its only broker when that is just starting."""
        self.broker.restart()
        self._answers.reopen()

    def finish(self) -> LegResult:
        """The load ends, everything is answered, all workers leave in order; then the check."""
        self._marks.append(Mark(self._marks[-1].round, "end of the leg", self.load.sent))
        if self._bare is not None:
            self._bare.end()
        self.members.end_doubles()
        self.pump(LAST_LOAD_S)  # the end of the log is to be answered by those that also commit it
        self.load.finish(FINISH_TIMEOUT_S)
        self._until_well()
        self.members.close()
        self._read(self._answers.drain())
        self._judge()
        self._count()
        return self.result

    def abandon(self) -> None:
        """Free everything; safe after ``finish``, too."""
        self.load.abandon()
        if self._bare is not None:
            self._bare.end()
        self.members.kill()
        self._answers.close()
        self._count()

    def _judge(self) -> None:
        verdict = self.result.verdict
        reference = Reference(cut(self.log, self.load.sent), self.stage.every)
        last = ends(self.servers, self.topics[0], PARTITIONS)
        place_of = judge.placed(everything(self.servers, self.topics[0], PARTITIONS), reference)
        repeats_allowed = self.plan.combination.delivery == "at_least_once"
        judge.check_outputs(verdict, self.rows, place_of, reference, self.topics[0], repeats_allowed)
        judge.check_states(verdict, self.topic_folders(), last, reference)
        group = committed(self.servers, self.group, self.topics[0], PARTITIONS)
        judge.check_commits(verdict, group, last)
        if dead := everything(self.servers, self.topics[2], 1):
            verdict.say("dead letter", f"{len(dead)} events were refused, the first: {dead[0]}")
        for found in verdict.violations:
            mark = [mark for mark in self._marks if found.event < 0 or mark.event <= found.event][-1]
            self.result.violations.append(f"{found.kind}: {self._where(mark)}: {found.text}")

    def _until_well(self) -> None:
        """Everything sent so far is answered. Raises StuckError."""
        sent = self.load.sent
        for attempt in ("these workers", "new ones"):
            if self.pump_until(lambda: self._answered_up_to(sent), WELL_TIMEOUT_S):
                return
            last = [line for member in self.members.members for line in list(member.process.last)[-15:]]
            lines = "".join(f"\n    {line}" for line in last)
            self._report("stuck", f"not all is answered after {WELL_TIMEOUT_S:.0f} s with {attempt}:{lines}")
            self.members.kill()
            for member in self.members.members:
                self.members.replace(member)
        raise StuckError

    def _answered_up_to(self, events: int) -> bool:
        """Whether these events are in Kafka, and an output as late as the last of them is there in each partition."""
        if not self.load.acknowledged(events):
            return False
        if self._goal is None or self._goal[0] != events:
            try:
                self._goal = events, ends(self.servers, self.topics[0], PARTITIONS)  # later events are not waited for
            except KafkaException:  # the broker may be busy with its own recovery: asked again in a moment
                return False
        return all(self._answered.get(number, 0) >= end for number, end in self._goal[1].items())

    def _read(self, rows: list[Row]) -> None:
        self.rows += rows
        now = time.monotonic()
        for row in rows:
            source = judge.source_of(row)
            if source is not None:
                self._heard[source[0]].heard(now)
                self._answered[source[0]] = max(self._answered.get(source[0], 0), source[1] + 1)

    def _report(self, kind: str, text: str) -> None:
        self.result.violations.append(f"{kind}: {self._where(self._marks[-1])}: {text}")

    def _where(self, mark: Mark) -> str:
        return f"round {mark.round} of {self.plan} ({mark.fault})"

    def _count(self) -> None:
        result = self.result
        result.restarts, result.ended = self.members.restarts, dict(self.members.ended)
        result.said = Counter()
        for process in self.members.lives:
            result.said.update(process.said)  # with the zeros

    def _configure(self, number: int) -> Path:
        plan = self.plan
        settings = configuration(self.folder, self.servers, plan.combination.client, self.topics)
        settings["kafka"]["instance_id"] = f"member-{number}" if plan.static else None
        session, busy = LIMIT_OPTIONS[plan.combination.client]
        settings["kafka"]["consumer"] = {session: int(plan.session_s * 1000), busy: int(BUSY_S * 1000)}
        settings["model"] = {"path": str(self.stage.model), "labels": list(LABELS)}
        if plan.folders == "own":
            settings["state"]["directory"] = str(self.folder / f"state-{number}")
        settings["delivery"] = plan.combination.delivery
        file = self.folder / f"worker-{number}.yaml"
        file.write_text(yaml.safe_dump(settings))
        return file
