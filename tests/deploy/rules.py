"""The alert rules, their expressions, and the names of metrics in PromQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import promql_parser
import yaml

from worker.web.catalogue import CATALOGUE, PROCESS_METRICS

ROOT = Path(__file__).parents[2]
RULES_FILE = ROOT / "deploy" / "prometheus" / "rnn-stream-worker.rules.yaml"
# Metrics of others: of Prometheus itself, and of kube-state-metrics.
FOREIGN = {"up", "ALERTS", "kube_pod_container_resource_limits"}


def rules() -> list[dict[str, Any]]:
    """All rules of the file, in order."""
    groups = yaml.safe_load(RULES_FILE.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """Alert → its rule."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def names_in(expression: str) -> set[str]:
    """The metrics that an expression asks for. Raises ValueError when it does not parse."""
    return {str(selector.name) for selector in selectors(expression)}


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """Everything that an expression takes from the data. Raises ValueError when it does not parse."""
    return _selectors(promql_parser.parse(expression))


def _selectors(node: Any) -> list[promql_parser.VectorSelector]:
    if isinstance(node, promql_parser.MatrixSelector):
        node = node.vector_selector
    if isinstance(node, promql_parser.VectorSelector):
        return [node]
    inner = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "param")]
    inner += getattr(node, "args", None) or []
    return [found for each in inner if isinstance(each, promql_parser.Expr) for found in _selectors(each)]


def scraped_names() -> set[str]:
    """Everything that a scrape of a worker may hold, by name: of histograms the three that queries use."""
    found = set(PROCESS_METRICS)
    for metric in CATALOGUE:
        ends = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        found |= {metric.full_name + end for end in ends}
    return found
