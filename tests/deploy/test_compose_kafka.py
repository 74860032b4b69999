"""What compose.yaml starts does what it is for, on the tests' own broker: the player's readings are answered."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml
from kafka import KafkaConsumer, TopicPartition

from tests.conftest import NewTopic, eventually
from tests.deploy.rendering import DEPLOY
from tests.running import WAIT_S, worker
from worker.commands.demo.motions import LABELS, MODEL_PATH
from worker.kafka.embedded.local_ports import free_port

WANTED = 200
COUNTED = re.compile(r"^rnnw_records_consumed_total\S* [1-9]", re.MULTILINE)


def test_the_player_is_answered(
    bootstrap_servers: str, topic: NewTopic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    created = re.findall(r"for topic in (.*?);", " ".join(services["topics"]["command"]))[0].split()
    names = {name: topic(4, name.replace(".", "-")) for name in created}
    config = yaml.safe_load((DEPLOY / "compose" / "worker.yaml").read_text())
    assert {config["input"]["topic"], config["output"]["topic"], config["input"]["topic"] + ".dead"} == set(names)
    config["kafka"] |= {"bootstrap_servers": bootstrap_servers, "group_id": names["probabilities"]}
    config["input"]["topic"], config["output"]["topic"] = names["readings"], names["probabilities"]
    config["dead_letters"] = {"topic": names["readings.dead"]}
    config["model"]["path"], config["state"]["directory"] = str(MODEL_PATH), str(tmp_path / "state")
    config["http"] = {"host": "127.0.0.1", "port": free_port()}
    (tmp_path / "worker.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("HOSTNAME", services["worker"]["hostname"])
    here = {"readings": names["readings"], "kafka:9092": bootstrap_servers}
    play = [sys.executable, "-m", "worker", *(here.get(word, word) for word in services["player"]["command"])]
    with worker(tmp_path, "worker") as process, subprocess.Popen(play, stdout=subprocess.DEVNULL) as player:
        try:
            labels = answered(bootstrap_servers, names["probabilities"])
            eventually(lambda: COUNTED.search(metrics_of(config["http"]["port"])))
        finally:
            player.terminate()
        assert player.wait(WAIT_S) == 0
        process.send_signal(15)
        assert process.wait(WAIT_S) == 0
    assert labels <= set(LABELS)


def metrics_of(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return str(answer.read().decode())


def answered(bootstrap_servers: str, name: str) -> set[str]:
    """The labels of the first outputs."""
    seen: list[str] = []
    with KafkaConsumer(bootstrap_servers=bootstrap_servers) as consumer:
        parts = [TopicPartition(name, number) for number in range(4)]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)

        def enough() -> bool:
            for records in consumer.poll(timeout_ms=200).values():
                seen.extend(json.loads(record.value)["label"] for record in records)
            return len(seen) >= WANTED

        eventually(enough)
    return set(seen)
