"""Running workers for tests: the process, what it wrote, what it answers, and whether every output is right."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.forked import WorkerProcess
from tests.sequences import Log, by_stream, expected
from worker.kafka.opening import open_sink, open_source
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages
from worker.records.ownership import Assigned, Change, Partition
from worker.records.record_batch import RecordBatch

TOLERANCE = 1e-4
WAIT_S = 300.0
HTTP_TIMEOUT_S = 60.0


@contextmanager
def worker(folder: Path, name: str, file: str = "worker.yaml") -> Iterator[WorkerProcess]:
    """``worker run`` as a process, its log in ``name``.log; that is shown when the test fails."""
    log = folder / f"{name}.log"
    log.touch()
    process = WorkerProcess(folder / file, log)
    with _watched(process, log):
        yield process


@contextmanager
def worker_anew(folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """As ``worker``, from Python's start on, as a user types it."""
    log = folder / f"{name}.log"
    command = [sys.executable, "-m", "worker", "run", "-c", str(folder / "worker.yaml")]
    with log.open("wb") as said, subprocess.Popen(command, stderr=said, stdout=said) as process, _watched(process, log):
        yield process


@contextmanager
def _watched(process: WorkerProcess | subprocess.Popen[bytes], log: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        print(f"--- {log.name}\n{log.read_text()[-4000:]}")
        raise
    finally:
        process.kill()
        process.wait(WAIT_S)


class Reader:
    """Everything in a topic, so far, each record once: also when the group has put this reader out meanwhile."""

    def __init__(self, servers: str, topic: str) -> None:
        self.batches: list[RecordBatch] = []
        self._source = open_source(ClientSettings(servers, "confluent", group_id=f"reader-of-{topic}"))
        self._source.subscribe([topic], self._from_where_it_was)

    def _from_where_it_was(self, change: Change) -> dict[Partition, int]:
        read = {batch.partition: batch.next_offset for batch in self.batches}
        return {place: read.get(place, 0) for place in change.partitions} if isinstance(change, Assigned) else {}

    def count(self) -> int:
        """Read what there is now; how many records have been read so far."""
        while batches := self._source.poll(10_000, 0.2):
            self.batches += batches
        return sum(map(len, self.batches))

    def values(self) -> list[dict[str, Any]]:
        return [json.loads(value) for batch in self.batches for value in batch.values if value is not None]

    def close(self) -> None:
        self._source.close(30)


def get(port: int, path: str) -> tuple[int, str]:
    """(status, body) of a GET; (0, "") while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HTTP_TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except ConnectionError:
        return 0, ""
    finally:
        connection.close()


def send(servers: str, topic: str, log: Log, start: int, stop: int) -> None:
    sink = open_sink(ClientSettings(servers, "confluent"))
    sink.send(topic, Messages(log.keys[start:stop], log.values[start:stop]))
    sink.flush(120)
    sink.close(30)


def check_outputs(log: Log, every: Any, source: list[RecordBatch], outputs: list[dict[str, Any]]) -> None:
    """Every event once, per stream in order, each equal to the model on the prefix."""
    wanted, steps = expected(log, every)
    index_of = {value: index for index, value in enumerate(log.values)}
    place_of = {
        (batch.partition.topic, batch.partition.number, offset): index_of[value or b""]
        for batch in source
        for offset, value in zip(batch.offsets, batch.values, strict=True)
    }
    found = [place_of[tuple(output["source"].values())] for output in outputs]
    assert sorted(found) == list(range(len(log.keys)))
    for stream, answers in by_stream(outputs).items():
        offsets = [answer["source"]["offset"] for answer in answers]
        assert offsets == sorted(offsets), stream
    wrong = [
        (output, steps[index]) for output, index in zip(outputs, found, strict=True) if output["step"] != steps[index]
    ]
    assert not wrong, f"{len(wrong)} steps are wrong, first {wrong[:5]}"
    assert [output["reset"] for output in outputs] == [log.reasons[index] for index in found]
    assert {output["stream"].encode() == log.keys[index] for output, index in zip(outputs, found, strict=True)} == {
        True
    }
    probabilities = np.array([output["probabilities"] for output in outputs])
    assert np.abs(probabilities - wanted[found]).max() <= TOLERANCE


def identities(outputs: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Outputs by identity, repeats dropped: each must say what the first one said."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for output in outputs:
        first = found.setdefault(tuple(output["source"].values()), output)
        if first is not output:
            assert {**first, "origin": ""} == {**output, "origin": ""}
    return found


def final_checkpoints(folder: Path, topic: str) -> dict[int, int]:
    """Partition → position of its newest checkpoint."""
    return {
        int(place.name): max(int(file.stem) for file in place.glob("*.h5"))
        for place in (folder / "state" / f"group-{topic}" / topic).iterdir()
    }
