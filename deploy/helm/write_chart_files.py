"""Writes the chart's values.schema.json and README.md from its values.yaml and from the worker's own schema.

    .venv/bin/python deploy/helm/write_chart_files.py

A line `# -- ...` in values.yaml describes the key below it. A value has the type of its default, unless a table here
says more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from worker.commands.run.command import END_LIMIT_S
from worker.config import json_schema
from worker.web.status import LIVE_LIMIT_S

CHART = Path(__file__).parent / "rnn-stream-worker"
ONE_OF = {
    "image.pullPolicy": ["Always", "IfNotPresent", "Never"],
    "model.image.pullPolicy": ["Always", "IfNotPresent", "Never"],
    "model.source": ["configMap", "image", "claim", "url"],
    "state.storage": ["claimTemplate", "claim", "emptyDir", "none"],
    "state.retention.whenDeleted": ["Retain", "Delete"],
    "state.retention.whenScaled": ["Retain", "Delete"],
    "topologySpread.whenUnsatisfiable": ["ScheduleAnyway", "DoNotSchedule"],
}
AT_LEAST = {  # other whole numbers: 0
    "replicaCount": 1,
    "probes.startupSeconds": int(LIVE_LIMIT_S),  # which a start may take
    "terminationGracePeriodSeconds": int(END_LIMIT_S) + 1,  # a stop that hangs says where, before it is killed
    "keda.minReplicas": 1,
    "keda.maxReplicas": 1,
    "keda.lagThreshold": 1,
    "keda.pollingInterval": 1,
}
MATCHES = {"image.digest": "^(sha256:[0-9a-f]{64})?$"}
ANYTHING_IN = ("resources", "dashboards.labels")  # maps with a default, which may hold other keys as well
FROM_STATE_AND_MODEL = ("model",)  # the chart fills these sections in
SECRET_FILE = {
    "type": "object",
    "required": ["name", "mountPath"],
    "additionalProperties": False,
    "properties": {"name": {"type": "string"}, "mountPath": {"type": "string", "pattern": "^/"}},
}


def read_values() -> Any:
    """The chart's default values."""
    return yaml.safe_load((CHART / "values.yaml").read_text())


def schema() -> dict[str, Any]:
    """What values the chart takes; ``config`` as the worker itself would."""
    config = _without_descriptions(json_schema())
    definitions = config.pop("$defs")
    config.pop("$schema")
    config["required"] = [name for name in config["required"] if name not in FROM_STATE_AND_MODEL]
    for section in FROM_STATE_AND_MODEL:
        definitions[section.capitalize()].pop("required", None)
    made = _schema_of(read_values(), "")
    made["properties"]["config"] = config
    made["properties"]["secretFiles"] = {"type": "array", "items": SECRET_FILE}
    made["properties"]["global"] = {"type": "object"}  # what a chart around this one hands down
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "rnn-stream-worker",
        **made,
        "$defs": definitions,
    }


def _schema_of(value: Any, path: str) -> dict[str, Any]:
    if isinstance(value, dict):
        if not value or path in ANYTHING_IN:
            return {"type": "object"}
        inner = {key: _schema_of(each, f"{path}.{key}".lstrip(".")) for key, each in value.items()}
        return {"type": "object", "additionalProperties": False, "properties": inner}
    if path in ONE_OF:
        return {"enum": ONE_OF[path]}
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        return {"type": "integer", "minimum": AT_LEAST.get(path, 0)}
    if isinstance(value, list):
        return {"type": "array"}
    return {"type": "string", **({"pattern": MATCHES[path]} if path in MATCHES else {})}


def _without_descriptions(schema: Any) -> Any:
    """They are in config/worker.schema.json; a property may be called ``description``, or ``title``."""
    if isinstance(schema, list):
        return [_without_descriptions(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    told = {
        key: each for key, each in schema.items() if not (key in ("description", "title") and isinstance(each, str))
    }
    return {key: _without_descriptions(each) for key, each in told.items()}


def described(text: str) -> Iterator[tuple[str, str]]:
    """(path of a key, its description), in the order of values.yaml."""
    above: list[tuple[int, str]] = []  # (indentation, key) of the sections around a line
    words: list[str] = []
    for line in text.splitlines():
        comment = re.match(r"\s*# (-- )?(.*)", line)
        if comment:
            words = [comment[2]] if comment[1] else [*words, comment[2]]
            continue
        key = re.match(r"( *)([\w-]+):", line)
        if key:
            above = [each for each in above if each[0] < len(key[1])] + [(len(key[1]), key[2])]
            if words:
                yield ".".join(name for _, name in above), " ".join(words)
        words = []


def readme() -> str:
    """The chart's page: how to install it, and a row for each value."""
    values = read_values()
    rows = ["| value | default | |", "|---|---|---|"]
    for path, words in described((CHART / "values.yaml").read_text()):
        default: Any = values
        for key in path.split("."):
            default = default[key]
        shown = "below" if path == "config" else f"`{json.dumps(default)}`"
        rows.append(f"| `{path}` | {shown} | {words.replace('|', 'or')} |")
    config = yaml.safe_dump(values["config"], sort_keys=False)
    return "\n".join([*HEAD, *rows, "", "The default of `config`:", "", "```yaml", config.rstrip(), "```", ""])


HEAD = (
    "<!-- values: made by deploy/helm/write_chart_files.py -->",
    "# Helm chart rnn-stream-worker",
    "",
    "Workers on Kubernetes. [docs/kubernetes.md](../../../docs/kubernetes.md) explains it.",
    "",
    "```",
    "kubectl create configmap rnn-stream-worker-model --from-file=model.keras",
    "helm install rnn-stream-worker deploy/helm/rnn-stream-worker -f my-values.yaml",
    "helm test rnn-stream-worker",
    "```",
    "",
    "Unknown values are refused, and so is any key of `config` that the worker does not know. Examples are in",
    "[deploy/helm/values](../values).",
    "",
)


def main() -> None:
    """Write both files."""
    (CHART / "values.schema.json").write_text(json.dumps(schema(), indent=1) + "\n")
    (CHART / "README.md").write_text(readme())


if __name__ == "__main__":
    main()
