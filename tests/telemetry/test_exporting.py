"""What reaches a collector by OTLP, and that nothing waits for one that is away."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import TraceFlags

from tests.collector import Collector, attributes, running_collector
from tests.conftest import eventually
from tests.one_member import COMMIT_S, IN, Cluster, Member
from worker.errors import WorkerError
from worker.records.log_fields import FIELDS, about
from worker.records.ownership import Partition
from worker.telemetry.exporting import Telemetry
from worker.telemetry.identity import Identity
from worker.telemetry.log_handler import ATTRIBUTES
from worker.telemetry.opening import open_telemetry

IDENTITY = Identity("group", "one", "1.2")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def opened(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, registry: Any) -> Telemetry:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    telemetry = open_telemetry(environ, registry, IDENTITY)
    assert telemetry is not None
    return telemetry


def test_turns_metrics_and_lines_of_a_worker_arrive(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace: Any = [("traceparent", b"00-%032x-%016x-01" % (0xABC, 0xDEF))]
    cluster = Cluster(tmp_path, [(0, b"a", 1, 0, trace), (0, b"bad", b"{", 0, trace), (0, b"a", 2)])
    member = Member(cluster)
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "100"}
    telemetry = opened(environ, monkeypatch, member.metrics.registry)
    assert telemetry.spans is not None
    member.worker.reporter.traced = telemetry.spans.turned
    member.drain()
    eventually(lambda: "rnnw_records_consumed" in collector.metrics())
    member.close()
    telemetry.close()
    (span,) = collector.spans()
    assert (span.name, span.links[0].trace_id.hex(), len(span.links)) == (f"process {IN}", f"{0xABC:032x}", 1)
    (consumed,) = collector.metrics()["rnnw_records_consumed"].sum.data_points
    assert (consumed.as_double, attributes(consumed)) == (3.0, {"topic": IN})
    (refused,) = [line for line in collector.lines() if "record refused" in line.body.string_value]
    assert (refused.severity_text, refused.trace_id.hex(), refused.span_id.hex()) == (
        "WARN", f"{0xABC:032x}", f"{0xDEF:016x}",
    )  # fmt: skip
    assert attributes(refused) == {
        "messaging.destination.name": IN,
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 1,
        "messaging.kafka.message.key": "bad",
        "error.type": "not_json",
        "rnnw.logger": "worker.loop",
    }
    wanted = {"service.name": "rnn-stream-worker", "service.version": "1.2", "service.instance.id": "one"}
    for resource in collector.resources():
        assert wanted.items() <= resource.items()
        assert resource["messaging.consumer.group.name"] == "group"


def test_the_variables_name_the_service(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{collector.endpoint}/v1/logs",
        "OTEL_SERVICE_NAME": "scorer",
        "OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=pod-7,deployment.environment.name=test",
    }
    telemetry = opened(environ, monkeypatch, None)
    assert telemetry.spans is None
    logging.getLogger("worker.loop").warning("a line", extra=about(Partition("in", 3), 0, stream="s"))
    telemetry.close()
    telemetry.close()
    (resource,) = {tuple(sorted(each.items())): each for each in collector.resources()}.values()
    assert resource["service.name"] == "scorer"
    assert resource["service.instance.id"] == "pod-7"
    assert resource["deployment.environment.name"] == "test"
    said = [line.body.string_value for line in collector.lines()]
    assert said == ["opentelemetry: exporting logs", "a line"]
    assert attributes(collector.lines()[1])["rnnw.stream"] == "s"


def test_tracebacks_and_the_last_line_of_a_worker_arrive_but_no_line_of_the_export(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry = opened({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{collector.endpoint}/v1/logs"}, monkeypatch, None)
    try:
        raise ValueError("a bug")
    except ValueError:
        logging.getLogger("worker.web").exception("a request was not answered")
    logging.getLogger("opentelemetry.exporter").warning("the collector is away")
    logging.getLogger("urllib3").warning("so it is")
    telemetry.ends(WorkerError("nobody may write to topic 'x'"))
    telemetry.close()
    _, bug, last = collector.lines()
    told = attributes(bug)
    assert (bug.severity_text, told["exception.type"], told["exception.message"]) == ("ERROR", "ValueError", "a bug")
    assert told["exception.stacktrace"].startswith("Traceback (most recent call last):")
    assert (last.severity_text, last.body.string_value) == ("FATAL", "nobody may write to topic 'x'")
    assert attributes(last)["error.type"] == "WorkerError"


def test_every_field_of_a_line_has_a_name_there() -> None:
    assert {*ATTRIBUTES, "trace_id", "span_id"} == set(FIELDS)
    assert TraceFlags.SAMPLED == 1


def test_a_collector_that_is_away_holds_up_nobody_and_the_log_says_so(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """It answers that it can't: so the exporters try again, with growing pauses."""
    collector.status = 503
    member = Member(Cluster(tmp_path, [(0, b"a", 1)]))
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "100"}
    telemetry = opened(environ, monkeypatch, member.metrics.registry)
    assert telemetry.spans is not None
    member.worker.reporter.traced = telemetry.spans.turned
    member.drain()
    member.turn(after_s=COMMIT_S)
    eventually(lambda: collector.asked > 0)
    member.close()
    assert member.cluster.committed() == 1
    telemetry.close(timeout_s=0.5)
    assert "opentelemetry: the collector has not taken all within 0.5 s; the rest is dropped" in caplog.messages
    assert collector.lines() == []
    logging.getLogger("opentelemetry").setLevel(logging.NOTSET)
