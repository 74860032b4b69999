"""The batched step by itself: a plain ``tf.function`` of the streaming model, 4,096 rows a call, without Kafka.

    python -m benchmarks.step_alone MODEL.keras FEATURES

The cost of the model alone. Prints events per second and µs of processor time per event as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from worker.model.backend import tf
from worker.model.streaming import StreamingModel

ROWS = 4096
WARM_UP_CALLS, CALLS = 20, 100


def main(model: str, features: str) -> None:
    explicit = StreamingModel.load(Path(model)).to_keras()
    step = tf.function(lambda *given: explicit(list(given), training=False))
    draw = np.random.default_rng(1)
    x = draw.random((ROWS, 1, int(features)), np.float32)
    states = [np.zeros((ROWS, *tensor.shape[1:]), np.float32) for tensor in explicit.inputs[1:]]
    begun = (0.0, 0.0)
    for call in range(WARM_UP_CALLS + CALLS):
        if call == WARM_UP_CALLS:
            begun = time.perf_counter(), time.process_time()
        _, *states = [np.asarray(each) for each in step(tf.constant(x), *map(tf.constant, states))]
    seconds, cpu_s = time.perf_counter() - begun[0], time.process_time() - begun[1]
    events = CALLS * ROWS
    print(json.dumps({"events_per_s": events / seconds, "cpu_us": 1e6 * cpu_s / events}))


if __name__ == "__main__":
    main(*sys.argv[1:])
