"""Is what a contender wrote right? Only then does its speed count."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import orjson

from worker.commands.bench.job import Job, key_of
from worker.commands.bench.models import Expected
from worker.commands.bench.topics import Written
from worker.errors import WorkerError

TOLERANCE = 1e-4


def check_answers(name: str, written: Written, job: Job, expected: Expected | None) -> None:
    """One answer per event, and those of some streams as expected, in order. Raises WorkerError."""
    wanted = np.bincount(job.numbers(), minlength=job.streams)
    found = Counter(written.keys)
    if len(written.keys) != job.events or any(found[key_of(n)] != many for n, many in enumerate(wanted.tolist())):
        raise WorkerError(f"{name}: {len(written.keys):,} answers to {job.events:,} events, not exactly one for each")
    if expected is None:
        return
    answers: dict[bytes, list[list[float]]] = defaultdict(list)
    for key, value in zip(written.keys, written.values, strict=True):
        if key in expected and len(answers[key]) < len(expected[key]):
            answers[key].append(orjson.loads(value)["probabilities"])
    for key, right in expected.items():
        worst = float(np.abs(np.array(answers[key], np.float64) - right).max())
        if not worst <= TOLERANCE:
            raise WorkerError(f"{name}: stream {key.decode()} differs by {worst:.2g} from what Keras says")


def events_per_s(written: Written, warm_up: float) -> float:
    """From the broker's times, without the first outputs: ``warm_up`` is their share."""
    first = int(len(written.times_ms) * warm_up)
    seconds = (written.times_ms[-1] - written.times_ms[first]) / 1e3
    return float((len(written.times_ms) - first) / max(seconds, 1e-3))
