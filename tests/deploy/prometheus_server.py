"""A Prometheus of a test's own: scrapes a worker each second, evaluates the rules, answers queries."""

from __future__ import annotations

import json
import math
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.prometheus_package import program
from tests.deploy.rules import RULES_FILE

ANSWER_TIMEOUT_S = 60
END_TIMEOUT_S = 60
# The worker twice: as a plain list of addresses has it, and as a PodMonitor does. Job → labels of the target.
POD = {"namespace": "ml", "pod": "scores-0", "container": "worker"}
JOBS: dict[str, dict[str, str]] = {"rnn-stream-worker": {}, "ml/rnn-stream-worker": POD}


class PrometheusServer:
    """Its HTTP interface."""

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer; None while it is starting."""
        try:
            with urllib.request.urlopen(
                f"{self._address}/{path}?{urllib.parse.urlencode(parameters)}", timeout=ANSWER_TIMEOUT_S
            ) as answer:
                return json.load(answer)["data"]
        except (ConnectionError, urllib.error.URLError):
            return None

    def values(self, query: str) -> list[tuple[dict[str, str], float]]:
        """(labels, value) of each series that a query finds now; what is not a number is left out."""
        found = self.ask("query", query=query) or {"result": []}
        values = [(each["metric"], float(each["value"][1])) for each in found["result"]]
        return [each for each in values if not math.isnan(each[1])]

    def firing(self) -> dict[str, dict[str, Any]]:
        """Alerts that fire, by name."""
        found = (self.ask("alerts") or {"alerts": []})["alerts"]
        return {each["labels"]["alertname"]: each for each in found if each["state"] == "firing"}


def hurried(rules: str) -> str:
    """The rules with seconds in place of minutes: the same expressions, sooner."""
    rules = re.sub(r"^(\s+for: )\d+m$", r"\g<1>1s", rules, flags=re.MULTILINE)
    return re.sub(r"\[\d+[mh]\]", "[15s]", rules)


@contextmanager
def prometheus(folder: Path, port: int, scraped: int) -> Iterator[PrometheusServer]:
    """Runs until the block ends; ``scraped``: the worker's port."""
    (folder / "rules.yaml").write_text(hurried(RULES_FILE.read_text()))
    settings = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{scraped}"], "labels": labels}]}
            for job, labels in JOBS.items()
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    command = [
        str(program("prometheus")), f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    log = folder / "prometheus.log"
    with log.open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            yield PrometheusServer(port)
        except BaseException:
            print(f"--- {log.name}\n{log.read_text()[-4000:]}")
            raise
        finally:
            process.terminate()
            process.wait(END_TIMEOUT_S)
