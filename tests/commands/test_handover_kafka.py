"""Blue and green on real Kafka: a new group begins where the old one has stopped, nothing twice, nothing lost."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import NewPartitions

from tests.command_line import Command
from tests.conftest import NewTopic, eventually
from tests.running import TOLERANCE, WAIT_S, Reader, check_outputs, identities, send, worker
from tests.sequences import FEATURES, Log, configuration, expected, make_log, save_model
from worker.model.backend import keras

PARTITIONS = 3
EVENTS, STREAMS = 600, 20
HALF = "half.keras"
SESSION = {"kafka-python": {"session_timeout_ms": 6000}, "confluent": {"session.timeout.ms": 6000}}

Place = tuple[Path, tuple[str, str, str], Reader, Any]


@pytest.fixture
def place(tmp_path: Path, bootstrap_servers: str, topic: NewTopic) -> Iterator[Place]:
    """(folder, topics, reader of outputs, a model that answers every prefix)."""
    every = save_model(tmp_path / "model.keras")
    topics = (topic(PARTITIONS, "readings"), topic(PARTITIONS, "probabilities"), topic(1, "dead"))
    outputs = Reader(bootstrap_servers, topics[1])
    yield tmp_path, topics, outputs, every
    outputs.close()


@pytest.fixture
def configured(place: Place, bootstrap_servers: str) -> Callable[..., str]:
    """Writes the configuration of one of the groups; answers the file."""

    def write(colour: str, client: str, delivery: str = "exactly_once", **more: Any) -> str:
        folder, topics, _, _ = place
        settings = configuration(folder, bootstrap_servers, client, topics, delivery=delivery)
        settings["kafka"] |= {"group_id": f"{colour}-{topics[0]}", "consumer": SESSION[client]}
        for section, keys in more.items():
            settings[section] |= keys
        (folder / f"{colour}.yaml").write_text(yaml.safe_dump(settings))
        return str(folder / f"{colour}.yaml")

    return write


def play(place: Place, servers: str, colour: str, log: Log, start: int, stop: int, end: int = signal.SIGTERM) -> None:
    """A worker of this group that answers these events of the log, and ends."""
    folder, topics, outputs, _ = place
    with worker(folder, f"{colour} from {start}", f"{colour}.yaml") as process:
        send(servers, topics[0], log, start, stop)
        eventually(lambda: outputs.count() >= stop or process.poll() is not None, WAIT_S)
        process.send_signal(end)
        assert process.wait(WAIT_S) == (0 if end == signal.SIGTERM else -end)


def handed(command: Command, file: str, old: str, new: str, place: Place, *more: str) -> Any:
    topic = place[1][0]
    return command("handover", "--from", f"{old}-{topic}", "--to", f"{new}-{topic}", "-c", file, *more)


def check_all(place: Place, servers: str, log: Log) -> None:
    """Every event was answered once, with the states that it has without any handover."""
    _, topics, outputs, every = place
    outputs.count()
    source = Reader(servers, topics[0])
    eventually(lambda: source.count() == EVENTS)
    source.close()
    assert len(identities(outputs.values())) == len(outputs.values())
    check_outputs(log, every, source.batches, outputs.values())


@pytest.mark.parametrize(
    ("client", "delivery", "end"),
    [
        ("kafka-python", "exactly_once", signal.SIGKILL),
        ("confluent", "exactly_once", signal.SIGKILL),
        ("kafka-python", "at_least_once", signal.SIGTERM),
    ],
)
def test_green_goes_on_where_blue_has_stopped_and_blue_after_green(
    place: Place,
    configured: Callable[..., str],
    command: Command,
    bootstrap_servers: str,
    client: str,
    delivery: str,
    end: int,
) -> None:
    log = make_log(EVENTS, STREAMS)
    topic = place[1][0]
    blue, green = (configured(colour, client, delivery) for colour in ("blue", "green"))
    play(place, bootstrap_servers, "blue", log, 0, EVENTS // 3, end)
    over = handed(command, green, "blue", "green", place)
    assert over.status == 0, over.err
    assert over.out.endswith(f"ok: 'green-{topic}' begins where 'blue-{topic}' has stopped, in 3 partitions\n")
    play(place, bootstrap_servers, "green", log, EVENTS // 3, 2 * EVENTS // 3, end)
    refused = handed(command, blue, "green", "blue", place)
    assert refused.status == 1
    remedy = f"take a new name, or delete them (kafka-consumer-groups.sh --delete-offsets --group blue-{topic} --topic"
    assert remedy in refused.err
    delete_offsets(bootstrap_servers, f"blue-{topic}", topic)
    back = handed(command, blue, "green", "blue", place)
    assert back.status == 0, back.err
    play(place, bootstrap_servers, "blue", log, 2 * EVENTS // 3, EVENTS)
    check_all(place, bootstrap_servers, log)
    if end == signal.SIGTERM:  # a worker that was killed so soon has left no checkpoint, and its log is replayed
        assert {output["origin"] for output in place[2].values()} == {"live", "restored"}


@pytest.mark.parametrize(
    ("client", "delivery", "ways"),
    [("kafka-python", "at_least_once", ("blue", "blue")), ("confluent", "exactly_once", ("blue", "green"))],
)
def test_a_new_model_begins_warm(
    place: Place,
    configured: Callable[..., str],
    command: Command,
    bootstrap_servers: str,
    client: str,
    delivery: str,
    ways: tuple[str, str],
) -> None:
    """In place, or under a new group: its answers are those of a model that has seen the whole log."""
    (folder, topics, outputs, _), log = place, make_log(EVENTS, STREAMS)
    configured("blue", client, delivery)
    play(place, bootstrap_servers, "blue", log, 0, EVENTS // 2)
    every = save_half(folder)
    warm = {"state": {"on_model_change": "warm", "warm": f"{EVENTS} events"}, "model": {"path": str(folder / HALF)}}
    new = configured(ways[1], client, delivery, **warm)
    if ways[1] == "green":
        over = handed(command, new, *ways, place)
        assert over.status == 0, over.err
        assert "none: the checkpoints are of model " in over.out
    play(place, bootstrap_servers, ways[1], log, EVENTS // 2, EVENTS)
    source = Reader(bootstrap_servers, topics[0])
    eventually(lambda: source.count() == EVENTS)
    source.close()
    values = outputs.values()
    assert len(identities(values)) == EVENTS == len(values)
    check_second_half(log, every, source, values[EVENTS // 2 :])


def check_second_half(log: Log, every: Any, source: Reader, outputs: list[dict[str, Any]]) -> None:
    wanted, steps = expected(log, every)
    index_of = {value: index for index, value in enumerate(log.values)}
    index_at = {
        (batch.partition.number, offset): index_of[value or b""]
        for batch in source.batches
        for offset, value in zip(batch.offsets, batch.values, strict=True)
    }
    found = [index_at[output["source"]["partition"], output["source"]["offset"]] for output in outputs]
    assert sorted(found) == list(range(EVENTS // 2, EVENTS))
    assert [output["step"] for output in outputs] == [steps[index] for index in found]
    assert np.abs(np.array([each["probabilities"] for each in outputs]) - wanted[found]).max() <= TOLERANCE
    assert {each["origin"] for each in outputs} == {"rebuilt", "live"}  # after a boundary a state is live again


def save_half(folder: Path) -> Any:
    """Another model of the same layers."""
    every = save_model(folder / HALF)
    model = keras.saving.load_model(folder / HALF)
    weights = [weight / 2 for weight in model.get_weights()]
    for each in (model, every):
        each.set_weights(weights)
    model.save(folder / HALF)
    return every


def delete_offsets(servers: str, group: str, topic: str) -> None:
    """What the remedy's command does."""
    with KafkaAdminClient(bootstrap_servers=servers) as admin:
        admin.delete_group_offsets(group, [TopicPartition(topic, number) for number in range(PARTITIONS)])


def test_it_waits_for_the_old_group_and_takes_nothing_from_a_running_one(
    place: Place, configured: Callable[..., str], command: Command, bootstrap_servers: str
) -> None:
    log, (folder, topics, outputs, _) = make_log(EVENTS, STREAMS), place
    blue, green = (configured(colour, "confluent") for colour in ("blue", "green"))
    nothing = handed(command, green, "blue", "green", place)
    assert (nothing.status, nothing.err) == (
        1,
        f"worker: group 'blue-{topics[0]}' has committed no offset of '{topics[0]}'; check the name after --from\n",
    )
    with worker(folder, "blue", "blue.yaml") as process:
        send(bootstrap_servers, topics[0], log, 0, EVENTS)
        eventually(lambda: outputs.count() >= EVENTS or process.poll() is not None, WAIT_S)
        busy = handed(command, green, "blue", "green", place, "--wait", "0s")
        assert busy.status == 1
        assert busy.err == (
            f"worker: group 'blue-{topics[0]}' has 1 member (member-1) after 0 s; stop its workers, or wait for longer "
            "(--wait)\n"
        )
        taken = handed(command, blue, "green", "blue", place)
        assert taken.status == 1
        assert taken.err == (
            f"worker: group 'blue-{topics[0]}' has 1 member (member-1) already; stop its workers: they begin where the "
            "first group stops only if they start after the handover\n"
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    tried = handed(command, green, "blue", "green", place, "--dry-run")
    assert tried.status == 0, tried.err
    assert "dry run: nothing was changed" in tried.out
    assert not (folder / "state" / f"green-{topics[0]}").exists()
    turned = {"features": list(reversed(FEATURES))}
    others = handed(command, configured("other", "confluent", input=turned), "blue", "green", place, "--dry-run")
    assert others.out.count("none: the checkpoints are of another input (input.features was ") == PARTITIONS
    assert f"states      would go on in 0 of {PARTITIONS} partitions; in the others" in others.out
    done, again = (handed(command, green, "blue", "green", place) for _ in range(2))
    assert (done.status, again.status) == (0, 0)
    assert tried.out.splitlines()[:4] == done.out.splitlines()[:4] == again.out.splitlines()[:4]
    assert again.out.endswith(f"ok: 'green-{topics[0]}' has these offsets already, nothing was changed\n")
    with KafkaAdminClient(bootstrap_servers=bootstrap_servers) as admin:
        admin.create_partitions({topics[0]: NewPartitions(PARTITIONS + 1)})
    grown: list[Any] = []

    def is_seen() -> bool:
        grown.append(handed(command, green, "blue", "later", place))
        return bool(grown[-1].status)

    eventually(is_seen, WAIT_S)
    change = f"the topic has {PARTITIONS + 1} partitions and had {PARTITIONS} when its checkpoints were written"
    assert change in grown[-1].err
