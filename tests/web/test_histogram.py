"""The histogram of the loop says what prometheus-client's says."""

from __future__ import annotations

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from worker.web.histogram import Histogram
from worker.web.metric import Metric

ENDS = (0.1, 0.25, 1.0, 5.0)
ROW = Metric("wait_seconds", "histogram", "seconds", "Wait.", "rnnw_wait_seconds", buckets=ENDS)


@given(st.lists(st.one_of(st.sampled_from([0.0, *ENDS]), st.floats(0, 10))))
def test_a_scrape_is_the_same(values: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram(ROW, ours)
    reference = prometheus_client.Histogram("rnnw_wait_seconds", "Wait.", registry=theirs, buckets=ENDS)
    for value in values:
        histogram.observe(value)
        reference.observe(value)
    told = [line for line in generate_latest(theirs).decode().splitlines() if "_created" not in line]
    assert generate_latest(ours).decode().splitlines() == told
