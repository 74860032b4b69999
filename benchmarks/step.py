"""The cost of the streaming form at start and compared with the bare cells, and the cost of a hot stream.

    python benchmarks/step.py                     both tables; about a minute
    python benchmarks/step.py --rounds 9 --json figures.json

Step: one call of StreamingModel.step_packed beside a tf.function of the same Keras cells written by hand: LSTMCell 32,
LSTMCell 16, Dense, the same weights, states as separate tensors, open batch; numpy in and numpy out for all. It is
called as it is written ("bare"), and as a concrete function with tensors made by hand ("traced"), which is faster.
Hot streams: Engine.process of one turn of events of one stream, or of 40 in turn, in scans over time and by waves.

The contenders run in turns, round by round, so that other load on the machine affects all of them. Quote the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

FEATURES, UNITS = 3, (32, 16)
ROWS = (1, 256, 4096)
STEP_CALLS = 100  # of each contender in each round
END_EVERY_EVENTS = 11
LENGTH_EVENTS = 7
FEW_STREAMS = 40
Contenders = dict[str, Callable[[], Any]]
Seconds = dict[str, list[float]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--events", type=int, default=3_000, help="of the hot stream, in one turn; default 3,000")
    options.add_argument("--seconds", type=float, default=120, help="no round but the first begins later; default 120")
    options.add_argument("--json", type=Path, help="also write the figures to this file")
    given = options.parse_args()
    if given.rounds < 1 or given.events < 1:
        options.error("--rounds and --events: at least 1")
    deadline = time.monotonic() + given.seconds
    model = trained()
    figures: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
    print(f"LSTM 32 → LSTM 16 → Dense, {FEATURES} features; cores: {figures['cores']}, load: {figures['load']:.1f}\n")
    figures["start"] = start(given.rounds, deadline)
    figures["step"] = steps(model, given.rounds, deadline)
    figures["hot stream"] = hot_streams(model, given.events, given.rounds, deadline)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


def until(deadline: float, rounds: int) -> Iterator[int]:
    """The numbers of the rounds: at least one, because loading TensorFlow alone may take longer than the time limit."""
    for number in range(rounds):
        if number and time.monotonic() > deadline:
            return
        yield number


def trained() -> Any:
    """The trained model, batch-first."""
    from worker.model.backend import keras

    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            keras.layers.LSTM(UNITS[0], return_sequences=True),
            keras.layers.LSTM(UNITS[1]),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )


def start(rounds: int, deadline: float) -> list[float]:
    """Seconds to convert and prove a trained model of three recurrent layers, as a worker does at start."""
    from worker import StreamingModel
    from worker.model.backend import keras

    lstm, dense = keras.layers.LSTM, keras.layers.Dense
    layers = [lstm(32, return_sequences=True), lstm(24, return_sequences=True), lstm(16), dense(1)]
    trained = keras.Sequential([keras.Input((None, FEATURES)), *layers])
    seconds: list[float] = []
    for _ in until(deadline, rounds):
        begun = time.perf_counter()
        StreamingModel(trained).check_parity(1e-4)
        seconds.append(time.perf_counter() - begun)
    print(f"conversion and proof, three recurrent layers: {statistics.median(seconds):.2f} s {spread(seconds)}\n")
    return seconds


def bare_step(model: Any) -> Any:
    """(x, h1, c1, h2, c2) → (y, h1, c1, h2, c2): what a user would write by hand for this model."""
    from worker.model.backend import keras, tf

    cells = [keras.layers.LSTMCell(units) for units in UNITS]
    for cell, features, layer in zip(cells, (FEATURES, UNITS[0]), model.layers, strict=False):
        cell.build((None, features))
        cell.set_weights(layer.get_weights())
    kernel, bias = (tf.constant(weights) for weights in model.layers[-1].get_weights())
    widths = (FEATURES, UNITS[0], UNITS[0], UNITS[1], UNITS[1])

    def step(x: Any, h1: Any, c1: Any, h2: Any, c2: Any) -> Any:
        y, (h1, c1) = cells[0](x, [h1, c1])
        y, (h2, c2) = cells[1](y, [h2, c2])
        return tf.sigmoid(y @ kernel + bias), h1, c1, h2, c2

    return tf.function(step, input_signature=[tf.TensorSpec((None, width), tf.float32) for width in widths])


def answers(step: Callable[..., Any], *given: Any) -> list[np.ndarray]:
    return [answer.numpy() for answer in step(*given)]


def steps(model: Any, rounds: int, deadline: float) -> dict[int, Any]:
    """Microseconds of one call by number of rows, for all ways, after a check that their results agree."""
    from worker import StreamingModel
    from worker.model.backend import tf

    streaming, bare = StreamingModel(model), bare_step(model)
    traced, tensor = bare.get_concrete_function(), tf.convert_to_tensor
    print(
        f"{'rows':>6}{'bare, µs':>12}{'traced, µs':>14}{'step_packed, µs':>18}"
        f"{'/ bare':>10}{'/ traced':>10}{'spread':>26}"
    )
    figures: dict[int, Any] = {}
    for rows in ROWS:
        rng = np.random.default_rng(rows)
        x = rng.normal(size=(rows, FEATURES)).astype(np.float32)
        packed = np.tanh(rng.normal(size=(rows, streaming.state_width))).astype(np.float32)
        states = streaming.unpack(packed)
        contenders: Contenders = {
            "bare": partial(answers, bare, x, *states),
            "traced": partial(answers, lambda *given: traced(*map(tensor, given)), x, *states),
            "step_packed": partial(streaming.step_packed, x, packed),
        }
        by_hand, (y, after) = contenders["bare"](), contenders["step_packed"]()
        np.testing.assert_allclose(y, by_hand[0], atol=1e-5)
        np.testing.assert_allclose(after, np.concatenate(by_hand[1:], axis=1), atol=1e-5)
        seconds, _ = measure(contenders, rounds, STEP_CALLS, deadline)
        times = {name: [each * 1e6 for each in seen] for name, seen in seconds.items()}
        ratios = {
            other: [ours / theirs for ours, theirs in zip(times["step_packed"], times[other], strict=True)]
            for other in ("bare", "traced")
        }
        figures[rows] = {**times, "ratio": ratios}
        row = "".join(
            f"{statistics.median(times[name]):>{width},.0f}" for name, width in zip(times, (12, 14, 18), strict=True)
        )
        row += "".join(f"{statistics.median(each):>10.2f}" for each in ratios.values())
        print(f"{rows:>6}{row}{', '.join(map(spread, ratios.values())):>26}", flush=True)
    return figures


def hot_streams(model: Any, count: int, rounds: int, deadline: float) -> dict[str, Any]:
    """Steps per second for consecutive events of one stream, with and without boundaries among them."""
    from worker import StreamingModel
    from worker.engine.boundaries import BoundaryRules

    streaming = StreamingModel(model)
    ends = np.arange(count) % END_EVERY_EVENTS == END_EVERY_EVENTS - 1
    cases = {
        "no boundaries": (BoundaryRules(), events(count)),
        f"length {LENGTH_EVENTS}": (BoundaryRules(length=LENGTH_EVENTS), events(count)),
        f"end, every {END_EVERY_EVENTS}": (BoundaryRules(), events(count, ends)),
        f"{FEW_STREAMS} streams": (BoundaryRules(), events(count, streams=FEW_STREAMS)),
    }
    print(
        f"\n{f'{count:,} events in a turn':<26}{'waves, steps/s':>18}{'scan, steps/s':>18}"
        f"{'best':>10}{'per CPU second':>18}{'scan / waves':>16}{'spread':>16}"
    )
    figures = {}
    for name, (rules, turn) in cases.items():
        contenders = {
            "waves": processing(streaming, rules, turn, scan_rows=()),
            "scan": processing(streaming, rules, turn),
        }
        times, busy = measure(contenders, rounds, 1, deadline)
        speeds = {kind: [count / seconds for seconds in seen] for kind, seen in times.items()}
        ratios = [fast / slow for fast, slow in zip(speeds["scan"], speeds["waves"], strict=True)]
        cpu = count / statistics.median(busy["scan"])
        figures[name] = {**speeds, "ratio": ratios, "scan per CPU second": cpu}
        waves, scan, ratio = map(statistics.median, (speeds["waves"], speeds["scan"], ratios))
        print(
            f"{name:<26}{waves:>18,.0f}{scan:>18,.0f}{max(speeds['scan']):>10,.0f}{cpu:>18,.0f}{ratio:>16.1f}{spread(ratios):>16}",
            flush=True,
        )
    return figures


def processing(streaming: Any, rules: Any, given: Any, **options: Any) -> Callable[[], Any]:
    """One turn of a separate engine."""
    from worker.engine.emission import EmitRule
    from worker.engine.engine import Engine
    from worker.streams.table import StreamTable

    table = StreamTable(streaming.layout, limit=FEW_STREAMS)
    table.open(given.batch.partition)
    engine = Engine(streaming, table, rules, EmitRule(), **options)
    return lambda: engine.process([given])


def events(count: int, ends: Any = None, streams: int = 1) -> Any:
    from worker.records.events import Events
    from worker.records.ownership import Partition
    from worker.records.record_batch import RecordBatch

    places = list(range(count))
    return Events(
        batch=RecordBatch(Partition("readings", 0), count, places),
        records=np.arange(count),
        items=np.full(count, -1),
        kinds=np.zeros(count, np.uint8),
        streams=[f"device-{place % streams}" for place in places],
        vectors=np.random.default_rng(2).normal(size=(count, FEATURES)).astype(np.float32),
        times=np.arange(count),
        ends=ends,
    )


def measure(contenders: Contenders, rounds: int, calls: int, deadline: float) -> tuple[Seconds, Seconds]:
    """Seconds of one call (the median of ``calls``) in each round: by the clock, and of processor time.

    At least one round, after one call that is not measured. A busy machine changes processor time the least.
    """
    times: tuple[Seconds, Seconds] = ({name: [] for name in contenders}, {name: [] for name in contenders})
    for call in contenders.values():
        call()
    for _ in until(deadline, rounds):
        seen: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
        for _ in range(calls):
            for name, call in contenders.items():
                started = time.perf_counter(), time.process_time()
                call()
                seen[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
        for name, each in seen.items():
            for kind, values in zip(times, zip(*each, strict=True), strict=True):
                kind[name].append(statistics.median(values))
    return times


def spread(values: list[float]) -> str:
    return f"{min(values):.2f}–{max(values):.2f}"


if __name__ == "__main__":
    main()
