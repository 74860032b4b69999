"""Task seq2seq as users run it, on real Kafka: every source becomes what the trained model makes of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import NewTopic, eventually
from tests.running import WAIT_S, Reader, identities, worker
from tests.translating import TARGET, Sources, configuration, expected, make_sources, save_model
from worker.kafka.opening import open_sink
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages

PARTITIONS, SOURCES, STREAMS = 3, 90, 8

Place = tuple[Path, tuple[str, str, str], Reader, Reader, Any]


@pytest.fixture
def place(tmp_path: Path, bootstrap_servers: str, topic: NewTopic) -> Iterator[Place]:
    """(folder, topics, readers of outputs and dead letters, trained model)."""
    model = save_model(tmp_path / "model.keras")
    topics = (topic(PARTITIONS, "sources"), topic(PARTITIONS, "targets"), topic(1, "dead"))
    outputs, dead = Reader(bootstrap_servers, topics[1]), Reader(bootstrap_servers, topics[2])
    yield tmp_path, topics, outputs, dead, model
    outputs.close()
    dead.close()


def send(servers: str, topic: str, sources: Sources, start: int, stop: int) -> None:
    sink = open_sink(ClientSettings(servers, "confluent"))
    sink.send(topic, Messages(sources.keys[start:stop], sources.values[start:stop]))
    sink.flush(120)
    sink.close(30)


def check(outputs: list[dict[str, Any]], sources: Sources, model: Any) -> None:
    """The outputs of each stream are those of its sources, in order."""
    told = expected(sources, model)
    for stream in set(sources.keys):
        wanted = [told[index] for index in sources.ends if sources.keys[index] == stream]
        found = [output for output in outputs if output["stream"].encode() == stream]
        found.sort(key=lambda output: output["source"]["offset"])
        assert [(each["tokens"], each["finish"]) for each in found] == wanted, stream
        for each in found:
            assert each["text"] == " ".join(TARGET[token] for token in each["tokens"])
            assert each["final"] is True


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_sources_become_texts_through_a_kill_9(
    place: Place, bootstrap_servers: str, client: str, delivery: str
) -> None:
    folder, topics, outputs, dead, model = place
    settings = configuration(folder, bootstrap_servers, client, topics, delivery)
    (folder / "worker.yaml").write_text(yaml.safe_dump(settings))
    sources = make_sources(SOURCES, STREAMS)
    half = len(sources.keys) // 2
    send(bootstrap_servers, topics[0], sources, 0, half)
    with worker(folder, "first life") as process:
        eventually(lambda: outputs.count() > SOURCES // 4 or process.poll() is not None, WAIT_S)
        send(bootstrap_servers, topics[0], sources, half, len(sources.keys))
        assert process.poll() is None, "the worker ended by itself"
        os.kill(process.pid, signal.SIGKILL)
    with worker(folder, "last life") as process:
        eventually(lambda: outputs.count() and len(identities(outputs.values())) == SOURCES, WAIT_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    outputs.count()
    once = list(identities(outputs.values()).values())
    assert delivery == "at_least_once" or len(once) == outputs.count()
    check(once, sources, model)
    assert dead.count() == 0
