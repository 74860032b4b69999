"""What an operator sees: which alerts of a group are pending or fire, since when, and which panels show it."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field

from deploy.grafana.generate import FILE
from tests.deploy.prometheus_server import PrometheusServer

LOOK_S = 1.0
TIMES = 3  # a panel shows a fault when its greatest value is three times what it was, or a third of it


def queries(group: str, window: str) -> dict[str, str]:
    """Panel and legend → PromQL, with this group chosen."""
    chosen = {"namespace": ".*", "pod": ".*", "topic": ".*", "group": group, "__rate_interval": window}
    found = {}
    for panel in json.loads(FILE.read_text())["panels"]:
        for target in panel.get("targets", ()):
            query = re.sub(r"\$(\w+)", lambda name: chosen[name[1]], target["expr"])
            found[f"{panel['title']} {target['legendFormat'].replace('__auto', '')}".strip()] = query
    return found


def greatest(server: PrometheusServer, group: str, window: str) -> dict[str, float]:
    """The greatest value of each query of the dashboard that has data."""
    found = {}
    for name, query in queries(group, window).items():
        if values := [value for _, value in server.values(query)]:
            found[name] = max(values)
    return found


def changed(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """Queries that show it: with what they showed before, and now."""
    told = []
    for name in sorted(before | after):
        old, new = before.get(name), after.get(name)
        if old is None or new is None or not (abs(old) <= TIMES * abs(new) + 1e-9 and abs(new) <= TIMES * abs(old)):
            told.append(f"{name}: {_number(old)} → {_number(new)}")
    return told


def _number(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.4g}"


@dataclass
class Watch:
    """Follows the alerts of all groups. ``seen``: (group, alert) → state → when it was first seen in that state."""

    server: PrometheusServer
    seen: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    texts: dict[tuple[str, str], str] = field(default_factory=dict)
    _now: dict[tuple[str, str], str] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._follow, daemon=True).start()

    def firing(self, group: str) -> set[str]:
        return {name for (job, name), state in self._now.items() if job == group and state == "firing"}

    def of(self, group: str) -> dict[str, dict[str, float]]:
        """Alert → state → time, of a group."""
        return {name: states for (job, name), states in self.seen.items() if job == group}

    def close(self) -> None:
        self._stop.set()

    def _follow(self) -> None:
        while not self._stop.wait(LOOK_S):
            answer = self.server.ask("alerts")
            if answer is None:
                continue
            now: dict[tuple[str, str], str] = {}
            for each in answer["alerts"]:
                key = (each["labels"].get("job", "").removeprefix("rnn-stream-worker-"), each["labels"]["alertname"])
                now[key] = "firing" if "firing" in (each["state"], now.get(key)) else each["state"]
                self.texts[key] = each["annotations"]["summary"]
            for key, state in now.items():
                if self._now.get(key) != state:
                    self.seen.setdefault(key, {})[state] = time.time()
            for key in self._now.keys() - now.keys():
                self.seen[key]["gone"] = time.time()
            self._now = now
