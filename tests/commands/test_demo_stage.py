"""What the demonstration puts up: a configuration that the worker takes, and a process that ends with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import TopicAuthorizationFailedError

from tests.conftest import eventually
from worker.commands.demo.stage import Names, WorkerProcess, configuration, topics
from worker.config.sections import Config
from worker.errors import WorkerError

ORDERLY = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print('up', flush=True); "
NAMES = Names.of("1a2b")


def process(script: str) -> WorkerProcess:
    """A process that is started as the worker is, with another program in its place."""
    return WorkerProcess(command=(sys.executable, "-c", script))


def is_up(worker: WorkerProcess) -> bool:
    return "up" in worker.with_log("").splitlines()[-1]


def test_the_configuration_is_one_that_the_worker_takes(tmp_path: Path) -> None:
    written = yaml.safe_dump(configuration("localhost:9092", NAMES, tmp_path, 20_001))
    config = Config.model_validate(yaml.safe_load(written))
    assert config.input.topic == "demo-1a2b-readings"
    assert config.input.features == ("ax", "ay", "az", "gx", "gy", "gz")
    assert (config.sequence.id, config.sequence.end) == ("sequence", "last")
    assert config.model.labels == ("standing", "running", "walking", "badminton")
    assert Path(str(config.model.path)).is_file()
    assert config.dead_letters.topic is None
    assert config.http.host == "127.0.0.1"


def test_a_worker_that_ends_by_itself_is_named_with_the_end_of_its_log() -> None:
    with process("print('no such topic'); raise SystemExit(3)") as worker:
        worker.start("localhost:1", NAMES)
        with pytest.raises(WorkerError, match=r"status 3 while it was still needed(.|\n)*no such topic"):
            worker.wait_ready()
    assert not worker.folder.exists()


def test_a_worker_that_ends_in_order_leaves_nothing() -> None:
    with process(ORDERLY + "signal.pause()") as worker:
        with worker.running("localhost:1", NAMES):
            eventually(lambda: is_up(worker))
            assert (worker.folder / "worker.yaml").is_file()
        worker.stop()
    assert not worker.folder.exists()


def test_a_worker_that_does_not_end_with_zero_is_a_failure() -> None:
    script = ORDERLY.replace("sys.exit(0)", "sys.exit(7)") + "signal.pause()"
    with process(script) as worker:
        worker.start("localhost:1", NAMES)
        eventually(lambda: is_up(worker))
        with pytest.raises(WorkerError, match="status 7 after SIGTERM"):
            worker.stop()


def test_the_first_failure_is_told_and_not_how_the_worker_ended_after_it() -> None:
    def fail(worker: WorkerProcess) -> None:
        with worker.running("localhost:1", NAMES):
            eventually(lambda: is_up(worker))
            raise KeyError("the first failure")

    with process("import time; print('up', flush=True); time.sleep(600)") as worker, pytest.raises(KeyError):
        fail(worker)
    assert not worker.folder.exists()


def test_a_cluster_that_does_not_answer_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.commands.demo.stage.CONNECT_TIMEOUT_S", 0.5)
    with pytest.raises(WorkerError, match=r"Kafka at 127\.0\.0\.1:1: .* check --bootstrap-servers") as raised:
        topics("127.0.0.1:1", NAMES, keep=False).__enter__()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("keep", [True, False])
def test_topics_and_group_on_a_cluster_of_others_are_gone_afterwards(bootstrap_servers: str, keep: bool) -> None:
    names = Names.of(f"stage-{keep}".lower())
    with KafkaAdminClient(bootstrap_servers=bootstrap_servers) as admin:
        with topics(bootstrap_servers, names, keep=keep):
            assert {names.readings, names.probabilities} <= set(admin.list_topics())
            member = KafkaConsumer(bootstrap_servers=bootstrap_servers, group_id=names.group)
            member.assign([TopicPartition(names.readings, 0)])
            member.commit({TopicPartition(names.readings, 0): OffsetAndMetadata(0, "", -1)})
            member.close()
        wanted = ({names.readings, names.probabilities}, {names.group}) if keep else (set(), set())

        def left() -> tuple[set[str], set[str]]:
            groups = {group["group_id"] for group in admin.list_groups()}
            return {each for each in admin.list_topics() if each.startswith(names.group)}, groups & {names.group}

        eventually(lambda: left() == wanted)  # a deletion is known to all of the cluster a moment later


def test_what_can_not_be_taken_down_is_named(monkeypatch: pytest.MonkeyPatch, bootstrap_servers: str) -> None:
    names = Names.of("stage-left")

    def refused(*_: object, **__: object) -> None:
        raise TopicAuthorizationFailedError("no")

    with pytest.raises(WorkerError) as raised, topics(bootstrap_servers, names, keep=False):
        monkeypatch.setattr(KafkaAdminClient, "delete_topics", refused)
    said = str(raised.value)
    assert f"delete the topics {names.readings} and {names.probabilities} and the group {names.group} yourself" in said
