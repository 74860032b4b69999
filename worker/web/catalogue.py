"""Every metric of the worker, in one table: ``Metrics`` is built from it, and docs/metrics.md is written from it.

Dashboards and alerts rely on these names, types and labels: to rename one breaks them. Labels have few values, and
never a stream's. ``topic`` and ``partition`` are labels only of gauges of owned partitions, and are removed with them;
counters keep ``topic``, whose values are the topics of the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping

from worker.web.families.checkpoints import CHECKPOINTS
from worker.web.families.durations import DURATIONS
from worker.web.families.member import CLIENT, GROUP, PROCESS
from worker.web.families.partitions import PARTITIONS
from worker.web.families.predictions import PREDICTIONS
from worker.web.families.records import EVENTS, RECORDS
from worker.web.families.sequences import SEQUENCES
from worker.web.families.shadow import SHADOW
from worker.web.metric import Metric

# Titles of the page → their metrics, in its order.
FAMILIES: Mapping[str, tuple[Metric, ...]] = {
    "Lateness and positions": PARTITIONS,
    "Records": RECORDS,
    "Events and the loop": EVENTS,
    "Durations": DURATIONS,
    "Streams and sequences": SEQUENCES,
    "What the model says": PREDICTIONS,
    "A second model beside it": SHADOW,
    "Checkpoints and recovery": CHECKPOINTS,
    "The group": GROUP,
    "The Kafka client": CLIENT,
    "The process": PROCESS,
}
CATALOGUE = tuple(metric for family in FAMILIES.values() for metric in family)
# Beside ours: what prometheus-client says of every process.
PROCESS_METRICS = (
    "process_cpu_seconds_total", "process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds",
    "process_max_fds", "process_start_time_seconds", "python_gc_collections_total",
    "python_gc_objects_collected_total", "python_gc_objects_uncollectable_total",
)  # fmt: skip
