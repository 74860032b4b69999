"""Brokers of older protocols tell less: kafka-python speaks as with them, and nothing of ours asks for more."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conftest import NewTopic, eventually
from tests.reached import opened_transactions
from tests.running import WAIT_S, get, worker
from tests.sequences import configuration, save_model
from tests.subscribed import subscribed
from worker.errors import WorkerError
from worker.kafka.contracts import Committed, Source
from worker.kafka.embedded.local_ports import free_port
from worker.kafka.kafka_python.admin import holder_of_instance_id, unowned_partitions
from worker.kafka.opening import open_questions, open_sink, open_transactional_sink
from worker.kafka.options import spell_topic_id
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages
from worker.records.ownership import Partition

LONG_S = 60.0
VERSIONS = ("2.1", "2.3", "2.4", "2.7", "2.8")
WITHOUT_TRANSACTIONS = VERSIONS[:3]
WITHOUT_TOPIC_IDS = VERSIONS[:4]
WITHOUT_INSTANCE_IDS = VERSIONS[:2]


def reading(settings: ClientSettings, topic: str) -> Source:
    """A source that has read the first record of ``topic``."""
    source, _ = subscribed(settings, topic)
    eventually(lambda: source.poll(10, 0.2))
    return source


@pytest.mark.parametrize("version", VERSIONS)
def test_older_protocols_are_read_and_written(
    bootstrap_servers: str, topic: NewTopic, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    name, options = topic(), {"api_version": version}
    settings = ClientSettings(
        bootstrap_servers, group_id=name, instance_id="one", consumer=options, producer=options, transactional_id=name
    )
    with open_questions(settings, LONG_S) as cluster:
        assert cluster.partitions(name) == 1
        assert cluster.rules(name).largest_bytes
        assert cluster.comes_when_asked_for(name, LONG_S)
    sink = open_sink(settings)
    sink.send(name, Messages([b"key"], [b"value"]))
    sink.flush(LONG_S)
    sink.close(LONG_S)
    source = reading(settings, name)
    facts = source.topic(name, LONG_S)
    assert facts.partitions == 1
    assert (facts.id == "") == (version in WITHOUT_TOPIC_IDS)
    place = Partition(name, 0)
    source.commit({place: 1}, LONG_S, {place: "note"})
    assert source.committed([place], LONG_S) == {place: Committed(1, "note")}
    assert source.log_range([place], LONG_S) == {place: (0, 1)}
    assert source.offsets_at([place], 0, LONG_S) == {place: 0}
    if version not in WITHOUT_TRANSACTIONS:
        transactions = opened_transactions(settings)
        transactions.send(name, Messages([b"key"], [b"value"]))
        transactions.commit({place: 1}, source.member(), LONG_S)
        transactions.close(LONG_S)
    source.close(LONG_S)
    assert "deprecated" not in caplog.text


@pytest.mark.parametrize("version", WITHOUT_TRANSACTIONS)
def test_exactly_once_is_refused_by_name_where_there_is_none(bootstrap_servers: str, version: str) -> None:
    settings = ClientSettings(bootstrap_servers, producer={"api_version": version}, transactional_id="none")
    with pytest.raises(WorkerError, match=r"needs Kafka 2\.5 or newer: use delivery: at_least_once"):
        open_transactional_sink(settings)


@pytest.mark.parametrize("version", ["2.3", "2.8"])
def test_who_has_an_instance_id_is_not_guessed_where_it_is_not_told(
    bootstrap_servers: str, topic: NewTopic, version: str
) -> None:
    name = topic()
    settings = ClientSettings(bootstrap_servers, group_id=name, instance_id="one", consumer={"api_version": version})
    sink = open_sink(settings)
    sink.send(name, Messages([b"key"], [b"value"]))
    sink.flush(LONG_S)
    sink.close(LONG_S)
    source = reading(settings, name)
    eventually(lambda: unowned_partitions(settings, [name], LONG_S) == set())
    if version in WITHOUT_INSTANCE_IDS:
        with pytest.raises(WorkerError, match=r"kafka\.instance_id 'one' is in use by another process"):
            holder_of_instance_id(settings, LONG_S)
    else:
        assert holder_of_instance_id(settings, LONG_S)
    source.close(LONG_S)


def test_the_id_of_zeros_is_none() -> None:
    assert spell_topic_id(bytes(16)) == ""
    assert len(spell_topic_id(bytes(15) + b"\1")) == 22


def test_a_worker_runs_on_an_older_protocol(bootstrap_servers: str, topic: NewTopic, tmp_path: Path) -> None:
    save_model(tmp_path / "model.keras")
    keys = configuration(tmp_path, bootstrap_servers, "kafka-python", (topic(), topic(), topic()))
    keys["kafka"] |= {"consumer": {"api_version": "2.7"}, "producer": {"api_version": "2.7"}}
    keys["http"]["port"] = port = free_port()
    (tmp_path / "worker.yaml").write_text(yaml.safe_dump(keys))
    with worker(tmp_path, "worker"):
        eventually(lambda: get(port, "/readyz")[0] == 200, WAIT_S)
    assert "Traceback" not in (tmp_path / "worker.log").read_text()
