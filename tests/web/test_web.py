"""Metrics and probes: requests in, status and lines out."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.said import said
from worker.errors import WorkerError
from worker.records.ownership import Partition
from worker.web.catalogue import CATALOGUE
from worker.web.connections import MAX_CONNECTIONS
from worker.web.metrics import Metrics
from worker.web.predictions import BUCKETS, ModelFigures
from worker.web.requests import metrics_format
from worker.web.server import ProbeServer
from worker.web.status import LIVE_LIMIT_S, WorkerStatus

UNITS = re.compile(
    r"_(seconds|bytes|total|info|records|events|offset|partitions|active|state|messages|ratio|error|ready|value|norm"
    r"|mean|spread)$"
)


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


@pytest.fixture(scope="module")
def one_for_all() -> Iterator[ProbeServer]:
    server = ProbeServer("127.0.0.1", 0, Metrics(), WorkerStatus(Clock()))
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
    assert get(server, "http://somewhere/livez?verbose") == (200, "alive\n")
    assert "rnnw_build_info" in get(server, "/metrics")[1]
    assert get(server, "/metrics", Accept="application/openmetrics-text")[1].endswith("# EOF\n")


def test_a_port_that_is_taken_is_refused_in_one_line(server: ProbeServer, status: WorkerStatus) -> None:
    for host, port in (("127.0.0.1", server.port), ("no.such.host.invalid", 0), ("\xe9" * 70, 0)):
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


def exchange(server: ProbeServer, sent: bytes) -> bytes:
    """What comes back for these bytes, until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.sendall(sent)
        return received(connection)


def received(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /livez HTTP/1.0\n\n", 200),
        (b"\r\n\r\nGET /livez HTTP/1.1\r\n\r\n", 200),
        (b"GET http://worker:9100/livez HTTP/1.1\r\n\r\n", 200),
        (b"GET /livez HTTP/1.1\r\n\r\nGET /nowhere HTTP/1.1\r\n\r\n", 200),  # pipelined: the first, then the end
        (b"GET /nowhere HTTP/1.1\r\n\r\n", 404),
        (b"POST /nowhere HTTP/1.1\r\n\r\n", 404),
        (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
        (b"GET ftp://x/ HTTP/1.1\r\n\r\n", 400),
        (b"GET livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xe9 HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez\r\n", 400),  # HTTP/0.9, answered without waiting for more
        (b"GET /livez now HTTP/1.1\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n", 400),  # TLS to a plain port
        (b"G(T /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nno header\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nA: \x00\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nA: \xff\r\n\r\n", 200),
        (b"GET /livez HTTP/2.0\r\n\r\n", 505),
        (b"BREW /livez HTTP/1.1\r\n\r\n", 501),
        (b"get /livez HTTP/1.1\r\n\r\n", 501),
        *((b"%s /livez HTTP/1.1\r\n\r\n" % method, 405) for method in (b"POST", b"PUT", b"DELETE", b"TRACE")),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", 405),
        (b"CONNECT worker:443 HTTP/1.1\r\n\r\n", 405),
        (b"POST /livez HTTP/1.1\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000, 405),
        (b"GET /livez HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nA: " + b"b" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 20_000, 414),
    ],
)
def test_every_request_has_its_status(
    one_for_all: ProbeServer, caplog: pytest.LogCaptureFixture, sent: bytes, wanted: int
) -> None:
    answer = exchange(one_for_all, sent)
    assert answer.startswith(b"HTTP/1.1 %d " % wanted)
    assert (b"\r\nAllow: GET, HEAD\r\n" in answer) == (wanted == 405)
    assert len(re.findall(rb"^HTTP/1.1 ", answer, re.MULTILINE)) == 1
    assert said(caplog) == []


def test_a_head_request_has_no_body(server: ProbeServer) -> None:
    for path in ("/metrics", "/nowhere"):
        head, _, body = exchange(server, f"HEAD {path} HTTP/1.1\r\n\r\n".encode()).partition(b"\r\n\r\n")
        assert (body, int(head.partition(b"Content-Length: ")[2].split()[0]) > 0) == (b"", True)


def test_a_request_that_ends_early_is_told_so_and_silence_is_not_answered(server: ProbeServer) -> None:
    answers = []
    for sent in (b"GET /livez HTTP/1.1\r\nA: ", b""):
        with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            answers.append(received(connection).split(b"\r\n")[0])
    assert answers == [b"HTTP/1.1 400 Bad Request", b""]


TEXT_1 = "text/plain; version=1.0.0"
OPEN = "application/openmetrics-text"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", ""),
        ("*/*", ""),
        ("image/png", ""),
        (OPEN, OPEN),
        (f"{OPEN};version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.7", ""),
        (f"{OPEN};version=1.0.0;q=0.75,{OPEN};version=0.0.1;q=0.5,*/*;q=0.1", f"{OPEN}; version=1.0.0"),
        (f"{OPEN};version=1.0.0;escaping=allow-utf-8", f"{OPEN}; version=1.0.0; escaping=allow-utf-8"),
        ("text/plain;version=1.0.0;escaping=underscores", f"{TEXT_1}; escaping=underscores"),
        ("Text/Plain ; Version=1.0.0", TEXT_1),
        (f"{OPEN};q=0", ""),
        (f"{OPEN};q=often", ""),
        (f"{OPEN}; version=zzz", ""),
        (f"{OPEN};version=9.9.9", ""),
        (f"{OPEN};version=;q=1.0", OPEN),
        (f'{OPEN};version="1.0.0"', f"{OPEN}; version=1.0.0"),
        ("text/plain;version=1.0.0;escaping=\xff", TEXT_1),
        (";;,,=;q=;" * 100, ""),
    ],
)
def test_the_format_of_metrics_is_what_accept_wants_most(accept: str, wanted: str) -> None:
    assert metrics_format(accept) == wanted
    content_type, body = Metrics().exposition(metrics_format(accept))
    assert content_type.startswith(OPEN if OPEN in wanted else "text/plain")
    assert b"rnnw_events_processed" in body


def test_all_accept_headers_count_whatever_their_bytes(server: ProbeServer) -> None:
    asked = b"GET /metrics HTTP/1.1\r\nAccept: \xff\xfe;q=1\r\naccept: " + OPEN.encode() + b"\r\n\r\n"
    assert exchange(server, asked).endswith(b"# EOF\n")


def answering_threads() -> int:
    return sum(thread.name == "http-answer" for thread in threading.enumerate())


def test_silent_and_dripping_connections_leave_room_for_probes(server: ProbeServer) -> None:
    held, threads = [], []
    try:
        for number in range(500):
            held.append(socket.create_connection(("127.0.0.1", server.port), 60))
            if number % 2:
                held[-1].sendall(b"GET /livez HT")
            threads.append(answering_threads())
        assert max(threads) <= 2 * MAX_CONNECTIONS  # one that has made room takes a moment to end
        assert get(server, "/livez") == (200, "alive\n")
        assert get(server, "/readyz")[0] == 503
        assert "rnnw_build_info" in get(server, "/metrics")[1]
        assert received(held[0]) == b""
    finally:
        for connection in held:
            connection.close()


def test_a_request_that_drips_is_ended(server: ProbeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.web.server.REQUEST_TIMEOUT_S", 0.3)
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.setblocking(False)
        answer, deadline = b"", time.monotonic() + 60
        while not answer and time.monotonic() < deadline:
            with suppress(BlockingIOError):
                connection.send(b"G")
            with suppress(BlockingIOError):
                answer = connection.recv(4096)
    assert answer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 414 "))


def test_close_ends_what_is_open(status: WorkerStatus) -> None:
    server = ProbeServer("127.0.0.1", 0, Metrics(), status)
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        get(server, "/livez")  # so that the first one is accepted
        server.close()
        assert received(connection) == b""


def everything_set() -> Metrics:
    """Each metric with one value, whatever its labels."""
    metrics = Metrics()
    for value in vars(metrics).values():
        if hasattr(value, "_labelnames") and value._labelnames:
            value.labels(*(f"some-{name}" for name in value._labelnames))
    labels = ("version", "model", "group", "client", "keras", "tensorflow", "cpu")
    metrics.set_build(**{name: f"some-{name}" for name in labels})
    metrics.form.info({"form": "some-form"})
    one = {"some": 1.0}
    figures = ModelFigures({"some": [1] * len(BUCKETS)}, 1.0, one, one, one, one)
    metrics.predictions.source = lambda: figures
    return metrics


def test_every_metric_has_a_help_text_a_unit_and_few_labels() -> None:
    metrics = everything_set()
    families = list(text_string_to_metric_families(metrics.exposition("")[1].decode()))
    ours = [family for family in families if family.name.startswith("rnnw_")]
    assert len(ours) == len(CATALOGUE)
    assert [family.name for family in ours if not family.samples] == []
    for family in ours:
        names = {f"{family.name}_total"} if family.type == "counter" else {family.name}
        assert [name for name in names if not UNITS.search(name)] == []
        assert len(family.documentation) > 10
        assert family.documentation.endswith(".")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        known = {"topic", "partition", "reason", "error", "result", "type", "state", "kind", "broker"}
        known |= {"unit", "layer", "feature", "form"}  # at most 32 of each
        assert labels <= known | {"version", "model", "group", "client", "keras", "tensorflow", "cpu"}
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


def test_a_scrape_says_what_the_probes_say(server: ProbeServer, status: WorkerStatus, clock: Clock) -> None:
    def scraped(name: str) -> float:
        (line,) = [line for line in get(server, "/metrics")[1].splitlines() if line.startswith(f"rnnw_{name} ")]
        return float(line.split()[1])

    assert (get(server, "/readyz")[0], scraped("ready")) == (503, 0)
    for name in ("model", "kafka"):
        status.set(name, None)
    assert (get(server, "/readyz")[0], scraped("ready")) == (200, 1)
    status.turned(clock.now)
    assert scraped("last_turn_timestamp_seconds") == pytest.approx(time.time(), abs=60)
    clock.now += 500
    assert scraped("last_turn_timestamp_seconds") == pytest.approx(time.time() - 500, abs=60)


def test_two_workers_in_one_process_have_their_own_metrics() -> None:
    first, second = Metrics(), Metrics()
    first.events_processed.inc(5)
    first.set_worker_state("running")
    texts = [metrics.exposition("")[1].decode() for metrics in (first, second)]
    assert ["rnnw_events_processed_total 5.0" in text for text in texts] == [True, False]
    assert ['state="running"} 1.0' in text for text in texts] == [True, False]
