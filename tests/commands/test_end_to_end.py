"""The worker as users run it, on real Kafka: every output right, exactly one per event; and what a kill -9 costs."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from tests.conftest import NewTopic, eventually
from tests.depth import DEEP, deep
from tests.running import WAIT_S, Reader, check_outputs, final_checkpoints, identities, send, worker, worker_anew
from tests.sequences import FEATURES, Log, configuration, make_log, save_model
from worker.kafka.opening import open_sink
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages

PARTITIONS = 4
EVENTS, STREAMS = 20_000, 200
KILLS = 10 if DEEP else 4  # the law itself is crashed at every call in tests/whole/test_crash_points.py
LIFE = 500  # outputs that a life writes before it may be killed
PIECE, PIECE_S = 50, 0.02  # events sent at once, and the pause after them


@pytest.fixture
def place(tmp_path: Path, bootstrap_servers: str, topic: NewTopic) -> Iterator[tuple[Any, ...]]:
    """(folder, topics, readers of outputs and dead letters, model that answers every prefix)."""
    every = save_model(tmp_path / "model.keras")
    topics = (topic(PARTITIONS, "readings"), topic(PARTITIONS, "probabilities"), topic(1, "dead"))
    outputs, dead = Reader(bootstrap_servers, topics[1]), Reader(bootstrap_servers, topics[2])
    yield tmp_path, topics, outputs, dead, every
    outputs.close()
    dead.close()


def configured(folder: Path, servers: str, client: str, delivery: str, topics: tuple[str, str, str]) -> Log:
    """Write the configuration; the log to play."""
    settings = configuration(folder, servers, client, topics, delivery=delivery)
    settings["output"]["copy"] = ["id", "last"]
    (folder / "worker.yaml").write_text(yaml.safe_dump(settings))
    return log_to_play()


@cache
def log_to_play() -> Log:
    """The same for all: nobody changes it."""
    return make_log(EVENTS, STREAMS)


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_every_output_is_the_model_on_the_prefix(
    place: tuple[Any, ...], bootstrap_servers: str, client: str, delivery: str
) -> None:
    folder, topics, outputs, dead, every = place
    log = configured(folder, bootstrap_servers, client, delivery, topics)
    as_typed = delivery == "at_least_once"  # once for each client: a start from nothing is seconds of a processor
    with (worker_anew if as_typed else worker)(folder, "worker") as process:
        send(bootstrap_servers, topics[0], log, 0, EVENTS)
        eventually(lambda: outputs.count() >= EVENTS or process.poll() is not None, WAIT_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    assert outputs.count() == EVENTS
    assert dead.count() == 0
    source = Reader(bootstrap_servers, topics[0])
    eventually(lambda: source.count() == EVENTS)
    source.close()
    check_outputs(log, every, source.batches, outputs.values())
    assert {str(output["fields"]["id"]) for output in outputs.values()} == {
        str(json.loads(value).get("id")) for value in log.values
    }
    assert all(bool(output["fields"]["last"]) == output["final"] for output in outputs.values())
    assert final_checkpoints(folder, topics[0]) == {
        batch.partition.number: batch.next_offset for batch in source.batches
    }


class Load(threading.Thread):
    """Sends the log in small pieces, as far as ``allowed``: each life has new events, and is killed among them."""

    def __init__(self, servers: str, topic: str, log: Log) -> None:
        super().__init__()
        self.allowed = 0  # events
        self._servers, self._topic, self._log = servers, topic, log
        self._hurry = threading.Event()

    def run(self) -> None:
        log, sink = self._log, open_sink(ClientSettings(self._servers, "confluent"))
        for start in range(0, EVENTS, PIECE):
            sink.send(self._topic, Messages(log.keys[start : start + PIECE], log.values[start : start + PIECE]))
            while not self._hurry.wait(PIECE_S) and start + PIECE >= self.allowed:
                pass
        sink.flush(WAIT_S)
        sink.close(WAIT_S)

    def finish(self) -> None:
        """Send what is left at once."""
        self._hurry.set()
        self.join()


@deep
@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_kill_9_under_load(place: tuple[Any, ...], bootstrap_servers: str, client: str, delivery: str) -> None:
    """Nothing lost, the same states at the end; repeats only with the same identity and the same probabilities.

    In transactions there are none.
    """
    folder, topics, outputs, _, every = place
    log = configured(folder, bootstrap_servers, client, delivery, topics)
    load = Load(bootstrap_servers, topics[0], log)
    load.start()
    try:
        for life in range(KILLS):
            before = outputs.count(), checkpoints(folder)
            load.allowed = (life + 1) * EVENTS // (KILLS + 1)
            with worker(folder, f"life-{life}") as process:

                def enough(before: Any = before, life: int = life, process: Any = process) -> bool:
                    # Every second life has time for a checkpoint, so that the next one resumes from it.
                    saved = life % 2 == 0 or checkpoints(folder) != before[1]
                    return (outputs.count() > before[0] + LIFE and saved) or process.poll() is not None

                eventually(enough, WAIT_S)
                assert process.poll() is None, "the worker ended by itself"
                os.kill(process.pid, signal.SIGKILL)
        load.finish()
        with worker(folder, "last life") as process:
            eventually(lambda: outputs.count() and len(identities(outputs.values())) == EVENTS, WAIT_S)
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0
    finally:
        load.finish()
    outputs.count()
    once = identities(outputs.values())
    assert delivery == "at_least_once" or len(once) == outputs.count()
    source = Reader(bootstrap_servers, topics[0])
    eventually(lambda: source.count() == EVENTS)
    source.close()
    check_outputs(log, every, source.batches, list(once.values()))
    assert "restored" in {output["origin"] for output in once.values()}
    check_states(folder, topics[0], every, log)


def checkpoints(folder: Path) -> set[Path]:
    """All checkpoint files."""
    return set((folder / "state").rglob("*.h5"))


def check_states(folder: Path, topic: str, every: Any, log: Log) -> None:
    """The newest checkpoints hold, for every stream, what plain Keras layers hold after the stream's last sequence."""
    last = {log.keys[sequence[-1]].decode(): sequence for sequence in sorted(log.sequences, key=lambda s: s[-1])}
    names = list(last)
    wanted = dict(zip(names, zip(*final_states(every, log, list(last.values())), strict=True), strict=True))
    seen = 0
    for number, offset in final_checkpoints(folder, topic).items():
        with h5py.File(folder / "state" / f"group-{topic}" / topic / str(number) / f"{offset:020d}.h5") as file:
            lstm, gru = sorted(file["states"], reverse=True)
            found = [file[f"states/{place}"][:] for place in (f"{lstm}/h", f"{lstm}/c", f"{gru}/h")]
            assert sum(len(layer) for layer in file["states"].values()) == len(found)
            for row, key in enumerate(file["keys"][:]):
                assert file["steps"][row] == len(last[key.decode()])
                for values, state in zip(found, wanted[key.decode()], strict=True):
                    np.testing.assert_allclose(values[row], state, atol=1e-5)
                seen += 1
    assert seen == len(last)


def final_states(every: Any, log: Log, sequences: list[list[int]]) -> list[Any]:
    """The arrays (sequences, units) that the LSTM (h, c) and the GRU hold at the end of each sequence."""
    from worker.model.backend import keras

    x = np.zeros((len(sequences), max(map(len, sequences)), len(FEATURES)), np.float32)
    there = np.zeros(x.shape[:2], np.bool_)
    for row, sequence in enumerate(sequences):
        x[row, : len(sequence)], there[row, : len(sequence)] = [log.vectors[index] for index in sequence], True
    lstm, leaky, gru = every.layers[:3]
    lstm.return_state = gru.return_state = True
    outer, h, c = lstm(x, mask=there)
    _, inner = gru(leaky(outer), mask=there)
    return [keras.ops.convert_to_numpy(state) for state in (h, c, inner)]
