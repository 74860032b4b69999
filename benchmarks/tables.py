"""Figures of the suite as markdown and text.

Rule: pure; every figure is a median with the lowest and highest round, computed here and nowhere else.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.commands.bench.rounds import middle

NULL = "null, "
PERCENTILES = ("50.0", "99.0", "99.9")  # as JSON names them
BASE_IS_FASTER = "peers"  # the group whose readers ask how many times faster the base is
LOOP = "Worker.turn"


@dataclass(frozen=True, slots=True)
class Row:
    """One contender, round by round. ``ratios``: its events/s over those of ``base`` in the same round."""

    name: str
    base: str
    speeds: Sequence[float]
    ratios: Sequence[float]
    cpu_us: Sequence[float]


@dataclass(frozen=True, slots=True)
class Latency:
    """One way at each rate: ``ms[rate][percentile]`` is a list, one per round."""

    client: str
    name: str
    ms: Mapping[int, Mapping[str, Sequence[float]]]


def rows_of(figures: Mapping[str, Any]) -> list[Row]:
    """The contenders of a group, in order."""
    rows = []
    for name, cell in figures["cells"].items():
        base = base_of(name, list(figures["cells"]))
        against = figures["cells"][base]["events_per_s"]
        ratios = [a / b for a, b in zip(cell["events_per_s"], against, strict=True)]
        rows.append(Row(name, base, cell["events_per_s"], ratios, cell["cpu_us"]))
    return rows


def base_of(name: str, names: Sequence[str]) -> str:
    """The null pipeline of the same client, with the same delivery if there is one; otherwise the first contender."""
    _, *way = name.split(", ")  # client, delivery
    own = [null for null in names if null.startswith(NULL) and null.split(", ")[1:2] == way[:1]]
    same = [null for null in own if null.split(", ")[1:3] == way[:2]]
    return [*same, *own, names[0]][0]


def base_title(rows: Sequence[Row]) -> str:
    """The contender that ratios are relative to."""
    bases = {row.base for row in rows}
    if len(bases) == 1:
        return bases.pop()
    clients = {base.split(", ")[1] for base in bases}
    return "null pipeline of the same client" + " and delivery" * (len(bases) > len(clients))


def ratio(values: Iterable[float]) -> str:
    """Median and spread, to two significant digits of the lowest or more."""
    every = list(values)
    magnitude = math.floor(math.log10(min(every)))
    return middle(every, 1 - magnitude if magnitude < 0 else max(1, 2 - magnitude))


def group_table(group: str, figures: Mapping[str, Any]) -> str:
    """Markdown: contender, events/s, ratio to its base, processor time."""
    rows = rows_of(figures)
    slower = group == BASE_IS_FASTER
    head = ["contender", "events/s", f"/ {base_title(rows)}", *["times slower"] * slower, "CPU µs/event"]
    body = []
    for row in rows:
        ratios = [ratio(row.ratios), *[ratio(1 / each for each in row.ratios)] * slower]
        ratios = ["1"] * len(ratios) if row.name == row.base else ratios
        body.append([row.name, middle(row.speeds, 0), *ratios, f"{statistics.median(row.cpu_us):,.1f}"])
    return markdown(head, body)


def latencies(results: Iterable[Mapping[str, Any]]) -> list[Latency]:
    """From the figures of ``worker bench --json``, one file per rate."""
    found: dict[tuple[str, str], dict[int, dict[str, list[float]]]] = {}
    for figures in sorted(results, key=lambda one: one["options"]["rate"]):
        for entry in figures["found"]:
            if entry["what"] == "latency, ms":
                each = {p: [float(one[p]) for one in entry["rounds"]] for p in PERCENTILES}
                found.setdefault((entry["client"], entry["name"]), {})[figures["options"]["rate"]] = each
    return [Latency(client, name, ms) for (client, name), ms in found.items()]


def rates_of(found: Iterable[Latency]) -> list[int]:
    """The rates that were measured, in events per second, ascending."""
    return sorted({rate for one in found for rate in one.ms})


def latency_table(found: Sequence[Latency]) -> str:
    """Markdown: milliseconds of each percentile at each rate."""
    columns = [(rate, p) for rate in rates_of(found) for p in PERCENTILES]
    head = ["ms", *(f"p{float(p):g} at {rate:,}/s" for rate, p in columns)]
    body = []
    for one in found:
        cells = [middle(one.ms[rate][p], 1) if rate in one.ms else "–" for rate, p in columns]
        body.append([one.name, *cells])
    return markdown(head, body)


def flame_table(figures: Mapping[str, Any]) -> str:
    """Markdown: share and µs of each stage of the loop, and of all."""
    stages = figures["stages"]
    body = [[name, f"{100 * each['share']:.1f} %", f"{each['us']:.2f}"] for name, each in stages.items()]
    total = [f"{100 * sum(s['share'] for s in stages.values()):.0f} %", f"{sum(s['us'] for s in stages.values()):.2f}"]
    return markdown(["stage", "share of the loop's time", "µs/event"], [*body, [f"all of `{LOOP}`", *total]])


def machine(facts: Mapping[str, Any]) -> str:
    """The machine that it was measured on."""
    return f"{facts['cores']} cores ({facts['processor']}), Python {facts['python']}"


def conditions(facts: Mapping[str, Any], rounds: int) -> str:
    """The line below a table."""
    turns = f"{rounds} rounds in turns" if rounds > 1 else "1 round"
    return f"{machine(facts)}; {turns}: median (lowest–highest)."


def markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table; all columns but the first are right-aligned."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def comparison(group: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Text: events/s of the contenders that are in both results."""
    lines = [f"{group:<46}{'old, events/s':>16}{'new, events/s':>16}{'new / old':>12}"]
    for name, cell in old["cells"].items():
        if name in new["cells"]:
            before, after = cell["events_per_s"], new["cells"][name]["events_per_s"]
            was, now = statistics.median(before), statistics.median(after)
            same = "  within the spread" if min(before) <= max(after) and min(after) <= max(before) else ""
            lines.append(f"  {name:<44}{was:>16,.0f}{now:>16,.0f}{now / was:>12.2f}{same}")
    return "\n".join(lines)
