"""``python -m tests.faults``: rounds of faults against real Kafka and real workers, then the report.

Exit status: 0 nothing lost or wrong, 1 violations (each is told with its round), 130 interrupted. Whatever happens, no
process and no file is left behind.
"""

from __future__ import annotations

import argparse
import logging
import math
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from tests.faults import cluster  # noqa: F401  it has kinds, too
from tests.faults.faults import KINDS
from tests.faults.leg import Leg, Stage, StuckError
from tests.faults.plan import (
    CLIENTS,
    DELIVERIES,
    SESSION_S,
    Combination,
    Deck,
    LegPlan,
    combinations,
    legs,
    share,
)
from tests.faults.pool import Pool
from tests.faults.report import Run, markdown, place
from tests.faults.results import Kept, LegResult
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.embedded.cluster import NODES, EmbeddedCluster

INTERRUPTED = 130


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="faults in all, divided among the combinations")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same faults in the same order")
    parser.add_argument("--client", choices=[*CLIENTS, "both"], default="both")
    parser.add_argument("--delivery", choices=[*DELIVERIES, "both"], default="both")
    parser.add_argument("--fault", action="append", choices=sorted(KINDS), help="only this one (may be repeated)")
    parser.add_argument("--cluster", type=int, choices=[1, NODES], default=1, help="nodes of the Kafka cluster")
    parser.add_argument("--session", type=float, default=SESSION_S, help="seconds; also how long some faults take")
    parser.add_argument("--static", action="store_true", help="all workers have an instance id")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no round after that; see --state")
    parser.add_argument("--state", type=Path, help="a file of finished legs, from which an interrupted run resumes")
    parser.add_argument("--report", type=Path, help="the page whose report is rewritten; without: standard output")
    parser.add_argument("--keep", type=Path, help="a new folder that keeps all logs, configurations and checkpoints")
    found = parser.parse_args(words)
    if found.rounds < 1:
        parser.error("--rounds: at least 1")
    possible = {name for name, kind in KINDS.items() if kind.nodes == found.cluster}
    if wrong := set(found.fault or ()) - possible:
        parser.error(f"--fault: {sorted(wrong)} not with {found.cluster} nodes, only {sorted(possible)}")
    found.fault = found.fault or sorted(possible)
    if found.keep is not None and found.keep.exists():
        parser.error(f"--keep: {found.keep} exists already")
    return found


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Harness:
    """All legs of all combinations, on one broker and one pool of processes."""

    def __init__(self, stage: Stage, chosen: argparse.Namespace, run: Run) -> None:
        self.stage, self.chosen, self.run = stage, chosen, run
        self._kept = Kept(chosen.state)
        self._until: float = time.monotonic() + chosen.minutes * 60
        self._rounds = self._legs = 0

    def play(self) -> None:
        among = combinations(self.chosen.client, self.chosen.delivery)
        for combination, rounds in zip(among, share(self.chosen.rounds, among), strict=True):
            deck = Deck(self.chosen.fault, combination, self.chosen.seed)
            chosen = self.chosen
            for plan in legs(combination, rounds, chosen.seed, chosen.cluster, chosen.session, chosen.static):
                done = self._kept.find(plan)
                if done is not None:
                    for found in done.rounds:
                        deck.draw({found.fault})
                    self._rounds += len(done.rounds)
                elif self._is_over():
                    say(f"the time is over: left for later: {plan}")
                    continue
                else:
                    done = self._leg(plan, deck)
                    self._kept.add(done)
                self.run.legs[combination].append(done)

    def _is_over(self) -> bool:
        return time.monotonic() > self._until

    def _leg(self, plan: LegPlan, deck: Deck) -> LegResult:
        self._legs += 1
        begun = time.monotonic()
        say(f"leg {self._legs}: {plan}")
        leg = Leg(self.stage, plan, f"leg-{self._legs}")
        told = 0
        try:
            leg.start()
            for number in range(plan.first_round, plan.first_round + plan.rounds):
                if self._is_over():
                    break
                self._round(leg, number, deck, plan.combination)
                told = self._tell(leg.result, told)
            verdict = leg.finish().verdict
            say(
                f"leg {self._legs}: {verdict.events} events, {verdict.outputs} outputs, {verdict.repeats} repeats, "
                f"{verdict.states} states; {len(leg.result.violations)} violations; {time.monotonic() - begun:.0f} s"
            )
        except StuckError:
            say(f"leg {self._legs}: given up, its check is left out")
        except Exception as error:  # noqa: BLE001 (hours of rounds are not lost for one leg: it counts as a violation)
            leg.result.violations.append(f"harness: {plan}: {error!r}; the leg was not checked")
            say(traceback.format_exc())
        finally:
            leg.abandon()
        self._tell(leg.result, told)
        return leg.result

    def _round(self, leg: Leg, number: int, deck: Deck, combination: Combination) -> None:
        kind = deck.draw({name for name, kind in KINDS.items() if name in self.chosen.fault and kind.possible(leg)})
        found = leg.round(number, kind, KINDS[kind].action)
        self._rounds += 1
        workers = len(leg.members.members)
        say(
            f"{self._rounds}/{self.chosen.rounds} {combination}: {kind}: well again after {found.well_s:.1f} s, "
            + (
                f"outputs {found.back_s:.1f} s, a bare client {found.bare_s:.1f} s, "
                if found.bare_s is not None
                else ""
            )
            + f"{workers} workers, {leg.load.sent} events, {len(leg.rows)} outputs"
        )

    def _tell(self, result: LegResult, told: int) -> int:
        for text in result.violations[told:]:
            say(f"VIOLATION {text}")
        return len(result.violations)


def prepare(things: ExitStack, keep: Path | None, nodes: int = 1) -> Stage:
    """Folder, model, broker, processes; all gone when ``things`` is closed."""
    from tests.sequences import save_model

    if keep is None:
        folder = Path(tempfile.mkdtemp(prefix="rnn-stream-worker-faults-"))
        things.callback(shutil.rmtree, folder, ignore_errors=True)
    else:
        folder = keep.absolute()
        folder.mkdir(parents=True)
    (folder / "logs").mkdir()
    pool = Pool(folder / "logs")
    things.callback(pool.close)
    kafka: EmbeddedKafka | EmbeddedCluster = EmbeddedKafka() if nodes == 1 else EmbeddedCluster()
    things.enter_context(kafka)
    return Stage(folder, kafka, pool, folder / "model.keras", save_model(folder / "model.keras"))


def interrupt(number: int, frame: object) -> None:
    """Once: what follows is cleaning up, which is short."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    chosen = arguments()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, interrupt)
    logging.getLogger("worker").addHandler(logging.NullHandler())
    command = " ".join(["python -m tests.faults", *sys.argv[1:]])
    run = Run(command, datetime.now().astimezone(), chosen.cluster, chosen.session)
    begun = time.monotonic()
    try:
        with ExitStack() as things:
            Harness(prepare(things, chosen.keep, chosen.cluster), chosen, run).play()
    except KeyboardInterrupt:
        say("interrupted: everything is ended and removed, no report is written")
        return INTERRUPTED
    run.seconds = time.monotonic() - begun
    if chosen.report is None:
        print(markdown(run))
    else:
        place(chosen.report, markdown(run), run.nodes)
    return 1 if run.violations else 0


if __name__ == "__main__":
    sys.exit(main())
