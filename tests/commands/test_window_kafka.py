"""A model that can't be streamed, on windows of real records: each answer is the model's, across a restart."""

from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.conftest import NewTopic, eventually
from tests.running import TOLERANCE, WAIT_S, Reader, identities, send, worker
from tests.sequences import FEATURES, Log, by_stream, configuration, make_log
from worker.model.backend import keras

L = keras.layers
EVENTS, STREAMS, N, EVERY = 2_000, 20, 5, 2


def save_both_ways(path: Path) -> Any:
    keras.utils.set_random_seed(8)
    model = keras.Sequential([keras.Input((N, len(FEATURES))), L.Bidirectional(L.GRU(4)), L.Dense(3, "softmax")])
    model.save(path)
    return model


def wanted(log: Log, model: Any) -> dict[int, tuple[int, Any]]:
    """Event → (its step, the model's answer) of those that are answered: the window is full, and it is their turn."""
    events, windows = [], []
    for sequence in log.sequences:
        for step in range(1, len(sequence) + 1):
            if step >= N and step % EVERY == 0:
                events.append((sequence[step - 1], step))
                windows.append([log.vectors[index] for index in sequence[step - N : step]])
    answers = model.predict(np.array(windows, np.float32), verbose=0)
    return {event: (step, answer) for (event, step), answer in zip(events, answers, strict=True)}


def answered(outputs: Reader, due: int, process: Any) -> bool:
    return outputs.count() >= due or process.poll() is not None


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_each_answer_is_the_models_on_the_window_across_a_restart(
    tmp_path: Path, bootstrap_servers: str, topic: NewTopic, delivery: str
) -> None:
    model = save_both_ways(tmp_path / "model.keras")
    topics = (topic(2, "readings"), topic(2, "probabilities"), topic(1, "dead"))
    settings = configuration(tmp_path, bootstrap_servers, "confluent", topics, delivery=delivery)
    settings["model"] |= {"window": N, "every": EVERY}
    (tmp_path / "worker.yaml").write_text(yaml.safe_dump(settings))
    log = make_log(EVENTS, STREAMS)
    answers = wanted(log, model)
    outputs, dead = Reader(bootstrap_servers, topics[1]), Reader(bootstrap_servers, topics[2])
    index_of = {value: index for index, value in enumerate(log.values)}
    for life, (start, stop) in enumerate(((0, EVENTS // 2), (EVENTS // 2, EVENTS))):
        due = sum(index < stop for index in answers)
        with worker(tmp_path, f"life-{life}") as process:
            send(bootstrap_servers, topics[0], log, start, stop)
            eventually(partial(answered, outputs, due, process), WAIT_S)
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0
    assert outputs.count() == len(answers)
    assert dead.count() == 0
    source = Reader(bootstrap_servers, topics[0])
    eventually(lambda: source.count() == EVENTS)
    source.close()
    at = {
        (batch.partition.topic, batch.partition.number, offset): index_of[value or b""]
        for batch in source.batches
        for offset, value in zip(batch.offsets, batch.values, strict=True)
    }
    found = outputs.values()
    assert len(identities(found)) == len(found)
    for output in found:
        step, answer = answers.pop(at[tuple(output["source"].values())])
        assert output["step"] == step, json.dumps(output)
        np.testing.assert_allclose(output["probabilities"], answer, atol=TOLERANCE)
    assert not answers
    for stream, some in by_stream(found).items():
        places = [output["source"]["offset"] for output in some]
        assert places == sorted(places), stream
    assert {output["origin"] for output in found} == {"live", "restored"}
    outputs.close()
    dead.close()
