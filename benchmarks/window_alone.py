"""The window form by itself, without Kafka: beside it the trained model alone on windows that stand there already.

    python -m benchmarks.window_alone [ROWS]

LSTM 32 → LSTM 16 → Dense, 20 features, windows of 7. Both take turns; prints as JSON events per second of each, their
ratio, and the same of the streaming form of these layers.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from worker.model.backend import keras, tf
from worker.model.streaming import StreamingModel

WINDOW, FEATURES, ROWS = 7, 20, 1024
WARM_UP_CALLS, CALLS = 10, 100


def trained() -> keras.Model:
    layers = keras.layers
    ends = [layers.LSTM(16), layers.Dense(3, activation="softmax")]
    return keras.Sequential([keras.Input((WINDOW, FEATURES)), layers.LSTM(32, return_sequences=True), *ends])


def contenders(model: keras.Model, rows: int) -> dict[str, Callable[[], object]]:
    """One call of each is one event of so many streams."""
    draw = np.random.default_rng(1)
    bare = tf.function(lambda x: model(x, training=False))
    windows, x = (draw.random((rows, *shape), np.float32) for shape in ((WINDOW, FEATURES), (FEATURES,)))
    windowed, streamed = StreamingModel(model, window=WINDOW), StreamingModel(model)
    full = np.concatenate([windows.reshape(rows, -1), np.full((rows, 1), WINDOW, np.float32)], axis=1)
    states = np.tile(streamed.initial_row, (rows, 1))
    windowed.warm_up(rows)
    streamed.warm_up(rows)
    return {
        "bare": lambda: np.asarray(bare(tf.constant(windows))),
        "window": lambda: windowed.step_packed(x, full),
        "streaming": lambda: streamed.step_packed(x, states),
    }


def main(rows: int) -> None:
    calls = contenders(trained(), rows)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(WARM_UP_CALLS + CALLS):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            if number >= WARM_UP_CALLS:
                seconds[name].append(time.perf_counter() - begun)
    rates = {f"{name}_events_per_s": rows / statistics.median(some) for name, some in seconds.items()}
    ratio = rates["window_events_per_s"] / rates["bare_events_per_s"]
    print(json.dumps({"rows": rows, **rates, "window_to_bare": ratio}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
