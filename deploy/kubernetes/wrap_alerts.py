"""Writes components/alerts/prometheus-rule.yaml: the alerts of deploy/prometheus as the Prometheus operator reads them.

.venv/bin/python deploy/kubernetes/wrap_alerts.py
"""

from __future__ import annotations

from pathlib import Path

import yaml

DEPLOY = Path(__file__).parents[1]
RULES = DEPLOY / "prometheus" / "rnn-stream-worker.rules.yaml"
WRAPPED = DEPLOY / "kubernetes" / "components" / "alerts" / "prometheus-rule.yaml"
WIDTH = 110
HEAD = """\
# Made by deploy/kubernetes/wrap_alerts.py.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: rnn-stream-worker
  labels:
    app.kubernetes.io/name: rnn-stream-worker
    app.kubernetes.io/instance: rnn-stream-worker
    app.kubernetes.io/component: worker
    app.kubernetes.io/version: 0.1.0
spec:
"""


def wrapped(rules: str) -> str:
    """The object. Written anew: kustomize adds empty lines to text that is folded as the rules' expressions are."""
    spec = yaml.safe_dump(yaml.safe_load(rules), sort_keys=False, width=WIDTH)
    return HEAD + "".join(f"  {line}" for line in spec.splitlines(keepends=True))


def main() -> None:
    """Write the file."""
    WRAPPED.write_text(wrapped(RULES.read_text()))


if __name__ == "__main__":
    main()
