"""The report as Markdown, and its place in a page: between two markers, everything else stays as it is."""

from __future__ import annotations

import platform
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import worker
from tests.faults.leg import EVENTS_PER_S, PARTITIONS, STREAMS
from tests.faults.plan import SESSION_S, Combination
from tests.faults.results import LegResult
from worker.kafka.embedded.runtime import KAFKA_VERSION

MARKERS = {
    nodes: (f"<!-- {name} report: begin -->", f"<!-- {name} report: end -->")
    for nodes, name in ((1, "harness"), (3, "harness cluster"))
}
BEGIN, END = MARKERS[1]
NODES = {1: "one node", 3: "three nodes, min.insync.replicas 2"}
HEADING = """# Reliability

What is promised when processes, brokers and disks fail, and how it is tested.

"""
ENDED_SHOWN = 8
ENDED_CHARACTERS = 160


@dataclass(slots=True)
class Run:
    """What is reported: the command, when it began and how long it took, and all legs by combination."""

    command: str
    begun: datetime
    nodes: int = 1
    session_s: float = SESSION_S
    seconds: float = 0.0
    legs: dict[Combination, list[LegResult]] = field(default_factory=lambda: defaultdict(list))

    @property
    def violations(self) -> list[str]:
        return [text for legs in self.legs.values() for leg in legs for text in leg.violations]


def place(page: Path, section: str, nodes: int = 1) -> None:
    """Write the section between the page's markers; a page without them gets them at its end."""
    text = page.read_text() if page.exists() else HEADING
    begin, end = MARKERS[nodes]
    if begin not in text:
        text = f"{text.rstrip()}\n\n{begin}\n{end}\n"
    before, rest = text.split(begin, 1)
    after = rest.split(end, 1)[1]
    page.write_text(f"{before}{begin}\n{section}{end}{after}")


def markdown(run: Run) -> str:
    """The section."""
    rounds = sum(len(leg.rounds) for legs in run.legs.values() for leg in legs)
    versions = (
        f"rnn-stream-worker {worker.__version__}, Kafka {KAFKA_VERSION}, kafka-python {version('kafka-python')}, "
        f"confluent-kafka {version('confluent-kafka')}, Python {platform.python_version()}"
    )
    parts = [
        f"`{run.command}`, {run.begun:%Y-%m-%d}: {rounds} rounds in {run.seconds / 60:.0f} minutes; {versions}.",
        f"{EVENTS_PER_S:.0f} events/s of {STREAMS} streams in {PARTITIONS} partitions; "
        f"sessions of {run.session_s:.0f} s; {NODES[run.nodes]}.",
        _by_combination(run),
        _by_fault(run),
        _beyond(run),
        _effects(run),
        _ended(run),
        _violations(run.violations),
    ]
    return "\n".join(part + "\n" for part in parts if part)


def _by_combination(run: Run) -> str:
    names = (
        "rounds", "events", "outputs", "lost", "wrong", "repeats", "largest difference of a probability",
        "states checked at the end", "largest difference of a state", "workers started again",
        "seconds until all was answered: median", "longest", "violations",
    )  # fmt: skip
    columns = []
    for legs in run.legs.values():
        verdicts = [leg.verdict for leg in legs]
        seconds = [found.well_s for leg in legs for found in leg.rounds]
        columns.append(
            [
                f"{len(seconds):,}",
                *(f"{sum(getattr(verdict, name) for verdict in verdicts):,}"
                  for name in ("events", "outputs", "lost", "wrong", "repeats")),
                f"{max((verdict.probability_difference for verdict in verdicts), default=0):.1e}",
                f"{sum(verdict.states for verdict in verdicts):,}",
                f"{max((verdict.state_difference for verdict in verdicts), default=0):.1e}",
                f"{sum(leg.restarts for leg in legs):,}",
                *_spread(seconds),
                f"{sum(len(leg.violations) for leg in legs):,}",
            ]
        )  # fmt: skip
    rows = [[name, *cells] for name, cells in zip(names, zip(*columns, strict=True), strict=True)]
    return _table(["", *map(str, run.legs)], rows)


def _by_fault(run: Run) -> str:
    kinds = sorted({found.fault for legs in run.legs.values() for leg in legs for found in leg.rounds})
    rows = []
    for kind in kinds:
        cells, every = [], []
        for legs in run.legs.values():
            seconds = [found.well_s for leg in legs for found in leg.rounds if found.fault == kind]
            cells.append(str(len(seconds)))
            every += seconds
        rows.append([kind, *cells, *_spread(every)])
    return _table(["fault", *(f"rounds: {name}" for name in run.legs), "median s", "longest s"], rows)


def _beyond(run: Run) -> str:
    """How much later than a bare client the outputs of exactly-once workers flowed again."""
    rows = []
    for combination, legs in run.legs.items():
        every = [found for leg in legs for found in leg.rounds]
        for kind in sorted({found.fault for found in every}):
            pairs = [
                (found.back_s, found.bare_s)
                for found in every
                if found.fault == kind and found.back_s is not None and found.bare_s is not None
            ]
            if pairs:
                beyond = [back - bare for back, bare in pairs]
                outputs, bare = (f"{statistics.median(side):.1f}" for side in zip(*pairs, strict=True))
                rows.append([str(combination), kind, str(len(pairs)), outputs, bare, *_spread(beyond)])
    names = (
        "",
        "fault",
        "rounds",
        "outputs back, median s",
        "bare client, median s",
        "beyond it: median s",
        "longest s",
    )
    return _table(names, rows) if rows else ""


def _effects(run: Run) -> str:
    """That the faults did something: what the workers' logs say."""
    names = sorted({name for legs in run.legs.values() for leg in legs for name in leg.said})
    rows = [[name, *(str(sum(leg.said.get(name, 0) for leg in legs)) for legs in run.legs.values())] for name in names]
    return _table(["the workers' logs say", *map(str, run.legs)], rows)


def _ended(run: Run) -> str:
    """Workers that ended by themselves, which their supervisor then starts again."""
    ended: Counter[str] = Counter()
    for legs in run.legs.values():
        for leg in legs:
            ended.update(leg.ended)
    if not ended:
        return "No worker ended by itself."
    lines = [f"- {count} × `{_short(line)}`" for line, count in ended.most_common(ENDED_SHOWN)]
    return "\n".join([f"Workers that ended by themselves and were started again: {ended.total()}", "", *lines])


def _violations(violations: Sequence[str]) -> str:
    if not violations:
        return "Nothing lost, nothing wrong, nothing out of order; all states and offsets as without faults."
    return "\n".join(["**Violations**", "", *(f"- {_short(text)}" for text in violations)])


def _short(text: str) -> str:
    line = " ".join(text.split()).replace("`", "'")
    return line if len(line) <= ENDED_CHARACTERS else line[: ENDED_CHARACTERS - 1] + "…"


def _spread(seconds: Sequence[float]) -> list[str]:
    return [f"{statistics.median(seconds):.1f}", f"{max(seconds):.1f}"] if seconds else ["", ""]


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in [list(head), *map(list, rows)]]
    lines.insert(1, "|" + "---|" * (lines[0].count("|") - 1))
    return "\n".join(lines)
