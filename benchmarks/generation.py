"""Models that write, as the GenerativeModel of the Python interface and the worker run them; no Kafka.

    python -m benchmarks.generation                    three tables; a few minutes
    python -m benchmarks.generation --rounds 9 --window 300 --json figures.json

LSTM 128 → Dense, one-hot vectors of a vocabulary of 64, untrained: the speed depends on no weight.

Alone: items per second of one stream. Together: 1,000 streams that write at the same time, beside the bare batched
step: a tf.function of the streaming form for 1,000 rows, numpy in and numpy out, called step by step. Growing window:
the trained model on the whole text, again for each character, beside the state that is carried, at temperature 0.

The contenders run in turns, round by round, so that other load on the machine affects all of them. Quote the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from worker.model.backend import keras, tf
from worker.model.generative import GenerativeModel

UNITS, ITEMS = 128, 64
STREAMS, STEPS = 1_000, 50  # together, in one call
ALONE_ITEMS = 2_000
CASES: dict[str, dict[str, Any]] = {
    "temperature 0": {"temperature": 0.0},
    "temperature 1": {"temperature": 1.0},
    "temperature 0.7": {"temperature": 0.7},
    "0.7, top_k 10": {"temperature": 0.7, "top_k": 10},
    "0.7, top_p 0.9": {"temperature": 0.7, "top_p": 0.9},
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--window", type=int, default=1_000, help="characters of the growing window; default 1,000")
    options.add_argument("--json", type=Path, help="also write the figures to this file")
    given = options.parse_args()
    if given.rounds < 1 or given.window < 1:
        options.error("--rounds and --window: at least 1")
    keras.utils.set_random_seed(1)
    trained = keras.Sequential(
        [
            keras.Input((None, ITEMS)),
            keras.layers.LSTM(UNITS),
            keras.layers.Dense(ITEMS, activation="softmax", kernel_initializer=keras.initializers.RandomNormal(0, 3)),
        ]
    )
    figures: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
    print(f"LSTM {UNITS}, vocabulary {ITEMS}; cores: {figures['cores']}, load: {figures['load']:.1f}\n")
    figures["alone"], figures["together"] = speeds(trained, given.rounds)
    figures["window"] = growing_window(trained, given.window)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


def speeds(trained: Any, rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Items per second of one stream; and of many streams as a share of the bare step's, in the same round."""
    heads = (
        ("alone, items/s", 16),
        ("spread", 18),
        (f"{STREAMS:,} streams", 16),
        ("of the bare step", 18),
        ("spread", 14),
    )
    print(" " * 18 + "".join(f"{head:>{width}}" for head, width in heads))
    alone: dict[str, list[float]] = {}
    together: dict[str, list[float]] = {}
    for name, case in CASES.items():
        model = GenerativeModel(trained, top_k=case.get("top_k"), top_p=case.get("top_p"))
        assert model.warm_up(STREAMS), "rows depend on their batch on this processor"
        write = partial(model.generate_tokens, temperature=case["temperature"])
        contenders: dict[str, tuple[Callable[[], Any], int]] = {
            "alone": (partial(write, [[1]], ALONE_ITEMS), ALONE_ITEMS),
            "together": (partial(write, [[1]] * STREAMS, STEPS), STREAMS * STEPS),
            "bare": (bare_steps(model), STREAMS * STEPS),
        }
        seen = {kind: [items / each for each in found] for kind, (found, items) in measure(contenders, rounds).items()}
        ratios = [ours / bare for ours, bare in zip(seen["together"], seen["bare"], strict=True)]
        alone[name], together[name] = seen["alone"], ratios
        print(
            f"{name:<18}{statistics.median(seen['alone']):>16,.0f}{spread(seen['alone'], '{:,.0f}'):>18}"
            f"{statistics.median(seen['together']):>16,.0f}{statistics.median(ratios):>18.2f}{spread(ratios):>14}",
            flush=True,
        )
    return alone, together


def bare_steps(model: GenerativeModel) -> Callable[[], Any]:
    """What a user would write by hand for many streams, without drawing: one call of the model per step."""
    explicit = model.streaming.to_keras()
    step = tf.function(lambda *given: explicit(list(given), training=False))
    x = np.eye(ITEMS, dtype=np.float32)[np.arange(STREAMS) % ITEMS][:, np.newaxis]
    zero = [np.zeros((STREAMS, *tensor.shape[1:]), np.float32) for tensor in explicit.inputs[1:]]

    def run() -> None:
        states = zero
        for _ in range(STEPS):
            _, *states = [np.asarray(each) for each in step(tf.constant(x), *map(tf.constant, states))]

    return run


def measure(contenders: dict[str, tuple[Callable[[], Any], int]], rounds: int) -> dict[str, tuple[list[float], int]]:
    """Seconds of each call in each round, after one that is not measured, and its items."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, (call, _) in contenders.items():
            started = time.perf_counter()
            call()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return {name: (seconds[name], items) for name, (_, items) in contenders.items()}


def growing_window(trained: Any, length: int) -> dict[str, Any]:
    """Both write the likeliest text; what the window needs grows with the square of the length."""
    model = GenerativeModel(trained)
    model.generate_tokens([[1]], 1, temperature=0)  # builds the graph
    started = time.perf_counter()
    (carried,), _ = model.generate_tokens([[1]], length, temperature=0)
    carried_s = time.perf_counter() - started
    vectors, items = tf.TensorSpec([1, None, ITEMS], tf.float32), np.eye(ITEMS, dtype=np.float32)
    answer = tf.function(lambda x: trained(x, training=False), input_signature=[vectors])
    answer(tf.constant(items[[[1]]]))
    text, started = [1], time.perf_counter()
    for _ in range(length):
        text.append(int(np.argmax(np.asarray(answer(tf.constant(items[[text]])))[0])))
    window_s = time.perf_counter() - started
    window_steps = length * (length + 1) // 2
    same = text[1:] == carried
    print(
        f"\n{length:,} characters at temperature 0: {'the same text' if same else 'ANOTHER TEXT'}; "
        f"state carried {length:,} steps in {carried_s:.2f} s, growing window {window_steps:,} steps in "
        f"{window_s:.1f} s: {window_steps / length:.0f} times the steps, {window_s / carried_s:.0f} times the time"
    )
    return {"same text": same, "steps": [length, window_steps], "seconds": [carried_s, window_s]}


def spread(values: list[float], form: str = "{:.2f}") -> str:
    return f"{form.format(min(values))}–{form.format(max(values))}"


if __name__ == "__main__":
    main()
