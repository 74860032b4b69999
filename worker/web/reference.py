"""docs/metrics.md, written from the catalogue."""

from __future__ import annotations

from collections.abc import Iterator

from worker.web.catalogue import FAMILIES, PROCESS_METRICS
from worker.web.metric import Metric

HEAD = """# Metrics

For people who watch workers. `/metrics` on `http.port` (9100) answers in the formats of Prometheus and OpenMetrics.
This page is written from the table that the worker's metrics are built from (`worker/web/catalogue.py`); a test
compares the two. Names, types and labels don't change between releases unless [CHANGELOG.md](../CHANGELOG.md) says so.

No label names a stream. `topic` and `partition` are labels only of gauges of partitions that a worker owns, and go with
them, so sums over all workers count each partition once. Counters begin at 0 when the process starts: use `rate` and
`increase`. `group` and the versions are labels of `rnnw_build_info` alone. To have them beside another metric,
multiply: `rnnw_ready * on (instance, job) group_left (group) rnnw_build_info`.

**How late.** `rnnw_partition_delay_seconds` is computed at each scrape, so it grows while the loop stands still. The
oldest record not answered is the first one read and not committed, whose timestamp is known. Of records that were never
read only this is known: they are no older than the last one read, and than the last look at the log's end that found no
more than has been read since; the delay counts from the later of the two. The worker looks every 10 s. After 30 s
without an answer nothing is known of the log's end, and the delay counts as if there were records that nobody has read:
an error on the safe side. A timestamp later than the arrival counts as the arrival, and so does none at all. In tasks
that generate, a record is answered when its text is complete. A replay reads records that are answered: those that
wait behind it count from when the partition came, until the first of them is read, however old the replayed ones are.

**Lag.** `rnnw_partition_uncommitted_records` is the log's end less the committed offset, which exporters call
`kafka_consumergroup_lag`; the worker itself asks for it, every 10 s. `rnnw_partition_lag_records` is the log's end less
the position: it is 0 when all is read, committed or not.

**How long.** `rnnw_answer_duration_seconds` is sampled: in turns that are committed, and about twice a second while
nothing waits to be read. Without transactions it ends with the broker's acknowledgement, with them with the commit.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_sections()]) + "\n"


def _sections() -> Iterator[str]:
    for title, family in FAMILIES.items():
        yield f"## {title}\n"
        yield "| metric | type; labels | unit | meaning | a question |\n|---|---|---|---|---|"
        yield from map(_row, family)
        yield ""
    yield "And of every process, from prometheus-client on Linux:\n"
    yield from (f"- `{name}`" for name in PROCESS_METRICS)


def _row(metric: Metric) -> str:
    labels = f"; {', '.join(metric.labels)}" if metric.labels else ""
    said = f"{metric.help} Values: {', '.join(metric.values)}." if metric.values else metric.help
    query = metric.query.replace("|", "\\|")
    return f"| `{metric.full_name}` | {metric.kind}{labels} | {metric.unit} | {said} | `{query}` |"
