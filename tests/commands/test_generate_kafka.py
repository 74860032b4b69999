"""Task generate as users run it, on real Kafka: every text right, whoever dies or comes in the middle of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.command_line import Command
from tests.conftest import NewTopic, eventually
from tests.generating import Requests, Told, by_record, configuration, expected, make_requests, save_model
from tests.running import WAIT_S, Reader, final_checkpoints, worker, worker_anew
from worker.kafka.opening import open_sink
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages

PARTITIONS = 3
RECORDS, STREAMS, LONGEST = 120, 12, 2_000
KILLS = 2

Place = tuple[Path, tuple[str, str, str], Reader, Reader, Any]
CLIENTS = ["kafka-python", "confluent"]


@pytest.fixture
def place(tmp_path: Path, bootstrap_servers: str, topic: NewTopic) -> Iterator[Place]:
    """(folder, topics, readers of outputs and dead letters, trained model)."""
    model = save_model(tmp_path / "model.keras")
    topics = (topic(PARTITIONS, "prompts"), topic(PARTITIONS, "texts"), topic(1, "dead"))
    outputs, dead = Reader(bootstrap_servers, topics[1]), Reader(bootstrap_servers, topics[2])
    yield tmp_path, topics, outputs, dead, model
    outputs.close()
    dead.close()


def configured(place: Place, servers: str, client: str, delivery: str, emit: str) -> tuple[Requests, list[Told]]:
    """Write the configuration; the records to send, and what must come of them."""
    folder, topics, _, _, model = place
    settings = configuration(folder, servers, client, topics, delivery, emit)
    (folder / "worker.yaml").write_text(yaml.safe_dump(settings))
    settings["kafka"]["instance_id"] = "member-2"
    (folder / "second.yaml").write_text(yaml.safe_dump(settings))
    requests = make_requests(RECORDS, STREAMS, LONGEST)
    return requests, expected(requests, model)


def send(servers: str, topic: str, requests: Requests) -> None:
    sink = open_sink(ClientSettings(servers, "confluent"))
    sink.send(topic, Messages(requests.keys, requests.values))
    sink.flush(120)
    sink.close(30)


def sources(servers: str, topic: str, requests: Requests) -> dict[tuple[int, int], int]:
    """(partition, offset) → which of the requests it is."""
    reader = Reader(servers, topic)
    eventually(lambda: reader.count() == len(requests.keys))
    reader.close()
    waiting: dict[tuple[bytes, bytes], list[int]] = {}
    for index, record in enumerate(zip(requests.keys, requests.values, strict=True)):
        waiting.setdefault(record, []).append(index)
    return {
        (batch.partition.number, offset): waiting[key or b"", value or b""].pop(0)
        for batch in reader.batches
        for offset, key, value in zip(batch.offsets, batch.keys, batch.values, strict=True)
    }


def messages_of(told: Told, emit: str) -> int:
    """How many outputs a record has."""
    if emit == "every_event":
        return 1
    return len(told.tokens) + (told.finish == "stop")


def check(outputs: list[dict[str, Any]], told: list[Told], index_of: dict[tuple[int, int], int], emit: str) -> None:
    """Every text, and every item of it, once and in order."""
    found = by_record(outputs)
    assert set(found) == {where for where, index in index_of.items() if messages_of(told[index], emit)}
    for where, answers in found.items():
        wanted = told[index_of[where]]
        assert len(answers) == messages_of(wanted, emit), (where, len(answers))
        assert "".join(answer["text"] for answer in answers) == wanted.text, where
        assert [answer.get("finish") for answer in answers] == [None] * (len(answers) - 1) + [wanted.finish]
        assert answers[-1]["step"] == wanted.step
        if emit == "every_item":
            assert [answer["source"]["item"] for answer in answers] == list(range(len(answers)))
        else:
            assert answers[0]["tokens"] == wanted.tokens


def once(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without repeats, which must say what the first one said."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for output in outputs:
        first = found.setdefault(tuple(output["source"].values()), output)
        assert {**first, "origin": ""} == {**output, "origin": ""}
    return sorted(found.values(), key=lambda output: output["source"].get("item", 0))


@pytest.mark.parametrize("client", CLIENTS)
def test_every_text_is_what_the_model_writes_alone(place: Place, bootstrap_servers: str, client: str) -> None:
    folder, topics, outputs, dead, _ = place
    requests, told = configured(place, bootstrap_servers, client, "exactly_once", "every_event")
    with worker_anew(folder, "worker") as process:
        send(bootstrap_servers, topics[0], requests)
        eventually(lambda: outputs.count() >= RECORDS or process.poll() is not None, WAIT_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    assert outputs.count() == RECORDS
    assert dead.count() == 0
    index_of = sources(bootstrap_servers, topics[0], requests)
    check(outputs.values(), told, index_of, "every_event")
    ends = {number: 1 + max(at for part, at in index_of if part == number) for number, _ in index_of}
    assert final_checkpoints(folder, topics[0]) == ends


@pytest.mark.parametrize(
    ("client", "delivery", "emit"),
    [
        ("kafka-python", "exactly_once", "every_item"),
        ("confluent", "exactly_once", "every_item"),
        ("kafka-python", "exactly_once", "every_event"),
        ("confluent", "at_least_once", "every_event"),
        ("kafka-python", "at_least_once", "every_item"),
    ],
)
def test_kill_9_in_the_middle_of_texts(
    place: Place, bootstrap_servers: str, client: str, delivery: str, emit: str
) -> None:
    """In transactions not one item is missing or repeated; otherwise repeats say the same."""
    folder, topics, outputs, dead, _ = place
    requests, told = configured(place, bootstrap_servers, client, delivery, emit)
    all_messages = sum(messages_of(each, emit) for each in told)
    send(bootstrap_servers, topics[0], requests)
    for life in range(KILLS):
        before, more = outputs.count(), all_messages // (3 * KILLS)
        with worker(folder, f"life-{life}") as process:
            enough = min(before + more, all_messages)
            eventually(lambda: outputs.count() >= enough or process.poll() is not None, WAIT_S)  # noqa: B023
            assert process.poll() is None, "the worker ended by itself"
            os.kill(process.pid, signal.SIGKILL)
    with worker(folder, "last life") as process:
        eventually(lambda: outputs.count() and len(once(outputs.values())) == all_messages, WAIT_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    outputs.count()
    answers = once(outputs.values())
    assert delivery == "at_least_once" or len(answers) == outputs.count()
    check(answers, told, sources(bootstrap_servers, topics[0], requests), emit)
    assert dead.count() == 0


def has_joined(folder: Path, name: str) -> bool:
    """Whether this worker has taken over partitions."""
    return "from checkpoint" in (folder / f"{name}.log").read_text()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_second_worker_takes_over_in_the_middle(place: Place, bootstrap_servers: str, client: str) -> None:
    """Partitions move while texts are being written: to a new member, and back when it leaves."""
    folder, topics, outputs, dead, _ = place
    requests, told = configured(place, bootstrap_servers, client, "exactly_once", "every_item")
    all_messages = sum(messages_of(each, "every_item") for each in told)
    send(bootstrap_servers, topics[0], requests)
    with worker(folder, "first") as first:
        eventually(lambda: outputs.count() > all_messages // 20 or first.poll() is not None, WAIT_S)
        with worker(folder, "second", "second.yaml") as second:
            eventually(lambda: has_joined(folder, "second") or second.poll() is not None, WAIT_S)
            before = outputs.count()
            eventually(lambda: outputs.count() > before or outputs.count() == all_messages, WAIT_S)
            second.send_signal(signal.SIGTERM)
            assert second.wait(WAIT_S) == 0
        eventually(lambda: outputs.count() == all_messages or first.poll() is not None, WAIT_S)
        first.send_signal(signal.SIGTERM)
        assert first.wait(WAIT_S) == 0
    assert outputs.count() == all_messages
    check(once(outputs.values()), told, sources(bootstrap_servers, topics[0], requests), "every_item")
    assert dead.count() == 0


def test_another_group_completes_what_was_begun(place: Place, bootstrap_servers: str, command: Command) -> None:
    """Handed over in the middle of texts: not one item is missing or repeated."""
    folder, topics, outputs, dead, _ = place
    requests, told = configured(place, bootstrap_servers, "confluent", "exactly_once", "every_item")
    all_messages = sum(messages_of(each, "every_item") for each in told)
    settings = yaml.safe_load((folder / "worker.yaml").read_text())
    blue, green = settings["kafka"]["group_id"], f"green-{topics[0]}"
    settings["kafka"]["group_id"] = green
    (folder / "green.yaml").write_text(yaml.safe_dump(settings))
    slow = {**settings, "kafka": {**settings["kafka"], "group_id": blue}, "batch": {"max_events": 1}}
    (folder / "worker.yaml").write_text(yaml.safe_dump(slow))  # an item per turn: it can't be done too early
    send(bootstrap_servers, topics[0], requests)
    with worker(folder, "blue") as process:
        eventually(lambda: outputs.count() > 0 or process.poll() is not None, WAIT_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    over = command("handover", "--from", blue, "--to", green, "-c", str(folder / "green.yaml"))
    assert over.status == 0, over.err
    assert outputs.count() < all_messages
    with worker(folder, "green", "green.yaml") as process:
        eventually(lambda: outputs.count() >= all_messages or process.poll() is not None, WAIT_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    assert outputs.count() == all_messages
    check(once(outputs.values()), told, sources(bootstrap_servers, topics[0], requests), "every_item")
    assert dead.count() == 0
    assert "answers to complete" in (folder / "green.log").read_text()
