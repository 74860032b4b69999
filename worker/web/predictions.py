"""The metrics of the model: made when they are asked for, so that one without events in the last minute is absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import Metric as Family
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from worker.web.families.predictions import OUTPUT_VALUES, PREDICTIONS
from worker.web.metric import Metric


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """``output_values``: unit → how many of its sampled outputs, since the start, were in each of BUCKETS.

    The others are of the last minute; empty or None where nothing was sampled in it.
    """

    output_values: Mapping[str, Sequence[int]] = field(default_factory=dict)
    saturated: float | None = None
    state_norm: Mapping[str, float] = field(default_factory=dict)
    feature_mean: Mapping[str, float] = field(default_factory=dict)
    feature_spread: Mapping[str, float] = field(default_factory=dict)
    feature_outside: Mapping[str, float] = field(default_factory=dict)


class PredictionsCollector(Collector):
    """``source`` tells the figures of now; it is called by the thread that answers a scrape."""

    def __init__(self) -> None:
        self.source: Callable[[], ModelFigures] = ModelFigures

    def collect(self) -> Iterator[Family]:
        """Every family, with or without samples."""
        figures = self.source()
        values: Mapping[str, Mapping[str, float]] = {
            "output_saturated_ratio": {} if figures.saturated is None else {"": figures.saturated},
            "state_norm": figures.state_norm,
            "feature_mean": figures.feature_mean,
            "feature_spread": figures.feature_spread,
            "feature_outside_ratio": figures.feature_outside,
        }
        for row in PREDICTIONS:
            if row.kind == "histogram":
                yield _histogram(row, figures.output_values)
                continue
            gauge = GaugeMetricFamily(row.full_name, row.help, labels=row.labels)
            for label, value in values[row.name].items():
                gauge.add_metric([label] if row.labels else [], value)
            yield gauge


BUCKETS = (*OUTPUT_VALUES, float("inf"))
_ENDS = [str(floatToGoString(end)) for end in BUCKETS]  # type: ignore[no-untyped-call]


def _histogram(row: Metric, units: Mapping[str, Sequence[int]]) -> Family:
    """Without a sum, as always where values may be negative: it would not be a counter."""
    family = HistogramMetricFamily(row.full_name, row.help, labels=row.labels)
    for unit, counts in units.items():
        buckets = [(end, float(sum_)) for end, sum_ in zip(_ENDS, accumulate(counts), strict=True)]
        family.add_metric([unit], buckets, None)
    return family
