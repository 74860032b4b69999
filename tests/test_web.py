"""Metrics and probes: requests in, status and lines out."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from worker.errors import WorkerError
from worker.records import Partition
from worker.web.metrics import Metrics
from worker.web.server import ProbeServer
from worker.web.status import LIVE_LIMIT_S, WorkerStatus

UNITS = re.compile(r"_(seconds|bytes|total|info|records|events|offset|partitions|active|state)$")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def status(clock: Clock) -> WorkerStatus:
    return WorkerStatus(clock)


@pytest.fixture
def server(status: WorkerStatus) -> Iterator[ProbeServer]:
    server = ProbeServer("127.0.0.1", 0, Metrics(), status)
    yield server
    server.close()


def get(server: ProbeServer, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_ready_once_nothing_is_missing(server: ProbeServer, status: WorkerStatus) -> None:
    answers = [get(server, "/readyz")]
    status.set("model", None)
    status.set("states", "2 of 3 partitions\nrestored")
    answers.append(get(server, "/readyz"))
    status.set("kafka", None)
    status.set("states", None)
    answers.append(get(server, "/readyz"))
    status.set("kafka", "not connected")
    answers.append(get(server, "/readyz?verbose"))
    assert answers == [
        (503, "kafka: not connected\nmodel: not loaded\n"),
        (503, "kafka: not connected\nstates: 2 of 3 partitions restored\n"),
        (200, "ready\n"),
        (503, "kafka: not connected\n"),
    ]


def test_alive_while_the_loop_turns(server: ProbeServer, status: WorkerStatus, clock: Clock) -> None:
    answers = []
    for elapsed_s, turned in ((LIVE_LIMIT_S, False), (1, False), (0, True), (LIVE_LIMIT_S + 2, False)):
        clock.now += elapsed_s
        if turned:
            status.turned(clock.now)
        answers.append(get(server, "/livez"))
    assert answers == [
        (200, "alive\n"),
        (503, "loop: no turn for 301 s (limit 300 s)\n"),
        (200, "alive\n"),
        (503, "loop: no turn for 302 s (limit 300 s)\n"),
    ]


def test_pages(server: ProbeServer) -> None:
    status, page = get(server, "/")
    assert (status, re.findall(r'href="([^"]+)"', page)) == (200, ["/metrics", "/livez", "/readyz"])
    assert get(server, "/etc/passwd")[0] == 404
    assert get(server, "/livez", "HEAD") == (200, "")
    assert get(server, "/livez", "POST")[0] == 501
    assert "rnnw_build_info" in get(server, "/metrics")[1]
    assert get(server, "/metrics", Accept="application/openmetrics-text")[1].endswith("# EOF\n")


def test_a_port_that_is_taken_is_refused_in_one_line(server: ProbeServer, status: WorkerStatus) -> None:
    for host, port in (("127.0.0.1", server.port), ("no.such.host.invalid", 0)):
        with pytest.raises(WorkerError) as caught:
            ProbeServer(host, port, Metrics(), status)
        assert str(caught.value).startswith(f"http.port: can't listen on {host}:{port}: ")
        assert "\n" not in str(caught.value)


def test_the_port_is_free_after_close_and_closing_twice_is_safe(status: WorkerStatus) -> None:
    server = ProbeServer("127.0.0.1", 0, Metrics(), status)
    port = server.port
    get(server, "/livez")
    server.close()
    server.close()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))


def everything_set() -> Metrics:
    """Each metric with one value, whatever its labels."""
    metrics = Metrics()
    for value in vars(metrics).values():
        if hasattr(value, "_labelnames") and value._labelnames:
            value.labels(*(f"some-{name}" for name in value._labelnames))
    metrics.set_build("0.1.0", "4f1c9a2b7d10", "2.21.0", "kafka-python 3.0.12")
    return metrics


def test_every_metric_has_a_help_text_a_unit_and_few_labels() -> None:
    metrics = everything_set()
    families = list(text_string_to_metric_families(metrics.exposition("")[1].decode()))
    ours = [family for family in families if family.name.startswith("rnnw_")]
    assert len(ours) == sum(hasattr(value, "_labelnames") for value in vars(metrics).values())
    for family in ours:
        names = {f"{family.name}_total"} if family.type == "counter" else {family.name}
        assert [name for name in names if not UNITS.search(name)] == []
        assert len(family.documentation) > 10
        assert family.documentation.endswith(".")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        known = {"topic", "partition", "reason", "error", "result", "type", "state"}
        assert labels <= known | {"version", "model", "tensorflow", "client"}
        if "partition" in labels:
            assert (family.type, labels) == ("gauge", {"topic", "partition"})
    assert [sample.name for family in ours for sample in family.samples if sample.name.endswith("_created")] == []


def test_metrics_of_a_partition_go_with_it() -> None:
    metrics, gone, stays = Metrics(), Partition("readings", 1), Partition("readings", 12)
    for partition in (gone, stays):
        for gauge in (metrics.lag_records, metrics.position_offset, metrics.streams_active, metrics.checkpoint_success):
            metrics.of(gauge, partition).set(7)
    metrics.drop_partition(gone)
    metrics.drop_partition(gone)
    text = metrics.exposition("")[1].decode()
    assert text.count('{partition="12",topic="readings"} 7.0') == 4
    assert 'partition="1"' not in text


def test_counters_with_known_labels_begin_at_zero() -> None:
    text = Metrics().exposition("")[1].decode()
    wanted = [
        'rnnw_checkpoint_total{result="failed"} 0.0',
        'rnnw_commits_total{result="ok"} 0.0',
        'rnnw_rebalances_total{type="lost"} 0.0',
        'rnnw_sequences_started_total{reason="gap"} 0.0',
        'rnnw_streams_evicted_total{reason="idle"} 0.0',
        'rnnw_worker_state{state="starting"} 1.0',
    ]
    assert [line for line in wanted if line not in text] == []
    assert 'reason="none"' not in text


def test_two_workers_in_one_process_have_their_own_metrics() -> None:
    first, second = Metrics(), Metrics()
    first.events_processed.inc(5)
    first.set_worker_state("running")
    texts = [metrics.exposition("")[1].decode() for metrics in (first, second)]
    assert ["rnnw_events_processed_total 5.0" in text for text in texts] == [True, False]
    assert ['state="running"} 1.0' in text for text in texts] == [True, False]
