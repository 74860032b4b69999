"""PromQL of the dashboard: what its variables choose, and how each kind of metric is asked for.

``group`` is a label of rnnw_build_info alone: left out are the workers that are known to belong to another group, which
keeps those that are starting and have none yet. Outside Kubernetes there is no namespace and no pod: ``.*`` matches.
"""

from __future__ import annotations

WORKERS = 'namespace=~"$namespace",pod=~"$pod"'
TOPICS = f'{WORKERS},topic=~"$topic"'
OTHER_GROUPS = 'unless on (job, instance) rnnw_build_info{group!~"$group"}'
OURS = f"and on (job, instance) rnnw_worker_state{{{WORKERS}}} {OTHER_GROUPS}"
WORKER = "{{pod}} {{instance}}"  # legend


def now(metric: str, more: str = "") -> str:
    """A gauge of workers."""
    return f"rnnw_{metric}{{{WORKERS}{more}}} {OTHER_GROUPS}"


def of_partitions(metric: str) -> str:
    """A gauge of partitions."""
    return f"rnnw_{metric}{{{TOPICS}}} {OTHER_GROUPS}"


def growth(metric: str) -> str:
    """By how much a gauge of partitions grows in a second."""
    return f"deriv(rnnw_{metric}{{{TOPICS}}}[5m]) {OTHER_GROUPS}"


def per_second(metric: str, more: str = "") -> str:
    """A counter's rate."""
    return f"rate(rnnw_{metric}{{{WORKERS}{more}}}[$__rate_interval]) {OTHER_GROUPS}"


def of_topics(metric: str) -> str:
    """The rate of a counter of input topics."""
    return f"rate(rnnw_{metric}{{{TOPICS}}}[$__rate_interval]) {OTHER_GROUPS}"


def total(expression: str, *labels: str) -> str:
    """Summed up, by these labels."""
    return f"sum{_by(labels)} ({expression})"


def share(part: str, whole: str) -> str:
    """One rate as a share of another."""
    return f"{total(part)} / {total(whole)}"


def greatest(expression: str, *labels: str) -> str:
    """The greatest, by these labels."""
    return f"max{_by(labels)} ({expression})"


def mean(expression: str, *labels: str) -> str:
    """The mean of workers, by these labels."""
    return f"avg{_by(labels)} ({expression})"


def quantile(part: float, histogram: str, *labels: str) -> str:
    """Of a histogram's observations."""
    return f"histogram_quantile({part}, {total(per_second(f'{histogram}_bucket'), 'le', *labels)})"


def busy(histogram: str) -> str:
    """Seconds per second spent in what a histogram times."""
    return total(per_second(f"{histogram}_sum"))


def process(metric: str) -> str:
    """Of the workers' processes; other programs have such metrics, too."""
    return f"{metric} {OURS}"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""
