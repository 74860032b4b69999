"""``worker run`` with its checkpoints on S3: a store that fails holds no event back, and a restart resumes from it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import yaml

from tests.checkpoints.test_checkpoints_stores import Gate, gate, s3, s3_account, s3_server  # noqa: F401 (fixtures)
from tests.conftest import NewTopic, eventually
from tests.forked import WorkerProcess
from tests.running import WAIT_S, Reader, check_outputs, get, send, worker
from tests.sequences import configuration, make_log, save_model
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.embedded.local_ports import free_port

EVENTS, STREAMS = 300, 10


def test_a_store_that_fails_holds_no_event_back_and_a_restart_goes_on_from_it(
    tmp_path: Path,
    gate: Gate,  # noqa: F811
    embedded_kafka: EmbeddedKafka,
    topic: NewTopic,
) -> None:
    servers = embedded_kafka.bootstrap_servers
    topics = (topic(2, "readings"), topic(2, "probabilities"), topic(1, "dead"))
    stored, port = s3(), free_port()
    every = save_model(tmp_path / "model.keras")
    settings = configuration(tmp_path, servers, "confluent", topics)
    settings["http"]["port"] = port
    settings["state"] = {**settings.get("state", {}), "directory": stored.url, "checkpoint_interval": "500ms"}
    (tmp_path / "worker.yaml").write_text(yaml.safe_dump(settings))
    log = make_log(EVENTS, STREAMS)
    outputs, source = Reader(servers, topics[1]), Reader(servers, topics[0])

    def stop(process: WorkerProcess) -> None:
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0

    with worker(tmp_path, "first") as process:
        send(servers, topics[0], log, 0, 100)
        eventually(lambda: outputs.count() >= 100, WAIT_S)
        eventually(lambda: len(stored.names()) >= 2)
        gate.turn("500")
        send(servers, topics[0], log, 100, 200)
        eventually(lambda: outputs.count() >= 200)
        failed = 'rnnw_checkpoint_total{result="failed"} 0.0'
        eventually(lambda: failed not in get(port, "/metrics")[1])
        assert get(port, "/readyz") == (200, "ready\n")  # an alert: the rollout that mends it must go on
        gate.turn("through")
        stop(process)
    eventually(lambda: source.count() == 200)
    ends = {batch.partition.number: batch.next_offset for batch in source.batches}
    newest = {int(name.split("/")[-2]): int(name[-23:-3]) for name in stored.names()}
    assert newest == ends

    with worker(tmp_path, "second") as process:
        send(servers, topics[0], log, 200, EVENTS)
        eventually(lambda: outputs.count() >= EVENTS, WAIT_S)
        stop(process)
    eventually(lambda: source.count() == EVENTS)
    found = outputs.values()
    check_outputs(log, every, source.batches, found)
    assert {output["origin"] for output in found[:200]} == {"live"}
    assert "restored" in {output["origin"] for output in found[200:]}
    assert not (tmp_path / "state").exists()
    assert json.dumps(stored.url)[1:-1] in (tmp_path / "first.log").read_text()
    for reader in (outputs, source):
        reader.close()
