"""``worker run`` at its edges, on real Kafka: bad records, a cluster that is away, signals, and a group of two."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import socket
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from tests.conftest import NewTopic, eventually
from tests.running import WAIT_S, Reader, check_outputs, final_checkpoints, get, identities, send, worker, worker_anew
from tests.sequences import GAP_MS, Log, configuration, make_log, save_model
from worker import __version__ as worker_version
from worker.config.values import Duration
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.embedded.local_ports import free_port
from worker.kafka.opening import open_sink, open_source
from worker.kafka.settings import ClientSettings
from worker.processor import cpu_level
from worker.records.messages import Messages
from worker.records.ownership import Partition

PARTITIONS = 4
EVENTS, STREAMS = 400, 20
CLIENTS = ["kafka-python", "confluent"]
NOWHERE = "127.0.0.1:1"

Place = tuple[Path, tuple[str, str, str], Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """(model file, a model that answers every prefix)."""
    file = tmp_path_factory.mktemp("model") / "model.keras"
    return file, save_model(file)


@pytest.fixture
def place(tmp_path: Path, model: tuple[Path, Any], topic: NewTopic) -> Place:
    """(folder, topics, a model that answers every prefix)."""
    return tmp_path, (topic(PARTITIONS, "readings"), topic(PARTITIONS, "probabilities"), topic(1, "dead")), model[1]


@pytest.fixture
def configured(tmp_path: Path, model: tuple[Path, Any]) -> Callable[..., int]:
    """Writes the configuration; answers the port of metrics and probes."""

    def write(servers: str, topics: tuple[str, str, str], file: str = "worker.yaml", **more: Any) -> int:
        settings = configuration(tmp_path, servers, "kafka-python", topics)
        settings["model"]["path"] = str(model[0])
        settings["http"]["port"] = free_port()
        for section, keys in more.items():
            settings[section] = {**settings.get(section, {}), **keys}
        (tmp_path / file).write_text(yaml.safe_dump(settings))
        return int(settings["http"]["port"])

    return write


def committed(servers: str, group: str, topic: str) -> dict[int, int | None]:
    source = open_source(ClientSettings(servers, "confluent", group_id=group))
    try:
        partitions = [Partition(topic, number) for number in range(PARTITIONS)]
        found = source.committed(partitions, 60)
        return {place.number: None if each is None else each.offset for place, each in found.items()}
    finally:
        source.close(30)


def everything(servers: str, topic: str, count: int) -> list[Any]:
    """The batches of a topic that has at least ``count`` records."""
    reader = Reader(servers, topic)
    eventually(lambda: reader.count() >= count)
    reader.close()
    return reader.batches


def said(folder: Path, text: str, name: str = "worker") -> Callable[[], bool]:
    """Whether the worker's log has a line that matches."""
    return lambda: re.search(text, (folder / f"{name}.log").read_text()) is not None


BAD: list[tuple[bytes | None, bytes, list[tuple[str, bytes | None]], str]] = [
    (b"device-000", b"\xff\xfe", [("trace", b"7"), ("empty", None)], "not_utf8"),
    (b"device-001", b'{"ax": 1, "ay": 2}', [], "field_missing"),
    (b"device-002", b'{"ax": 1, "ay": 2, "az": NaN, "time": 0, "id": "s0"}', [], "not_finite"),
    (None, b'{"ax": 1, "ay": 2, "az": 3, "time": 0, "id": "s0"}', [], "no_key"),
    (b"device-003", b'{"ax": 1, "ay": 2, "az": 1e39, "time": 0, "id": "s0"}', [], "not_finite"),
    (b"device-000", b'{"states": {"lstm": {"h": [1]}}}', [("worker-command", b"set-state")], "bad_state"),
]


def send_with_bad_records(servers: str, topic: str, log: Log) -> None:
    sink = open_sink(ClientSettings(servers, "confluent"))
    size = len(log.keys) // len(BAD) + 1
    for number, (key, value, headers, _) in enumerate(BAD):
        part = slice(number * size, (number + 1) * size)
        sink.send(topic, Messages(log.keys[part], log.values[part]))
        sink.send(topic, Messages([key], [value], [headers]))
    sink.flush(120)
    sink.close(30)


@pytest.mark.parametrize(("client", "number"), [("kafka-python", signal.SIGTERM), ("confluent", signal.SIGINT)])
def test_bad_records_harm_nobody_and_a_signal_ends_in_order(
    place: Place, configured: Callable[..., int], bootstrap_servers: str, client: str, number: int
) -> None:
    folder, topics, every = place
    log = make_log(EVENTS, STREAMS)
    port = configured(bootstrap_servers, topics, kafka={"client": client})
    outputs = Reader(bootstrap_servers, topics[1])
    with worker(folder, "worker") as process:
        send_with_bad_records(bootstrap_servers, topics[0], log)
        eventually(lambda: outputs.count() >= EVENTS or process.poll() is not None, WAIT_S)
        eventually(lambda: get(port, "/readyz") == (200, "ready\n"))
        assert get(port, "/livez") == (200, "alive\n")
        eventually(lambda: refused_by(get(port, "/metrics")[1]) == len(BAD))  # once they are committed
        check_metrics(get(port, "/metrics")[1])
        check_build(get(port, "/metrics")[1], folder, topics[0], client)
        process.send_signal(number)
        assert process.wait(WAIT_S) == 0
    assert said(folder, "stopped in order\n")()
    outputs.count()
    outputs.close()
    source = everything(bootstrap_servers, topics[0], EVENTS + len(BAD))
    check_dead_letters(everything(bootstrap_servers, topics[2], len(BAD)), source, client)
    check_outputs(log, every, only(source, set(log.values)), outputs.values())
    ends = {batch.partition.number: batch.next_offset for batch in source}
    assert committed(bootstrap_servers, f"group-{topics[0]}", topics[0]) == ends
    assert final_checkpoints(folder, topics[0]) == ends
    check_files(folder, topics[0], ends, log)


def metrics_in(text: str) -> dict[str, float]:
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def refused_by(text: str) -> float:
    return sum(count for name, count in metrics_in(text).items() if name.startswith("rnnw_records_refused"))


def check_metrics(text: str) -> None:
    assert refused_by(text) == len(BAD)
    assert metrics_in(text)["rnnw_assigned_partitions"] == PARTITIONS


def check_build(text: str, folder: Path, topic: str, client: str) -> None:
    """What a running worker says of itself, against what is installed here."""
    model = Path(yaml.safe_load((folder / "worker.yaml").read_text())["model"]["path"])
    (line,) = [line for line in text.splitlines() if line.startswith("rnnw_build_info{")]
    assert dict(re.findall(r'(\w+)="([^"]*)"', line)) == {
        "version": worker_version,
        "model": hashlib.sha256(model.read_bytes()).hexdigest()[:12],
        "group": f"group-{topic}",
        "client": client,
        "keras": version("keras"),
        "tensorflow": next(version(name) for name in ("tensorflow-cpu", "tensorflow") if installed(name)),
        "cpu": cpu_level(),
    }


def installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def only(source: list[Any], values: set[bytes | None]) -> list[Any]:
    """The batches without records of other values."""
    for batch in source:
        keep = [index for index, value in enumerate(batch.values) if value in values]
        for name in ("offsets", "timestamps", "keys", "values", "headers"):
            setattr(batch, name, [getattr(batch, name)[index] for index in keep])
    return source


def check_dead_letters(dead: list[Any], source: list[Any], client: str) -> None:
    nothing = b"" if client == "kafka-python" else None  # kafka-python can't send a header without a value
    rows = [row for batch in dead for row in zip(batch.keys, batch.values, batch.headers, strict=True)]
    found = {}
    for key, value, headers in rows:
        known = next(bad for bad in BAD if bad[:2] == (key, value))
        given = len(known[2])
        assert list(headers[:given]) == [(name, nothing if text is None else text) for name, text in known[2]]
        names = ("error", "reason", "topic", "partition", "offset", "timestamp", "group", "model", "version")
        assert [name for name, _ in headers[given:]] == [f"rnnw.{name}" for name in names]
        told = dict(headers[given:])
        assert told["rnnw.error"].decode() == known[3]
        assert told["rnnw.reason"]
        assert told["rnnw.group"]
        assert len(told["rnnw.model"]) == 12
        found[told["rnnw.topic"].decode(), int(told["rnnw.partition"]), int(told["rnnw.offset"])] = known
    assert len(rows) == len(BAD)
    assert {place: known[:2] for place, known in found.items()} == {
        (*batch.partition, offset): (key, value)
        for batch in source
        for offset, key, value in zip(batch.offsets, batch.keys, batch.values, strict=True)
        if (key, value) in [known[:2] for known in BAD]
    }


def check_files(folder: Path, topic: str, ends: dict[int, int], log: Log) -> None:
    """What plain h5py reads in the newest checkpoints, by the documented names."""
    keys: list[bytes] = []
    for number, offset in ends.items():
        with h5py.File(folder / "state" / f"group-{topic}" / topic / str(number) / f"{offset:020d}.h5") as file:
            attributes = dict(file.attrs)
            assert (attributes["format_version"], attributes["topic"]) == (4, topic)
            assert (attributes["partition"], attributes["next_offset"]) == (number, offset)
            assert attributes["group_id"] == f"group-{topic}"
            assert attributes["cpu"] == cpu_level()
            assert json.loads(attributes["rules"])["sequence.gap"] == str(Duration(GAP_MS))
            assert {"model_sha256", "topic_id", "created", "worker_version"} <= set(attributes)
            streams = len(file["keys"])
            assert {len(file[name]) for name in ("steps", "times", "sequences")} == {streams}
            shapes = {
                file[f"states/{layer}/{name}"].shape for layer in file["states"] for name in file["states"][layer]
            }
            assert shapes == {(streams, 12), (streams, 8)}
            assert np.asarray(file["steps"]).min() >= 1
            keys += list(file["keys"])
    assert sorted(keys) == sorted(set(log.keys))


@pytest.fixture
def absent(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A broker that has a port and is not started yet."""
    broker = EmbeddedKafka(tmp_path / "kafka", free_port())
    yield broker
    broker.stop()


@pytest.mark.broker
@pytest.mark.parametrize("client", CLIENTS)
def test_a_cluster_that_comes_late_and_goes_for_a_while(
    tmp_path: Path, model: tuple[Path, Any], configured: Callable[..., int], absent: EmbeddedKafka, client: str
) -> None:
    """No cluster, then no topic, then work, then the broker restarts: the worker waits, says so and loses nothing."""
    topics = ("readings", "probabilities", "dead")
    log = make_log(EVENTS, STREAMS)
    server = f"127.0.0.1:{absent.port}"
    port = configured(server, topics, kafka={"client": client}, dead_letters={"topic": None}, log={"format": "json"})
    with worker(tmp_path, "worker") as process:
        eventually(lambda: said(tmp_path, "trying again in")() or process.poll() is not None, WAIT_S)
        status, reason = get(port, "/readyz")
        assert (status, reason.startswith("kafka: ")) == (503, True)
        assert server in reason
        assert get(port, "/livez")[0] == 200
        absent.start()
        eventually(said(tmp_path, r"input topic 'readings' does not exist \(input.topic\); trying again in"), WAIT_S)
        eventually(
            lambda: get(port, "/readyz") == (503, "kafka: input topic 'readings' does not exist (input.topic)\n")
        )
        for name in topics[1::-1]:
            absent.create_topic(name, PARTITIONS)
        outputs = Reader(server, topics[1])
        send(server, topics[0], log, 0, EVENTS // 2)
        eventually(lambda: outputs.count() >= EVENTS // 2 or process.poll() is not None, WAIT_S)
        assert get(port, "/readyz")[0] == 200
        refuse_one(server, topics[0])
        eventually(said(tmp_path, "record refused, readings/[0-3] offset [0-9]+: the value is not JSON"))
        outputs.close()
        absent.kill()
        gone = "kafka: does not answer: "
        eventually(lambda: get(port, "/readyz")[1].startswith(gone) or process.poll() is not None, WAIT_S)
        absent.restart()
        # A new reader: librdkafka may forget all brokers for ever when one that is just starting names none
        # (confluentinc/librdkafka#5301), which a worker notices and a reader does not.
        outputs = Reader(server, topics[1])
        send(server, topics[0], log, EVENTS // 2, EVENTS)
        eventually(lambda: len(once(outputs)) >= EVENTS or process.poll() is not None, WAIT_S)
        eventually(lambda: get(port, "/readyz")[0] == 200 or process.poll() is not None, WAIT_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    check_outputs(log, model[1], only(everything(server, topics[0], EVENTS + 1), set(log.values)), once(outputs))
    outputs.close()
    lines = [json.loads(line) for line in (tmp_path / "worker.log").read_text().splitlines() if line.startswith("{")]
    assert {"time", "level", "logger", "message"} == set(lines[0])


def refuse_one(servers: str, topic: str) -> None:
    sink = open_sink(ClientSettings(servers, "confluent"))
    sink.send(topic, Messages([b"device-000"], [b"no JSON"]))
    sink.flush(120)
    sink.close(30)


def once(outputs: Reader) -> list[dict[str, Any]]:
    """Outputs without repeats: around a broker's restart the producer may have sent twice."""
    outputs.count()
    return list(identities(outputs.values()).values())


@pytest.mark.parametrize("client", CLIENTS)
def test_two_workers_share_a_group_and_one_takes_over(
    place: Place, configured: Callable[..., int], bootstrap_servers: str, client: str
) -> None:
    """All outputs right, each exactly once, when a member leaves in order."""
    folder, topics, every = place
    log = make_log(EVENTS * 4, STREAMS * 2)
    kafka = {"client": client, "instance_id": None}
    ports = [configured(bootstrap_servers, topics, f"{name}.yaml", kafka=kafka) for name in ("one", "two")]
    outputs = Reader(bootstrap_servers, topics[1])
    with worker(folder, "one", "one.yaml") as one, worker(folder, "two", "two.yaml") as two:

        def shared() -> bool:
            owned = [re.search(r"^rnnw_assigned_partitions 2\.0$", get(port, "/metrics")[1], re.M) for port in ports]
            return all(owned) or None not in (one.poll(), two.poll())

        eventually(shared, WAIT_S)
        send(bootstrap_servers, topics[0], log, 0, EVENTS)
        eventually(lambda: outputs.count() >= EVENTS, WAIT_S)
        send(bootstrap_servers, topics[0], log, EVENTS, EVENTS * 2)
        one.send_signal(signal.SIGTERM)
        send(bootstrap_servers, topics[0], log, EVENTS * 2, EVENTS * 3)
        assert one.wait(WAIT_S) == 0
        # The first may have done all of that before it left; of these the other one does everything.
        send(bootstrap_servers, topics[0], log, EVENTS * 3, EVENTS * 4)
        eventually(lambda: outputs.count() >= EVENTS * 4 or two.poll() is not None, WAIT_S)
        two.send_signal(signal.SIGTERM)
        assert two.wait(WAIT_S) == 0
    outputs.count()
    outputs.close()
    source = everything(bootstrap_servers, topics[0], EVENTS * 4)
    check_outputs(log, every, source, outputs.values())
    assert {"live", "restored"} == {output["origin"] for output in outputs.values()}
    assert final_checkpoints(folder, topics[0]) == {batch.partition.number: batch.next_offset for batch in source}


def hears_signals(pid: int) -> bool:
    """Whether the process has a handler for SIGTERM of its own, from the moment when it does."""
    mask = re.search(r"^SigCgt:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.M)
    return mask is not None and bool(int(mask[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to know when signals are heard")
def test_signals_while_starting(tmp_path: Path, configured: Callable[..., int]) -> None:
    """One ends in order, also while TensorFlow is being imported; a second one ends at once."""
    configured(NOWHERE, ("readings", "probabilities", "dead"))
    with worker_anew(tmp_path, "once") as first, worker_anew(tmp_path, "twice") as second:
        eventually(lambda: hears_signals(first.pid))
        first.send_signal(signal.SIGTERM)
        eventually(lambda: hears_signals(second.pid))
        for number in (signal.SIGTERM, signal.SIGINT):
            second.send_signal(number)
        assert second.wait(WAIT_S) == 1
        assert first.wait(WAIT_S) == 0
    assert "Traceback" not in (tmp_path / "once.log").read_text() + (tmp_path / "twice.log").read_text()


def test_a_signal_while_waiting_for_the_cluster_and_a_taken_port(
    tmp_path: Path, configured: Callable[..., int]
) -> None:
    port = configured(NOWHERE, ("readings", "probabilities", "dead"))
    with worker(tmp_path, "waits") as process:
        eventually(said(tmp_path, "trying again in", "waits"), WAIT_S)
        with worker(tmp_path, "second") as second:
            assert second.wait(WAIT_S) == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 0
    refusal = (tmp_path / "second.log").read_text().splitlines()
    assert len(refusal) == 1
    assert refusal[0].startswith(f"worker: http.port: can't listen on 127.0.0.1:{port}: Address already in use; ")
    with socket.create_server(("127.0.0.1", port)):
        pass  # free again


@pytest.mark.parametrize(("client", "delivery"), [("kafka-python", "exactly_once"), ("confluent", "at_least_once")])
def test_a_signal_ends_it_also_while_the_cluster_is_silent(
    place: Place, configured: Callable[..., int], embedded_kafka: EmbeddedKafka, client: str, delivery: str
) -> None:
    """In stop_s, not when the cluster answers again; and the next life does what is left."""
    folder, topics, every = place
    log = make_log(EVENTS, STREAMS)
    servers = embedded_kafka.bootstrap_servers
    configured(servers, topics, kafka={"client": client})
    settings = yaml.safe_load((folder / "worker.yaml").read_text()) | {"delivery": delivery}
    (folder / "worker.yaml").write_text(yaml.safe_dump(settings))
    outputs = Reader(servers, topics[1])
    with worker(folder, "first") as process:
        send(servers, topics[0], log, 0, EVENTS // 2)
        eventually(lambda: outputs.count() >= EVENTS // 2 or process.poll() is not None, WAIT_S)
        embedded_kafka.pause()
        try:
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) in (0, 1)
        finally:
            embedded_kafka.resume()
    send(servers, topics[0], log, EVENTS // 2, EVENTS)
    with worker(folder, "second") as process:
        eventually(lambda: len(once(outputs)) >= EVENTS or process.poll() is not None, WAIT_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    check_outputs(log, every, everything(servers, topics[0], EVENTS), once(outputs))
    outputs.close()


def test_a_missing_output_topic_is_waited_for(
    place: Place, configured: Callable[..., int], embedded_kafka: EmbeddedKafka
) -> None:
    folder, topics, _ = place
    missing = f"{topics[1]}-later"
    port = configured(embedded_kafka.bootstrap_servers, (topics[0], missing, topics[2]))
    with worker(folder, "worker") as process:
        reason = f"kafka: output topic '{missing}' does not exist (output.topic)\n"
        eventually(lambda: get(port, "/readyz") == (503, reason) or process.poll() is not None, WAIT_S)
        embedded_kafka.create_topic(missing, PARTITIONS)
        eventually(lambda: get(port, "/readyz") == (200, "ready\n") or process.poll() is not None, WAIT_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
