"""``worker run`` beside a collector of OpenTelemetry: traces go through, and turns, metrics and lines arrive."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.collector import attributes, running_collector
from tests.conftest import NewTopic, eventually
from tests.running import WAIT_S, Reader, worker
from tests.sequences import configuration, make_log, save_model
from worker.kafka.embedded.local_ports import free_port
from worker.kafka.opening import open_sink
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages
from worker.records.record_batch import Headers

EVENTS, STREAMS = 60, 5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("model") / "model.keras"
    save_model(file)
    return file


SITE = [("site", b"A"), ("site", b"")]


def trace(number: int) -> list[tuple[str, bytes | None]]:
    parent = b"00-%032x-%016x-01" % (number + 1, number + 1)
    return [("traceparent", parent), ("tracestate", b"test=%d" % number)]


def carried(outputs: Reader) -> dict[str, Headers]:
    """The trace headers by trace id, of everything written."""
    headers = [list(some or ()) for batch in outputs.batches for some in batch.headers]
    assert all(some[: len(SITE)] == SITE for some in headers)
    traces = [some[len(SITE) :] for some in headers if len(some) > len(SITE)]
    return {(dict(some)["traceparent"] or b"")[3:35].decode(): some for some in traces}


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_a_trace_goes_through_and_the_collector_gets_everything(
    tmp_path: Path, model: Path, topic: NewTopic, bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch, client: Any
) -> None:
    topics = topic(2, "readings"), topic(2, "probabilities"), topic(1, "dead")
    settings = configuration(tmp_path, bootstrap_servers, client, topics)
    settings["model"]["path"], settings["http"]["port"] = str(model), free_port()
    settings["log"] = {"format": "json"}
    settings["output"]["headers"] = ["site"]
    (tmp_path / "worker.yaml").write_text(yaml.safe_dump(settings))
    log = make_log(EVENTS, STREAMS)
    headers = [[*SITE, *(trace(number) if number % 2 else ()), ("other", b"1")] for number in range(EVENTS)]
    sink = open_sink(ClientSettings(bootstrap_servers, client))
    sink.send(topics[0], Messages(log.keys, log.values, headers))
    sink.send(topics[0], Messages([b"bad"], [b"{"], [trace(EVENTS)]))
    sink.flush(120)
    sink.close(30)
    outputs, dead = Reader(bootstrap_servers, topics[1]), Reader(bootstrap_servers, topics[2])
    with running_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "scorer")
        with worker(tmp_path, "worker") as process:
            eventually(lambda: (outputs.count() >= EVENTS and dead.count() >= 1) or process.poll() is not None, WAIT_S)
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0
        spans = collector.spans()
        consumed = collector.metrics()["rnnw_records_consumed"].sum.data_points
        said = [line.body.string_value for line in collector.lines()]
        services = {resource["service.name"] for resource in collector.resources()}
    assert carried(outputs) == {f"{number + 1:032x}": trace(number) for number in range(EVENTS) if number % 2}
    assert sum(map(len, outputs.batches)) == EVENTS
    assert carried_by_the_dead_letter(dead) == trace(EVENTS)
    outputs.close()
    dead.close()
    linked = {link.trace_id.hex() for span in spans for link in span.links}
    assert linked
    assert linked <= {f"{number + 1:032x}" for number in range(EVENTS + 1)}
    assert {span.name for span in spans} == {f"process {topics[0]}"}
    assert [(point.as_double, attributes(point)["topic"]) for point in consumed] == [(EVENTS + 1, topics[0])]
    assert services == {"scorer"}
    written = [json.loads(line) for line in (tmp_path / "worker.log").read_text().splitlines()]
    assert [line["message"] for line in written if line["message"] in said]
    (refused,) = [line for line in written if line.get("error") == "not_json"]
    assert (refused["trace_id"], refused["key"]) == (f"{EVENTS + 1:032x}", "bad")
    assert "stopped in order" in said


def carried_by_the_dead_letter(dead: Reader) -> Headers:
    ((letter,),) = [batch.headers for batch in dead.batches if len(batch)]
    return [(name, content) for name, content in letter or () if name.startswith("trace")]
