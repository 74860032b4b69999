"""Benchmarks: the job is what it says, the judge finds what is wrong, and the command measures on a real broker."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from tests.command_line import Command
from worker.commands.bench.job import Job, key_of
from worker.commands.bench.judge import check_answers, events_per_s
from worker.commands.bench.latency import event_of
from worker.commands.bench.topics import Written
from worker.errors import WorkerError

JOB = Job(600, 20)


def test_keys_are_drawn_as_named() -> None:
    uniform = Counter(Job(6_000, 30).numbers().tolist())
    assert uniform == dict.fromkeys(range(30), 200)
    zipf = Counter(Job(60_000, 1_000, "zipf").numbers().tolist())
    assert [stream for stream, _ in zipf.most_common(3)] == [0, 1, 2]
    assert zipf[0] / zipf[1] == pytest.approx(2**1.1, rel=0.1)
    hot = Counter(Job(60_000, 1_000, "hot").numbers().tolist())
    assert hot[0] / 60_000 == pytest.approx(0.5, abs=0.02)
    assert len(hot) == 1_000


def test_messages_are_what_the_job_says() -> None:
    job = Job(25_000, 7, features=2)
    keys, values = ([each for part in column for each in part] for column in zip(*job.messages(), strict=True))
    assert keys == [key_of(number) for number in job.numbers().tolist()]
    found = [[value["f0"], value["f1"]] for value in map(orjson.loads, values)]
    np.testing.assert_array_equal(found, job.vectors(np.arange(25_000)))


def right(stream: int, step: int) -> float:
    return (stream * 7 + step) % 10 / 10


def answers() -> list[tuple[bytes, dict[str, Any]]]:
    """Right ones to each event of the job, in order."""
    steps, rows = Counter[int](), []
    for stream in JOB.numbers().tolist():
        steps[stream] += 1
        rows.append((key_of(stream), {"probabilities": [right(stream, steps[stream])]}))
    return rows


def swap(rows: list[tuple[bytes, dict[str, Any]]]) -> None:
    """The first two of a stream that is looked at change places."""
    first, second = [at for at, (key, _) in enumerate(rows) if key == key_of(3)][:2]
    rows[first], rows[second] = rows[second], rows[first]


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (lambda rows: None, None),
        (lambda rows: rows.pop(), "599 answers to 600"),
        (lambda rows: rows.append(rows[5]), "601 answers to 600"),
        (lambda rows: rows.append((key_of(1), rows.pop(0)[1])), "not exactly one for each"),
        (swap, "stream device-0000003 differs by 0.1"),
        (lambda rows: rows[3 * JOB.streams][1].update(probabilities=[float("nan")]), "differs by nan"),
    ],
)
def test_the_judge_finds_what_is_wrong(tamper: Callable[[Any], object], said: str | None) -> None:
    rows = answers()
    tamper(rows)
    expected = {key_of(n): np.array([[right(n, step)] for step in range(1, 11)]) for n in (0, 3)}
    written = Written(np.zeros(1, np.int64), [key for key, _ in rows], [orjson.dumps(value) for _, value in rows])
    if said is None:
        check_answers("it", written, JOB, expected)
        return
    with pytest.raises(WorkerError, match=said):
        check_answers("it", written, JOB, expected)


def test_speed_is_of_the_outputs_after_the_first_tenth() -> None:
    times = np.concatenate([np.zeros(100), np.linspace(60_000, 69_000, 901)]).astype(np.int64)
    assert events_per_s(Written(times), 0.1) == pytest.approx(100, rel=0.01)


def test_an_answer_names_its_event() -> None:
    hop = orjson.dumps({"f0": 0.5, "stream": "device-0000003", "step": 13})
    output = orjson.dumps({"stream": "device-0000003", "step": 13})
    assert (event_of(hop, 10, 20), event_of(output, 10, 20)) == (43, 43)


@pytest.mark.broker
def test_the_command_measures_and_writes_figures(command: Command, bootstrap_servers: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    ended = command(
        "bench", "--bootstrap-servers", bootstrap_servers, "--client", "kafka-python", "--delivery", "exactly_once",
        "--events", "2000", "--streams", "50", "--rounds", "1", "--rate", "50", "--seconds", "1", "--json", str(file),
    )  # fmt: skip
    assert ended.status == 0, ended.err
    figures = json.loads(file.read_text())
    names = [found["name"] for found in figures["found"]]
    null, both = "null, kafka-python", ["null, kafka-python, exactly_once", "worker, kafka-python, exactly_once"]
    assert names == [f"{null}, at_least_once", both[1], "one hop, kafka-python", *both]
    assert all(speed > 0 for found in figures["found"] for speed in found.get("events_per_s", [1.0]))
    assert all(name in ended.out for name in names)
