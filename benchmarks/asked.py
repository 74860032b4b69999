"""The worker's targets, beside the suite's results. Pure.

Rule: a ratio compares two contenders in the same round; the table shows the median, the lowest and the highest round.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.tables import latencies, markdown
from worker.commands.bench.rounds import middle

WORKER, EXACTLY_ONCE = "worker, confluent, at_least_once", "worker, confluent, exactly_once"
HOP = "one hop, confluent"
RATE, MEDIAN = 1_000, "50.0"


@dataclass(frozen=True, slots=True)
class Ratio:
    """Events/s of one contender over those of another in a group, at least ``least``."""

    what: str
    group: str
    one: str
    other: str
    least: float


RATIOS = (
    Ratio(
        "worker / null pipeline, kafka-python", "clients",
        "worker, kafka-python, at_least_once", "null, kafka-python, at_least_once", 0.8,
    ),
    Ratio("worker / null pipeline, confluent", "clients", WORKER, "null, confluent, at_least_once", 0.75),
    Ratio("worker / Quix Streams, one core each", "peers", WORKER, "Quix Streams, numpy step", 8),
    Ratio(
        "worker / Kafka Streams with ONNX Runtime, one core each", "peers",
        WORKER, "Kafka Streams, ONNX Runtime, at_least_once", 1.4,
    ),
    Ratio("exactly once / at least once, confluent", "clients", EXACTLY_ONCE, WORKER, 0.8),
    Ratio("1,000,000 streams / 1,000 streams", "streams", "1,000,000 streams", "1,000 streams", 0.8),
)  # fmt: skip


def asked_table(results: Mapping[str, Any]) -> str:
    """Markdown, for the contenders that have results: ``results`` are those of the suite, by group."""
    body = []
    for each in RATIOS:
        cells = results.get(each.group, {}).get("cells", {})
        if each.one in cells and each.other in cells:
            pairs = zip(cells[each.one]["events_per_s"], cells[each.other]["events_per_s"], strict=True)
            found = [one / other for one, other in pairs]
            body.append(
                [each.what, f"≥ {each.least:g}", middle(found), verdict(statistics.median(found) >= each.least)]
            )
    if "latency" in results:
        body += latency_rows(results["latency"])
    return markdown(["what", "target", "median (lowest–highest)", ""], body)


def latency_rows(results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Medians at RATE: at least once relative to one hop of the client, exactly once in ms."""
    at = {one.name: one.ms[RATE][MEDIAN] for one in latencies(results) if one.client == "confluent"}
    hops = [one / hop for one, hop in zip(at[WORKER], at[HOP], strict=True)]
    title = f"p50 at {RATE:,} events/s, confluent"
    return [
        [f"{title}, at least once / one hop", "≤ 3", middle(hops, 1), verdict(statistics.median(hops) <= 3)],
        [
            f"{title}, exactly once, ms",
            "≤ 10",
            middle(at[EXACTLY_ONCE], 1),
            verdict(statistics.median(at[EXACTLY_ONCE]) <= 10),
        ],
    ]


def verdict(held: bool) -> str:
    """In a word."""
    return "reached" if held else "**missed**"
