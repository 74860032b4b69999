"""One row of the catalogue: what a metric is called, what it says, and how to ask for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from worker.records.events import Reset

Kind: TypeAlias = Literal["counter", "gauge", "histogram", "info"]

PREFIX = "rnnw"
PARTITION = ("topic", "partition")
# Seconds: a turn takes 0.3 ms, a commit may take half a minute.
DURATIONS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
LONG_DURATIONS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """``name`` is as scraped, without the prefix; ``query`` is PromQL that somebody would ask.

    ``values``: those of the only label that are known beforehand; they begin at 0.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    query: str
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """As dashboards and alerts spell it."""
        return f"{PREFIX}_{self.name}"

    def series(self) -> tuple[str, ...]:
        """Its names in expressions."""
        if self.kind != "histogram":
            return (self.full_name,)
        # A sum of values that may be negative is no counter: there is none, and no count beside the last bucket.
        summed = ("_sum", "_count") if not self.buckets or self.buckets[0] >= 0 else ()
        return tuple(f"{self.full_name}{each}" for each in ("", "_bucket", *summed))


def counter(
    name: str, unit: str, text: str, query: str, label: str | None = None, values: Iterable[str] = ()
) -> Metric:
    """Counts since the start of the process."""
    return Metric(name, "counter", unit, text, query, (label,) if label else (), tuple(values))


def gauge(name: str, unit: str, text: str, query: str, *labels: str, values: Iterable[str] = ()) -> Metric:
    """A value of now."""
    return Metric(name, "gauge", unit, text, query, labels, tuple(values))


def of_partitions(name: str, unit: str, text: str, query: str) -> Metric:
    """A gauge of each partition that this member owns; it goes with the partition."""
    return gauge(name, unit, text, query, *PARTITION)


def duration(name: str, text: str, buckets: tuple[float, ...] = DURATIONS_S) -> Metric:
    """A histogram of seconds, asked for by its 99th percentile."""
    query = f"histogram_quantile(0.99, sum by (le) (rate({PREFIX}_{name}_bucket[5m])))"
    return Metric(name, "histogram", "seconds", text, query, buckets=buckets)


def reasons(resets: Iterable[Reset]) -> tuple[str, ...]:
    """Their names as label values."""
    return tuple(reset.name.lower() for reset in resets if reset is not Reset.NONE)
