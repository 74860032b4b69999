"""The metrics of a registry as OpenTelemetry's: the same numbers under the same names."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import AggregationTemporality, Metric
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from worker.telemetry.metric_points import metric_points
from worker.web.metrics import Metrics

NOW = 2_000_000_000_000_000_000


def points(registry: CollectorRegistry) -> dict[str, Metric]:
    return {metric.name: metric for metric in metric_points(registry.collect(), 1, NOW)}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_a_counter_is_a_sum_without_its_ending(registry: CollectorRegistry) -> None:
    counter = Counter("records", "Records.", ("topic",), registry=registry)
    counter.labels("a").inc(3)
    counter.labels("b").inc(0.5)
    found = points(registry)
    assert list(found) == ["records"]
    data: Any = found["records"].data
    assert (data.is_monotonic, data.aggregation_temporality) == (True, AggregationTemporality.CUMULATIVE)
    assert [(dict(point.attributes), point.value) for point in data.data_points] == [
        ({"topic": "a"}, 3.0), ({"topic": "b"}, 0.5),
    ]  # fmt: skip
    assert [(point.start_time_unix_nano, point.time_unix_nano) for point in data.data_points] == [(1, NOW)] * 2


def test_a_histogram_has_the_count_of_each_bucket(registry: CollectorRegistry) -> None:
    histogram = Histogram("wait_seconds", "Wait.", registry=registry, buckets=(0.1, 1.0, 5.0))
    for value in (0.05, 0.5, 0.6, 100):
        histogram.observe(value)
    metric = points(registry)["wait_seconds"]
    data: Any = metric.data
    (point,) = data.data_points
    assert (metric.unit, metric.description) == ("s", "Wait.")
    assert (point.explicit_bounds, point.bucket_counts) == ([0.1, 1.0, 5.0], [1, 2, 0, 1])
    assert (point.count, point.sum) == (4, pytest.approx(101.15))


def test_gauges_and_infos_are_gauges(registry: CollectorRegistry) -> None:
    Gauge("held_bytes", "Held.", registry=registry).set(7)
    Info("build", "What.", registry=registry).info({"version": "1"})
    Gauge("nothing", "No value yet.", ("unit",), registry=registry)
    found = points(registry)
    assert set(found) == {"held_bytes", "build_info"}
    values: dict[str, Any] = {name: metric.data for name, metric in found.items()}
    assert [point.value for point in values["held_bytes"].data_points] == [7.0]
    assert [(point.value, dict(point.attributes)) for point in values["build_info"].data_points] == [
        (1.0, {"version": "1"})
    ]
    assert found["held_bytes"].unit == "By"


def test_every_metric_of_the_worker_with_a_value_has_the_same_one_here() -> None:
    metrics = Metrics()
    metrics.set_build(version="1", model="", group="g", client="", keras="", tensorflow="", cpu="")
    families = list(metrics.registry.collect())  # once: those of the process change
    found = {metric.name: metric for metric in metric_points(families, 1, NOW)}
    for family in families:
        if not family.samples:
            continue
        metric: Any = found[f"{family.name}_info" if family.type == "info" else family.name]
        if family.type in ("gauge", "unknown", "info"):
            assert len(metric.data.data_points) == len(family.samples)
            continue
        ending = "_count" if family.type == "histogram" else "_total"
        wanted = {
            tuple(sorted(each.labels.items())): each.value for each in family.samples if each.name.endswith(ending)
        }
        told = {
            tuple(sorted(point.attributes.items())): point.count if family.type == "histogram" else point.value
            for point in metric.data.data_points
        }
        assert told == wanted
