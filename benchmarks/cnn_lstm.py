"""The CNN-LSTM of every tutorial on windows of 128 × 9: streamed, by hand, and on whole windows.

    python -m benchmarks.cnn_lstm [ROWS]

Conv1D(64, 3) twice, MaxPooling1D(2), LSTM(100), Dense(100), Dense(6). Each is a ``tf.function`` on ROWS streams a call,
without Kafka: the streaming form as it is exported; the same step as somebody would write it by hand; the trained model
on the last 128 events. Prints events per second of each as JSON, the best of several rounds in turn, and checks that
the first two say the same.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from worker.model.backend import keras, tf
from worker.model.streaming import StreamingModel

ROWS, LENGTH, FEATURES = 1024, 128, 9
FILTERS, UNITS, CLASSES = 64, 100, 6
ROUNDS, STEPS, WINDOWS = 7, 40, 1
L = keras.layers


def trained() -> Any:
    layers = [L.Conv1D(FILTERS, 3, activation="relu"), L.Conv1D(FILTERS, 3, activation="relu"), L.Dropout(0.5)]
    layers += [L.MaxPooling1D(2), L.LSTM(UNITS), L.Dropout(0.5), L.Dense(UNITS, activation="relu")]
    return keras.Sequential([keras.Input((LENGTH, FEATURES)), *layers, L.Dense(CLASSES, activation="softmax")])


def by_hand(model: Any) -> tuple[Callable[..., Any], list[tuple[int, ...]]]:
    """x (rows, features), states → y, states; the shapes of the states."""
    weights = [tf.constant(weight) for weight in model.get_weights()]
    first, first_bias, second, second_bias, kernel, recurrent, bias, dense, dense_bias, last, last_bias = weights
    first, second = (tf.reshape(weight, (-1, FILTERS)) for weight in (first, second))

    def step(x: Any, inputs: Any, found: Any, held: Any, h: Any, c: Any, event: Any) -> Any:
        seen = tf.concat([inputs, x[:, None]], 1)
        one = tf.nn.relu(tf.reshape(seen, (-1, 3 * FEATURES)) @ first + first_bias)
        both = tf.concat([found, one[:, None]], 1)
        two = tf.nn.relu(tf.reshape(both, (-1, 3 * FILTERS)) @ second + second_bias)
        enter, forget, new, out = tf.split(tf.maximum(held, two) @ kernel + h @ recurrent + bias, 4, 1)
        more = tf.sigmoid(forget) * c + tf.sigmoid(enter) * tf.tanh(new)
        due = (event >= 5) & (tf.math.floormod(event, 2) == 1)
        c, h = tf.where(due, more, c), tf.where(due, tf.sigmoid(out) * tf.tanh(more), h)
        found, held = tf.where((event >= 2)[..., None], both[:, 1:], found), tf.where(event >= 4, two, held)
        y = tf.nn.softmax(tf.nn.relu(h @ dense + dense_bias) @ last + last_bias)
        event = tf.where(event >= 6, 5.0, event + 1)
        return y, seen[:, 1:], found, held, h, c, event

    return tf.function(step), [(2, FEATURES), (2, FILTERS), (FILTERS,), (UNITS,), (UNITS,), (1,)]


def stepping(step: Callable[..., Any], states: list[Any], xs: Any) -> Callable[[], Any]:
    """Calls it for each of ``xs``, handing the states on; the last y."""

    def run() -> Any:
        after, y = states, None
        for x in xs:
            y, *after = step(x, *after)
        return np.asarray(y)

    return run


def best(runs: dict[str, tuple[Callable[[], Any], int]]) -> dict[str, float]:
    """Events per second of each, in the best of the rounds; the first round is to warm up."""
    found = dict.fromkeys(runs, 0.0)
    for number in range(ROUNDS + 1):
        for name, (run, events) in runs.items():
            begun = time.perf_counter()
            run()
            found[name] = max(found[name], number and events / (time.perf_counter() - begun))
    return found


def main(rows: int = ROWS) -> None:
    keras.utils.set_random_seed(1)
    model = trained()
    explicit = StreamingModel(model).to_keras()
    xs = [tf.constant(np.random.default_rng(n).normal(size=(rows, FEATURES)), tf.float32) for n in range(STEPS)]
    streamed = tf.function(lambda x, *states: _without_answered(explicit([x[:, None], *states], training=False)))
    hand, shapes = by_hand(model)
    zeros = [tf.zeros((rows, *tensor.shape[1:])) for tensor in explicit.inputs[1:]]
    runs = {
        "streamed": stepping(streamed, zeros, xs),
        "by hand": stepping(hand, [tf.zeros((rows, *shape)) for shape in shapes], xs),
    }
    difference = float(np.abs(runs["streamed"]() - runs["by hand"]()).max())
    windows = tf.constant(np.random.default_rng(1).normal(size=(rows, LENGTH, FEATURES)), tf.float32)
    whole = tf.function(lambda x: model(x, training=False))
    found = best(
        {
            **{name: (run, rows * STEPS) for name, run in runs.items()},
            "windows": (lambda: np.asarray(whole(windows)), rows * WINDOWS),
        }
    )
    print(json.dumps({"rows": rows, **{f"{name} events_per_s": value for name, value in found.items()}}))
    ratios = {other: found["streamed"] / found[other] for other in ("by hand", "windows")}
    print(json.dumps({"difference": difference, **{f"streamed / {name}": value for name, value in ratios.items()}}))


def _without_answered(outputs: list[Any]) -> list[Any]:
    y, _, *states = outputs
    return [y, *states]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
