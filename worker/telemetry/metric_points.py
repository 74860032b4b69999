"""The metrics of a registry of prometheus-client as OpenTelemetry's, under the same names.

``_total`` and ``_bucket`` are how Prometheus writes counters and histograms, and no part of a name: a collector that
writes for Prometheus adds them again. No I/O; time is an argument, in nanoseconds since the epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family
    from prometheus_client.samples import Sample

UNITS = {"_seconds": "s", "_bytes": "By", "_ratio": "1", "_records": "{record}", "_events": "{event}"}
CUMULATIVE = AggregationTemporality.CUMULATIVE
Labels: TypeAlias = tuple[tuple[str, str], ...]


def metric_points(families: Iterable[Family], started_ns: int, now_ns: int) -> Iterator[Metric]:
    """Of each family its values now. ``started_ns``: since when counters count."""
    for family in families:
        data: Sum | Gauge | Histogram
        if family.type == "histogram":
            data = Histogram(list(_histograms(family, started_ns, now_ns)), CUMULATIVE)
        elif family.type == "counter":
            data = Sum(list(_counters(family, started_ns, now_ns)), CUMULATIVE, is_monotonic=True)
        else:
            data = Gauge([_number(each, 0, now_ns) for each in family.samples])
        if data.data_points:
            name = f"{family.name}_info" if family.type == "info" else family.name
            yield Metric(name, family.documentation, _unit(family.name), data)


def _counters(family: Family, started_ns: int, now_ns: int) -> Iterator[NumberDataPoint]:
    for sample in family.samples:
        if sample.name.endswith("_total"):
            yield _number(sample, started_ns, now_ns)


def _histograms(family: Family, started_ns: int, now_ns: int) -> Iterator[HistogramDataPoint]:
    buckets: dict[Labels, list[tuple[float, float]]] = {}
    sums: dict[Labels, float] = {}
    for sample in family.samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        if sample.name.endswith("_bucket"):
            buckets.setdefault(_key(labels), []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_sum"):
            sums[_key(labels)] = sample.value
    for key, found in buckets.items():
        found.sort()
        counts = [int(upto - before) for (_, upto), before in zip(found, [0.0, *(n for _, n in found)], strict=False)]
        missing: Any = None  # least and greatest value: nobody keeps them
        yield HistogramDataPoint(
            attributes=dict(key),
            start_time_unix_nano=started_ns,
            time_unix_nano=now_ns,
            count=int(found[-1][1]),
            sum=sums.get(key, 0.0),
            bucket_counts=counts,
            explicit_bounds=[bound for bound, _ in found if bound < math.inf],
            min=missing,
            max=missing,
        )


def _number(sample: Sample, started_ns: int, now_ns: int) -> NumberDataPoint:
    return NumberDataPoint(dict(sample.labels), started_ns, now_ns, float(sample.value))


def _key(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _unit(name: str) -> str:
    return next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")
