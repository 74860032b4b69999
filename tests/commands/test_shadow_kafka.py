"""A candidate on real Kafka: it says what it would say alone, over a restart too, and the first model is as ever."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import NewTopic, eventually
from tests.running import WAIT_S, Reader, check_outputs, get, identities, send, worker
from tests.sequences import configuration, make_log, save_model
from worker.kafka.embedded.local_ports import free_port

PARTITIONS = 3
EVENTS, STREAMS = 400, 15


def metrics(port: int) -> dict[str, float]:
    """Sums over labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(get(port, "/metrics")[1]):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


@pytest.mark.parametrize(("client", "delivery"), [("kafka-python", "at_least_once"), ("confluent", "exactly_once")])
def test_a_candidate_says_what_it_would_say_alone(
    tmp_path: Path, bootstrap_servers: str, topic: NewTopic, client: str, delivery: str
) -> None:
    models = save_model(tmp_path / "model.keras"), save_model(tmp_path / "candidate.keras", 0.8)
    topics = topic(PARTITIONS, "readings"), topic(PARTITIONS, "probabilities"), topic(1, "dead")
    candidate, port = topic(PARTITIONS, "candidate"), free_port()
    settings = configuration(tmp_path, bootstrap_servers, client, topics, delivery=delivery)
    settings["shadow"] = {"path": str(tmp_path / "candidate.keras"), "topic": candidate}
    settings["http"]["port"] = port
    (tmp_path / "worker.yaml").write_text(yaml.safe_dump(settings))
    log, readers = make_log(EVENTS, STREAMS), [Reader(bootstrap_servers, each) for each in (topics[1], candidate)]
    for name, start, stop in (("first", 0, EVENTS // 2), ("second", EVENTS // 2, EVENTS)):
        with worker(tmp_path, name) as process:
            send(bootstrap_servers, topics[0], log, start, stop)
            eventually(lambda: all(each.count() >= stop for each in readers) or process.poll() is not None, WAIT_S)  # noqa: B023
            now = metrics(port)
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0
        assert now["rnnw_shadow_active"] == 1
        assert now["rnnw_shadow_outputs_lost_total"] == now["rnnw_shadow_failures_total"] == 0
        assert 0 < now["rnnw_shadow_difference_total"] < now["rnnw_shadow_compared_total"]
    source = Reader(bootstrap_servers, topics[0])
    eventually(lambda: source.count() == EVENTS)
    for every, reader in zip(models, readers, strict=True):
        outputs: list[dict[str, Any]] = list(identities(reader.values()).values())
        check_outputs(log, every, source.batches, outputs)
        reader.close()
    source.close()


def test_a_candidate_that_can_not_be_used_stops_nobody(tmp_path: Path, bootstrap_servers: str, topic: NewTopic) -> None:
    every = save_model(tmp_path / "model.keras")
    (tmp_path / "candidate.keras").write_bytes(b"not a model")
    topics = topic(PARTITIONS, "readings"), topic(PARTITIONS, "probabilities"), topic(1, "dead")
    settings, port = configuration(tmp_path, bootstrap_servers, "kafka-python", topics), free_port()
    settings["shadow"] = {"path": str(tmp_path / "candidate.keras"), "topic": topic(1, "candidate")}
    settings["http"]["port"] = port
    (tmp_path / "worker.yaml").write_text(yaml.safe_dump(settings))
    log, outputs = make_log(EVENTS, STREAMS), Reader(bootstrap_servers, topics[1])
    with worker(tmp_path, "worker") as process:
        send(bootstrap_servers, topics[0], log, 0, EVENTS)
        eventually(lambda: outputs.count() >= EVENTS or process.poll() is not None, WAIT_S)
        now = metrics(port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    assert (now["rnnw_shadow_failures_total"], now["rnnw_shadow_active"]) == (1, 0)
    assert "shadow: there is none, because it can't be used" in (tmp_path / "worker.log").read_text()
    source = Reader(bootstrap_servers, topics[0])
    eventually(lambda: source.count() == EVENTS)
    check_outputs(log, every, source.batches, outputs.values())
    source.close()
    outputs.close()
