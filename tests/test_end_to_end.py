"""The worker as users run it, on real Kafka: every output right, exactly one per event; and what a kill -9 costs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from tests.conftest import eventually
from tests.running import WAIT_S, Reader, check_outputs, final_checkpoints, identities, send, worker
from tests.sequences import Log, configuration, make_log, save_model

PARTITIONS = 4
EVENTS, STREAMS = 20_000, 200
KILLS = 10


@pytest.fixture
def place(tmp_path: Path, bootstrap_servers: str, topic: Callable[..., str]) -> Iterator[tuple[Any, ...]]:
    """(folder, topics, readers of outputs and dead letters, model that answers every prefix)."""
    every = save_model(tmp_path / "model.keras")
    topics = (topic(PARTITIONS, "readings"), topic(PARTITIONS, "probabilities"), topic(1, "dead"))
    outputs, dead = Reader(bootstrap_servers, topics[1]), Reader(bootstrap_servers, topics[2])
    yield tmp_path, topics, outputs, dead, every
    outputs.close()
    dead.close()


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_every_output_is_the_model_on_the_prefix(place: tuple[Any, ...], bootstrap_servers: str, client: str) -> None:
    folder, topics, outputs, dead, every = place
    log = make_log(EVENTS, STREAMS)
    settings = configuration(folder, bootstrap_servers, client, topics)
    (folder / "worker.yaml").write_text(yaml.safe_dump(settings))
    with worker(folder, "worker") as process:
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
    assert final_checkpoints(folder, topics[0]) == {
        batch.partition.number: batch.next_offset for batch in source.batches
    }


@pytest.mark.parametrize(("client", "kills"), [("kafka-python", KILLS), ("confluent", KILLS)])
def test_kill_9_under_load(place: tuple[Any, ...], bootstrap_servers: str, client: str, kills: int) -> None:
    """Nothing lost, repeats only with the same identity and the same probabilities, the same states at the end."""
    folder, topics, outputs, _, every = place
    log = make_log(EVENTS, STREAMS)
    settings = configuration(folder, bootstrap_servers, client, topics)
    (folder / "worker.yaml").write_text(yaml.safe_dump(settings))
    stop = threading.Event()

    def load() -> None:
        # A wave of records for every life of the worker, in small pieces, so that each is killed while it works.
        for start in range(0, EVENTS, 100):
            send(bootstrap_servers, topics[0], log, start, start + 100)
            # Never further ahead than what two lives of the worker will read.
            while not stop.wait(0.01) and start > outputs_seen[0] + 2 * EVENTS // kills:
                pass

    outputs_seen = [0]
    sender = threading.Thread(target=load)
    sender.start()
    try:
        for life in range(kills):
            with worker(folder, f"life-{life}") as process:
                enough = min(EVENTS - 500, outputs_seen[0] + EVENTS // (kills + 2))

                def seen(enough: int = enough, process: Any = process) -> bool:
                    outputs_seen[0] = outputs.count()
                    return outputs_seen[0] >= enough or process.poll() is not None

                eventually(seen, WAIT_S)
                assert process.poll() is None, "the worker ended by itself"
                os.kill(process.pid, signal.SIGKILL)
        with worker(folder, "last life") as process:

            def complete() -> bool:
                outputs_seen[0] = outputs.count()
                return len(identities(outputs.values())) == EVENTS or process.poll() is not None

            eventually(complete, WAIT_S)
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0
    finally:
        stop.set()
        outputs_seen[0] = EVENTS * 10
        sender.join()
    outputs.count()
    once = identities(outputs.values())
    source = Reader(bootstrap_servers, topics[0])
    eventually(lambda: source.count() == EVENTS)
    source.close()
    check_outputs(log, every, source.batches, list(once.values()))
    assert {"live", "restored"} <= {output["origin"] for output in once.values()}
    check_states(folder, topics[0], every, log)


def check_states(folder: Path, topic: str, every: Any, log: Log) -> None:
    """The newest checkpoints hold, for every stream, what plain Keras layers hold after the stream's last sequence."""
    from tests.models import keras

    last = {log.keys[sequence[-1]].decode(): sequence for sequence in sorted(log.sequences, key=lambda s: s[-1])}
    lstm, leaky, gru = every.layers[0], every.layers[1], every.layers[2]
    lstm.return_state = gru.return_state = True
    seen = 0
    for number, offset in final_checkpoints(folder, topic).items():
        with h5py.File(folder / "state" / topic / str(number) / f"{offset:020d}.h5") as file:
            for row, key in enumerate(file["keys"][:]):
                sequence = last[key.decode()]
                x = np.array([[log.vectors[index] for index in sequence]], np.float32)
                outer, h, c = lstm(x)
                _, inner = gru(leaky(outer))
                states = {name: value[row] for layer in file["states"].values() for name, value in layer.items()}
                assert file["steps"][row] == len(sequence)
                found = {f"{layer}/{name}" for layer in file["states"] for name in file["states"][layer]}
                lstm_name, gru_name = sorted({name.split("/")[0] for name in found}, reverse=True)
                for layer, name, wanted in ((lstm_name, "h", h), (lstm_name, "c", c), (gru_name, "h", inner)):
                    state = file[f"states/{layer}/{name}"][row]
                    np.testing.assert_allclose(state, keras.ops.convert_to_numpy(wanted)[0], atol=1e-5)
                assert states
                seen += 1
    assert seen == len(last)
