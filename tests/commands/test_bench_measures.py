"""Measuring scripts: what they read from processes, logs and times is what is there, and their verdicts are right."""

from __future__ import annotations

import json
import math
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import memory, step
from benchmarks.churn import ALIVE, EVENTS_PER_STREAM, streams_of
from benchmarks.paced import LAG_S, LAGS, PROCESSED, TURNS, Sight
from benchmarks.paced import Look as Paced
from benchmarks.processes import cpu_seconds, memory_bytes, open_files, sums, threads
from benchmarks.soak import Line, Look, Verdict
from benchmarks.spans import Span, between, compare, longest_gap_s, merged, speed, within
from benchmarks.start import age_s
from benchmarks.suite import ROOT, then
from worker.commands.bench.contenders import Task
from worker.records.ownership import Partition
from worker.records.states import StateLayout, StateSpec
from worker.streams.table import StreamTable
from worker.web.metrics import Metrics

MB = 1_000_000


def looks(rss_mb: Sequence[float], every_s: float = 10.0) -> list[Look]:
    return [Look((n + 1) * every_s, 0.0, round(mb * MB), 0, 0, 0, 0, 0, 0) for n, mb in enumerate(rss_mb)]


@pytest.mark.parametrize(
    ("values", "slope", "error"),
    [
        ([7, 7, 7, 7], 0, 0),
        ([1, 3, 5, 7, 9], 2, 0),
        ([9, 7, 5], -2, 0),
        ([0, 3, 0, 3], 0.6, np.sqrt(7.2 / 2 / 5)),  # by hand: 3 / 5, and what is left of 9 is 7.2
    ],
)
def test_the_line_is_that_of_least_squares(values: list[float], slope: float, error: float) -> None:
    line = Line.through(range(len(values)), values)
    assert (line.slope, line.error) == pytest.approx((slope, error), abs=1e-9)


def noise(count: int) -> list[float]:
    found: list[float] = np.random.default_rng(1).normal(0, 3, count).tolist()
    return found


@pytest.mark.parametrize(
    ("rss_mb", "flat"),
    [
        ([700] * 60, True),
        ([*np.linspace(500, 800, 30), *[800] * 30], True),  # what grows at first does not count
        ([800] * 30 + [800 + 0.25 * n for n in range(30)], True),  # 7 MB
        ([800] * 30 + [800 + 0.5 * n for n in range(30)], False),  # 15 MB of 800, above 1 %
        ([800 + each for each in noise(60)], True),
        ([800 + 0.6 * n + each for n, each in enumerate(noise(60))], False),
        ([800 - 2 * n for n in range(60)], True),
        ([800] * 45 + [830] * 15, False),  # a step
    ],
)
def test_flat_is_what_does_not_grow_in_the_second_half(rss_mb: list[float], flat: bool) -> None:
    assert Verdict.of(looks(rss_mb)).flat is flat


def test_the_verdict_says_how_much() -> None:
    verdict = Verdict.of(looks([100] * 4 + [100, 101, 102, 103]))
    assert verdict.line.slope == pytest.approx(MB / 10)
    assert (verdict.growth_bytes, verdict.allowed_bytes) == pytest.approx((3 * MB, 1.015 * MB))


def test_streams_come_in_order_and_go_for_good() -> None:
    rounds = 2 * EVENTS_PER_STREAM
    found = streams_of(np.arange(rounds * ALIVE))
    new = ALIVE // EVENTS_PER_STREAM
    assert len(np.unique(found[:ALIVE])) == ALIVE
    assert found[-ALIVE:].min() == (rounds - 1) * new
    counts = Counter(found.tolist())
    whole = range(ALIVE - new, rounds * new)  # came when the load was on, and have gone again
    assert {counts[stream] for stream in whole} == {EVENTS_PER_STREAM}


def test_metrics_are_summed_over_labels() -> None:
    metrics = Metrics()
    for number, streams in enumerate((3, 4)):
        metrics.of(metrics.streams_active, Partition("a topic}", number)).set(streams)
    metrics.events_processed.inc(5e6)
    found = sums(metrics.exposition("text/plain")[1].decode())
    wanted = {"rnnw_streams_active": 7, "rnnw_events_processed_total": 5e6, "rnnw_streams_evicted_total": 0}
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.parametrize("text", ["rnnw_streams_active", "<html> not metrics </html>", "name many"])
def test_what_is_no_metric_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        sums(f"rnnw_worker_state 1.0\n{text}\n")


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")  # noqa: PTH110
def test_processes_are_seen_as_they_are() -> None:
    before = memory_bytes()
    block = np.ones(64 << 20, np.uint8)
    assert memory_bytes() - before > block.nbytes / 2
    assert memory_bytes(field="VmHWM") >= memory_bytes() - MB
    assert threads("self") >= 1
    with open(os.devnull) as one, open(os.devnull) as other:  # noqa: PTH123
        assert open_files("self") > max(one.fileno(), other.fileno()) - min(one.fileno(), other.fileno())
    assert 0 < cpu_seconds(os.getpid()) < age_s(os.getpid()) * (os.cpu_count() or 1)
    with pytest.raises(ValueError, match="VmNothing"):
        memory_bytes(field="VmNothing")


def spans(*edges: tuple[float, float]) -> list[Span]:
    return [Span(start, end) for start, end in edges]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([], []),
        ([(1, 2)], [(1, 2)]),
        ([(5, 6), (1, 2)], [(1, 2), (5, 6)]),
        ([(1, 3), (2, 4), (4, 5)], [(1, 5)]),  # partitions of one checkpoint, one after another
        ([(1, 9), (2, 3), (4, 5)], [(1, 9)]),
    ],
)
def test_spans_that_touch_are_one(given: list[tuple[float, float]], wanted: list[tuple[float, float]]) -> None:
    assert merged(spans(*given)) == spans(*wanted)


def test_only_whole_spans_count_and_the_rest_is_free() -> None:
    whole = Span(10, 20)
    inside = within(spans((8, 11), (12, 13), (15, 16), (19, 21)), whole)
    assert inside == spans((12, 13), (15, 16))
    assert between(inside, whole) == spans((10, 12), (13, 15), (16, 20))
    assert between([], whole) == [whole]


def times(*rates: tuple[float, int]) -> Any:
    """(seconds, outputs per second), one after the other, from 0 on."""
    parts, start = [], 0.0
    for seconds, rate in rates:
        parts.append(start + np.arange(round(seconds * rate)) / max(rate, 1))
        start += seconds
    return np.concatenate([*parts, [start]])


def test_speed_is_that_of_the_spans() -> None:
    found = times((2, 100), (1, 50), (2, 100))
    assert speed(found, spans((2, 3))) == pytest.approx(50)
    assert speed(found, spans((0, 2), (3, 5))) == pytest.approx(100)
    assert speed(found, spans((1, 4))) == pytest.approx(250 / 3)
    assert speed(found, spans((7, 9))) == 0


def test_a_gap_belongs_to_the_spans_that_it_touches() -> None:
    found = np.array([0.0, 0.1, 1.4, 1.5, 2.0])
    assert longest_gap_s(found, spans((0.5, 0.6))) == pytest.approx(1.3)  # all of the span is in it
    assert longest_gap_s(found, spans((1.45, 1.9))) == pytest.approx(0.5)
    assert longest_gap_s(found, spans((0.0, 0.05), (1.42, 1.45))) == pytest.approx(0.1)
    assert longest_gap_s(found, []) == 0


def test_a_checkpoint_is_compared_with_the_free_time_around_it() -> None:
    # Twice as fast later on; each checkpoint costs a fifth, and the second holds everything for 0.3 s.
    found = times((5, 10), (4, 1000), (1, 800), (4, 1000), (4, 2000), (0.3, 0), (0.7, 2286), (4, 2000))
    said = compare(found, spans((1, 2), (9, 9.5), (9.4, 10), (18, 19), (22.9, 24)), first=50)
    assert said["checkpoints"] == 2
    assert said["seconds of each"] == pytest.approx([1, 1])
    assert said["ratio"] == pytest.approx([800 / (16_000 / 12), 1600 / (20_000 / 12)], rel=0.01)
    assert said["events/s during"] == pytest.approx(1200, rel=0.01)
    assert said["events/s otherwise"] == pytest.approx(1500, rel=0.01)
    assert said["longest gap during, ms"] == pytest.approx(300, abs=2)
    assert said["longest gap otherwise, ms"] == pytest.approx(300, abs=2)  # it begins with the last output before


@pytest.mark.parametrize("make", [list, lambda: spans((0, 4)), lambda: spans((4, 99))])
def test_without_a_whole_checkpoint_there_is_nothing_to_compare(make: Callable[[], list[Span]]) -> None:
    with pytest.raises(ValueError, match="no checkpoint was written"):
        compare(times((5, 100)), make(), first=10)


def test_between_two_sights_only_what_happened_meanwhile_counts() -> None:
    before = Sight(100.0, {PROCESSED: 7_000, TURNS: 50, LAG_S: 9.0, LAGS: 40}, 3.0, 500 * MB)
    after = Sight(105.0, {PROCESSED: 107_000, TURNS: 250, LAG_S: 10.0, LAGS: 240}, 4.0, 510 * MB)
    assert Paced.between(before, after) == Paced(20_000, 0.2, 10.0, 500, 5.0, 510 * MB)


def test_a_worker_without_events_has_no_cost_per_event() -> None:
    idle = dict.fromkeys((PROCESSED, TURNS, LAG_S, LAGS), 0.0)
    assert Paced.between(Sight(0.0, idle, 3.0, MB), Sight(5.0, idle, 3.0, MB)) == Paced(0, 0, 0, 0, 0, MB)


def test_the_worker_of_another_commit_is_that_of_its_own_tree(tmp_path: Path) -> None:
    task = Task("localhost:9", "in", "out", ("f0",), 1, tmp_path / "model.keras", tmp_path)
    with then("HEAD", tmp_path) as contender:
        *environment, python = (part for part in contender.command(task)[:4])
        asked = [*environment, python, "-c", "import worker; print(worker.__file__)"]
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    assert Path(answer.stdout.strip()) == tmp_path / "then" / "worker" / "__init__.py"


def test_a_checkpoint_with_no_output_around_it_has_no_ratio() -> None:
    found = times((2, 10), (1, 0), (1, 10), (1, 0), (3, 10))
    said = compare(found, spans((2.5, 2.9), (3.0, 4.0), (4.2, 4.6), (5.5, 6.5)), first=0)
    assert said["checkpoints"] == 4
    assert len(said["ratio"]) == 3


def test_the_saved_figures_of_memory_have_the_names_that_it_prints() -> None:
    table = StreamTable(StateLayout.of([StateSpec("lstm", "h", (2,))], np.zeros(2, np.float32)), 10)
    saved = json.loads((ROOT / "benchmarks/results/memory.json").read_text(encoding="utf-8"))
    assert {case: list(found["parts"]) for case, found in saved.items()} == {
        case: list(memory.parts(table)) for case in memory.CASES
    }


def test_one_round_is_measured_however_long_the_start_took() -> None:
    assert list(step.until(time.monotonic() - 1, 5)) == [0]
    assert list(step.until(math.inf, 3)) == [0, 1, 2]
    figures, _ = step.measure({"it": lambda: None}, rounds=5, calls=2, deadline=time.monotonic() - 1)
    assert [len(each) for each in figures.values()] == [1]


@pytest.mark.parametrize("option", ["--rounds", "--events"])
def test_no_rounds_are_refused(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["step", option, "0"])
    with pytest.raises(SystemExit):
        step.main()
    assert capsys.readouterr().err.endswith("error: --rounds and --events: at least 1\n")
