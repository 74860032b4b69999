"""A real Prometheus against a running worker: every query of the dashboard finds data, and alerts fire."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from deploy.grafana.generate import FILE
from tests.conftest import NewTopic, eventually
from tests.deploy.prometheus_package import NoPrometheusError, can_fetch, program
from tests.deploy.prometheus_server import POD, PrometheusServer, prometheus
from tests.deploy.rules import alerts, rules
from tests.forked import WorkerProcess
from tests.running import WAIT_S, worker
from tests.sequences import FEATURES, Log, configuration, make_log, save_model
from worker.kafka.contracts import Sink
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.embedded.local_ports import free_port
from worker.kafka.opening import open_sink
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages

PARTITIONS, EVENTS, STREAMS = 4, 4_000, 20
AT_ONCE = 40  # events, between two looks
BAD = b"no json"
DRIFTED = b'{"ax": 50.0, "ay": 0.1, "az": 0.1, "time": 1700000000000, "id": "s0"}'
EXPECTED = {"version": 1, "features": {name: {"low": -5.0, "high": 5.0} for name in FEATURES}}
WINDOW = "30s"

# Queries that can have no data in this test: panel, legend → why.
WITHOUT_DATA = {
    ("Firing alerts", ""): "nothing is wrong",
    ("Writing and restoring", "restore"): "a first start restores nothing",
    ("Unfinished records", "{{topic}}"): "only tasks that generate have some",
    ("Left to replay", "{{topic}}"): "a first start replays nothing",
}


@dataclass(slots=True)
class Running:
    """A worker that is fed, and the Prometheus that watches it."""

    folder: Path
    sink: Sink
    topic: str
    server: PrometheusServer
    process: WorkerProcess
    log: Log = field(default_factory=lambda: make_log(EVENTS, STREAMS))
    sent: int = 0

    def feed(self, bad: int = 0) -> None:
        """Send some events more, and records that are none: one of 200 at least."""
        bad = bad or int(self.sent % (5 * AT_ONCE) == 0)
        part = slice(self.sent % EVENTS, self.sent % EVENTS + AT_ONCE)
        self.send(self.log.keys[part] + [b"device-000"] * bad, self.log.values[part] + [BAD] * bad)
        self.sent += AT_ONCE

    def send(self, keys: list[bytes], values: list[bytes]) -> None:
        self.sink.send(self.topic, Messages(keys, values))
        self.sink.flush(120)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, topic: NewTopic, bootstrap_servers: str) -> Iterator[Running]:
    try:
        program("prometheus")
    except NoPrometheusError as error:
        if can_fetch():
            raise
        pytest.skip(str(error))
    folder: Path = tmp_path_factory.mktemp("watched")
    topics = (topic(PARTITIONS, "readings"), topic(PARTITIONS, "probabilities"), topic(1, "dead"))
    settings = configuration(folder, bootstrap_servers, "confluent", topics)
    settings["http"]["port"] = free_port()
    settings["model"]["expect"] = str(folder / "expected.json")
    settings["shadow"] = {"path": str(folder / "model.keras"), "topic": topic(PARTITIONS, "shadow")}
    (folder / "expected.json").write_text(json.dumps(EXPECTED))
    (folder / "worker.yaml").write_text(yaml.safe_dump(settings))
    save_model(folder / "model.keras")
    sink = open_sink(ClientSettings(bootstrap_servers, "confluent"))
    with (
        worker(folder, "worker") as process,
        prometheus(folder, free_port(settings["http"]["port"]), settings["http"]["port"]) as server,
    ):
        yield Running(folder, sink, topics[0], server, process)
    sink.close(30)


def queries(**chosen: str) -> dict[tuple[str, str], str]:
    """(panel, legend) → PromQL, with everything chosen but what is named."""
    everything = dict.fromkeys(("namespace", "pod", "topic", "group"), ".*")
    chosen = {**everything, "__rate_interval": WINDOW, **chosen}
    found = {}
    for panel in json.loads(FILE.read_text())["panels"]:
        for target in panel.get("targets", ()):
            query = re.sub(r"\$(\w+)", lambda name: chosen[name[1]], target["expr"])
            found[panel["title"], target["legendFormat"].replace("__auto", "")] = query
    return found


def test_every_query_of_the_dashboard_has_data(running: Running) -> None:
    asked = queries()
    assert set(WITHOUT_DATA) <= set(asked)
    missing = set(asked)

    def all_found() -> bool:
        running.feed()
        missing.difference_update({name for name in missing if running.server.values(asked[name])})
        return missing <= set(WITHOUT_DATA)

    try:
        eventually(all_found, WAIT_S)
    finally:
        print("without data:", sorted(missing))
    assert running.process.poll() is None


def test_a_worker_that_is_well_sets_off_no_alert(running: Running) -> None:
    """None that asks somebody to look. Late events are told as information, for the test sends the same ones again and
    again, and so are outputs of the second model that a slow machine has dropped, for half an hour.
    """
    seen: dict[str, object] = {}

    def quiet() -> bool:
        running.feed()
        firing = running.server.firing()
        seen.update(ready=running.server.values("rnnw_ready"), firing=firing)
        told = {each["labels"]["severity"] for each in firing.values()}
        return bool(running.server.values("rnnw_ready == 1")) and told <= {"info"}

    try:
        eventually(quiet, WAIT_S)
    finally:
        print("seen:", seen)


@pytest.mark.parametrize("name", ["namespace", "pod", "topic", "group"])
def test_what_is_chosen_is_shown_and_nothing_else(name: str, running: Running) -> None:
    ours = queries(**{name: {**POD, "topic": running.topic, "group": f"group-{running.topic}"}[name]})
    others = queries(**{name: "another"})
    panel = ("Records in", "{{topic}}")

    def shown() -> bool:
        running.feed()
        return bool(running.server.values(ours[panel])) and not running.server.values(others[panel])

    eventually(shown)
    limited = [query for query in others.values() if "ALERTS" not in query]
    if name == "topic":  # not every metric has one
        limited = [query for query in limited if 'topic=~"another"' in query]
    assert [query for query in limited if running.server.values(query)] == []


def test_prometheus_takes_every_rule(running: Running) -> None:
    def evaluated() -> list[dict[str, str]]:
        groups = (running.server.ask("rules") or {"groups": []})["groups"]
        found = [rule for group in groups for rule in group["rules"]]
        return found if found and all(rule["health"] != "unknown" for rule in found) else []

    found = eventually(evaluated)
    assert [rule.get("lastError", "") for rule in found if rule["health"] != "ok"] == []
    assert len(found) == len(rules())


# With seconds in place of minutes. The worker is not well again after each of these, and dies in the last one.


def test_records_that_cant_be_used_are_told(running: Running) -> None:
    def refused() -> bool:
        running.feed(bad=AT_ONCE)
        return "RnnwRecordsRefused" in running.server.firing()

    eventually(refused, WAIT_S)


def test_a_sensor_that_drifts_is_told(running: Running) -> None:
    def outside() -> bool:
        running.send([b"device-000"] * AT_ONCE, [DRIFTED] * AT_ONCE)
        return "RnnwFeatureOutside" in running.server.firing()

    eventually(outside, WAIT_S)
    assert "values of ax are outside" in running.server.firing()["RnnwFeatureOutside"]["annotations"]["summary"]


def test_a_cluster_that_is_away_is_told(running: Running, embedded_kafka: EmbeddedKafka) -> None:
    embedded_kafka.pause()
    try:
        eventually(lambda: "RnnwClientErrors" in running.server.firing(), WAIT_S)
        assert running.server.values("up") != [], "no reason to restart a worker"
        assert "RnnwDown" not in running.server.firing()
    finally:
        embedded_kafka.resume()
    eventually(lambda: "RnnwClientErrors" not in running.server.firing(), WAIT_S)


def test_a_store_that_is_gone_is_told(running: Running) -> None:
    (running.folder / "state").rename(running.folder / "state-before")
    (running.folder / "state").touch()  # a file where the folder was

    def failing() -> bool:
        running.feed()
        return "RnnwCheckpointsFailing" in running.server.firing()

    eventually(failing, WAIT_S)


def test_a_worker_that_dies_is_told(running: Running) -> None:
    running.process.kill()
    eventually(lambda: "RnnwDown" in running.server.firing(), WAIT_S)
    down = running.server.firing()["RnnwDown"]
    assert down["annotations"]["runbook_url"] == alerts()["RnnwDown"]["annotations"]["runbook_url"]
    assert re.fullmatch(r"worker (scores-0|127\.0\.0\.1:\d+) does not answer", down["annotations"]["summary"])
