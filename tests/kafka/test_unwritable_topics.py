"""Topics that don't take what the worker writes: nothing is lost in silence, and the last line says what to do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)
from kafka.admin import KafkaAdminClient

from tests.conftest import NewTopic, eventually
from tests.proxy import PRODUCE, proxied_broker
from tests.reached import reached
from tests.running import WAIT_S, Reader, get, worker
from tests.sequences import save_model
from worker.errors import KafkaUnavailableError
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.embedded.local_ports import HOST, free_port
from worker.kafka.opening import ensure_topics, open_sink, open_source
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages
from worker.records.ownership import Partition

CLIENTS = pytest.mark.parametrize("client", ["kafka-python", "confluent"])
DELIVERIES = pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
GOOD = b'{"ax": 1, "ay": 2, "az": 3}'
LARGE_BYTES = 600_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("model") / "model.keras"
    save_model(file)
    return file


def configured(folder: Path, model: Path, client: str, delivery: str, name: str, servers: str, **kafka: Any) -> int:
    """Writes the configuration; answers the port of metrics and probes."""
    port = free_port()
    keys = {
        "kafka": {"bootstrap_servers": servers, "client": client, "group_id": name, "instance_id": "one", **kafka},
        "input": {"topic": name, "features": ["ax", "ay", "az"]},
        "output": {"topic": f"{name}.out"},
        "model": {"path": str(model)},
        "delivery": delivery,
        "state": {"directory": str(folder / "state")},
        "http": {"host": HOST, "port": port},
    }
    (folder / "worker.yaml").write_text(yaml.safe_dump(keys))
    return port


def create(servers: str, name: str, dead: dict[str, str] | None) -> None:
    """Topics of input and output, and that of dead letters unless None, with its rules."""
    reached(lambda: ensure_topics(ClientSettings(servers), {name: 1, f"{name}.out": 1}))
    if dead is not None:
        with KafkaAdminClient(bootstrap_servers=servers) as admin:
            admin.create_topics({f"{name}.dead": {"num_partitions": 1, "configs": dead}}, wait_for_metadata=True)


def write(servers: str, name: str, *values: bytes) -> None:
    sink = open_sink(ClientSettings(servers, "confluent"))
    sink.send(name, Messages([b"device"] * len(values), values))
    sink.flush(60.0)
    sink.close(60.0)


def is_committed(servers: str, name: str, offset: int) -> bool:
    source = open_source(ClientSettings(servers, group_id=name))
    try:
        found = source.committed([Partition(name, 0)], 60.0)[Partition(name, 0)]
        return found is not None and found.offset == offset
    except KafkaUnavailableError:  # the group has no coordinator yet
        return False
    finally:
        source.close(60.0)


def records(servers: str, topic: str, count: int) -> list[tuple[bytes | None, bytes | None, dict[str, bytes | None]]]:
    """(key, value, headers) of each record of a topic that has at least so many."""
    reader = Reader(servers, topic)
    eventually(lambda: reader.count() >= count)
    reader.close()
    return [
        (key, value, dict(headers or ()))
        for batch in reader.batches
        for key, value, headers in zip(batch.keys, batch.values, batch.headers, strict=True)
    ]


def last_line(folder: Path) -> str:
    return (folder / "worker.log").read_text().splitlines()[-1]


def metrics(port: int) -> dict[str, float]:
    lines = [line.rsplit(" ", 1) for line in get(port, "/metrics")[1].splitlines() if line.startswith("rnnw_")]
    return {name: float(number) for name, number in lines}


@CLIENTS
@DELIVERIES
def test_a_letter_that_turns_out_too_large_for_its_topic_when_compressed_is_written_without_the_value(
    bootstrap_servers: str, topic: NewTopic, tmp_path: Path, model: Path, client: str, delivery: str
) -> None:
    name = topic(1, "letters")
    create(bootstrap_servers, name, {"max.message.bytes": "500000"})
    option = {"confluent": "compression.type", "kafka-python": "compression_type"}[client]
    port = configured(tmp_path, model, client, delivery, name, bootstrap_servers, producer={option: "gzip"})
    write(bootstrap_servers, name, GOOD, b"\xff" + os.urandom(LARGE_BYTES), GOOD, b"x")
    with worker(tmp_path, "worker") as process:
        eventually(lambda: process.poll() is not None or is_committed(bootstrap_servers, name, 4))
        assert process.poll() is None
        found = metrics(port)
        assert found[f'rnnw_records_consumed_total{{topic="{name}"}}'] == 4
        assert found['rnnw_records_refused_total{error="not_utf8"}'] == 1
        assert found['rnnw_records_refused_total{error="not_json"}'] == 1
        assert found[f'rnnw_outputs_produced_total{{topic="{name}.out"}}'] == 2
        assert found[f'rnnw_outputs_produced_total{{topic="{name}.dead"}}'] == 2
        assert found["rnnw_rollbacks_total"] >= 1
    letters = records(bootstrap_servers, f"{name}.dead", 2)
    by_offset = {headers["rnnw.offset"]: (key, value, headers.get("rnnw.truncated")) for key, value, headers in letters}
    assert by_offset == {b"1": (b"device", b"", b"%d" % (LARGE_BYTES + 7)), b"3": (b"device", b"x", None)}
    assert len(letters) == 2 or delivery == "at_least_once"
    assert f"topic '{name}.dead' (dead_letters.topic): a message was refused" in (tmp_path / "worker.log").read_text()


@CLIENTS
@DELIVERIES
def test_a_topic_too_small_for_any_letter_ends_the_worker_and_the_remedies_work(
    bootstrap_servers: str, topic: NewTopic, tmp_path: Path, model: Path, client: str, delivery: str
) -> None:
    name = topic(1, "letters")
    create(bootstrap_servers, name, {"max.message.bytes": "200"})
    configured(tmp_path, model, client, delivery, name, bootstrap_servers)
    write(bootstrap_servers, name, GOOD, b"x", GOOD)
    with worker(tmp_path, "worker") as process:
        assert process.wait(WAIT_S) == 1
    said = last_line(tmp_path)
    assert f"the dead letter of {name}/0 offset 1 (not_json) can't be written" in said
    assert "by a larger max.message.bytes, or set dead_letters.topic: null" in said
    if client == "confluent":
        admin = AdminClient({"bootstrap.servers": bootstrap_servers})
        entry = ConfigEntry("max.message.bytes", "10000", incremental_operation=AlterConfigOpType.SET)
        larger = ConfigResource(ConfigResource.Type.TOPIC, f"{name}.dead", incremental_configs=[entry])
        for answer in admin.incremental_alter_configs([larger]).values():
            answer.result()
    else:
        keys = yaml.safe_load((tmp_path / "worker.yaml").read_text())
        (tmp_path / "worker.yaml").write_text(yaml.safe_dump({**keys, "dead_letters": {"topic": None}}))
    with worker(tmp_path, "worker") as process:
        eventually(lambda: process.poll() is not None or is_committed(bootstrap_servers, name, 3))
        assert process.poll() is None
    if client == "confluent":
        assert {letter[:2] for letter in records(bootstrap_servers, f"{name}.dead", 1)} == {(b"device", b"x")}


@CLIENTS
@DELIVERIES
def test_a_topic_that_is_missing_is_named_with_its_key_and_the_remedy_works(
    bootstrap_servers: str, topic: NewTopic, tmp_path: Path, model: Path, client: str, delivery: str
) -> None:
    name = topic(1, "letters")
    create(bootstrap_servers, name, None)
    sooner = {"max_block_ms": 5_000} if client == "kafka-python" else {}
    configured(tmp_path, model, client, delivery, name, bootstrap_servers, producer=sooner)
    write(bootstrap_servers, name, GOOD, b"x")
    with worker(tmp_path, "worker") as process:
        assert process.wait(WAIT_S) == 1
    assert last_line(tmp_path).endswith(
        f"topic '{name}.dead' (dead_letters.topic) does not exist: create it, or name another one"
    )
    create(bootstrap_servers, name, {})
    with worker(tmp_path, "worker") as process:
        eventually(lambda: process.poll() is not None or is_committed(bootstrap_servers, name, 2))
        assert process.poll() is None
    assert {letter[1] for letter in records(bootstrap_servers, f"{name}.dead", 1)} == {b"x"}


@CLIENTS
@DELIVERIES
def test_a_topic_that_is_deleted_while_running_is_named_with_its_key_and_the_remedy_works(
    bootstrap_servers: str, topic: NewTopic, tmp_path: Path, model: Path, client: str, delivery: str
) -> None:
    name = topic(1, "letters")
    create(bootstrap_servers, name, {})
    sooner = {"delivery_timeout_ms": 12_000, "request_timeout_ms": 5_000} if client == "kafka-python" else {}
    configured(tmp_path, model, client, delivery, name, bootstrap_servers, producer=sooner)
    write(bootstrap_servers, name, GOOD)
    with worker(tmp_path, "worker") as process:
        eventually(lambda: process.poll() is not None or is_committed(bootstrap_servers, name, 1))
        with KafkaAdminClient(bootstrap_servers=bootstrap_servers) as admin:
            admin.delete_topics([f"{name}.out"])
        write(bootstrap_servers, name, GOOD)
        assert process.wait(WAIT_S) == 1
    said = last_line(tmp_path)
    assert f"topic '{name}.out' (output.topic) " in said
    assert said.endswith("does not exist: create it, or name another one") or "was deleted while" in said
    reached(lambda: ensure_topics(ClientSettings(bootstrap_servers), {f"{name}.out": 1}))
    with worker(tmp_path, "worker") as process:
        eventually(lambda: process.poll() is not None or is_committed(bootstrap_servers, name, 2))
        assert process.poll() is None


GIVEN_UP_SOON = {
    "kafka-python": {"delivery_timeout_ms": 4_000, "request_timeout_ms": 3_000},
    "confluent": {"delivery.timeout.ms": 4_000},
}


@CLIENTS
@pytest.mark.broker
def test_outputs_that_the_client_has_given_up_are_written_again(tmp_path: Path, model: Path, client: str) -> None:
    """Brokers that take nothing for long: workers wait, and do not end."""
    name, options = "letters", GIVEN_UP_SOON[client]
    with proxied_broker() as (broker, proxy):
        direct = broker.bootstrap_servers
        create(direct, name, {})
        port = configured(tmp_path, model, client, "at_least_once", name, proxy.bootstrap_servers, producer=options)
        write(direct, name, GOOD)
        with worker(tmp_path, "worker") as process:
            eventually(lambda: process.poll() is not None or is_committed(direct, name, 1), WAIT_S)
            proxy.hold_requests(PRODUCE)
            write(direct, name, GOOD, GOOD)
            eventually(lambda: process.poll() is not None or metrics(port)["rnnw_rollbacks_total"] > 0, WAIT_S)
            proxy.release()
            eventually(lambda: process.poll() is not None or is_committed(direct, name, 3), WAIT_S)
            assert process.poll() is None
            assert metrics(port)['rnnw_client_errors_total{kind="delivery_failed"}'] > 0
        steps = [json.loads(value or b"")["step"] for _, value, _ in records(direct, f"{name}.out", 3)]
    assert sorted(set(steps)) == [1, 2, 3]


@pytest.fixture(scope="module")
def guarded() -> Iterator[EmbeddedKafka]:
    """A broker where everybody may do what nobody has been denied."""
    properties = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    with EmbeddedKafka(properties=properties) as broker:
        yield broker


def right(topic: str, kind: AclPermissionType) -> AclBinding:
    return AclBinding(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", AclOperation.WRITE, kind
    )


@pytest.mark.broker
@CLIENTS
@DELIVERIES
@pytest.mark.parametrize("key", ["output.topic", "dead_letters.topic"])
def test_a_right_that_is_taken_away_while_running_is_told_with_its_topic_and_the_remedy_works(
    guarded: EmbeddedKafka, tmp_path: Path, model: Path, client: str, delivery: str, key: str
) -> None:
    servers, name = guarded.bootstrap_servers, f"rights-{client}-{delivery}-{key.split('.')[0]}"
    create(servers, name, {})
    port = configured(tmp_path, model, client, delivery, name, servers)
    taken = f"{name}.out" if key == "output.topic" else f"{name}.dead"
    admin = AdminClient({"bootstrap.servers": servers})
    write(servers, name, GOOD, b"x")
    with worker(tmp_path, "worker") as process:
        eventually(lambda: process.poll() is not None or is_committed(servers, name, 2))
        assert get(port, "/readyz")[0] == 200
        for answer in admin.create_acls([right(taken, AclPermissionType.DENY)]).values():
            answer.result()
        write(servers, name, GOOD, b"x")
        assert process.wait(WAIT_S) == 1
    said = last_line(tmp_path)
    assert f"topic '{taken}' ({key})" in said
    assert "may not be written" in said
    if (client, delivery) != ("confluent", "exactly_once"):  # to that client nobody says which topic of a transaction
        assert f"topic '{taken}' ({key}) may not be written" in said
    assert "give this user the rights Write and Describe on it, or check kafka.security" in said
    every = AclBindingFilter(
        ResourceType.TOPIC, taken, ResourcePatternType.LITERAL, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    for removed in admin.delete_acls([every]).values():
        removed.result()
    with worker(tmp_path, "worker") as process:
        eventually(lambda: process.poll() is not None or is_committed(servers, name, 4))
        assert process.poll() is None
