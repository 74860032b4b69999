"""faust-streaming: a table with its changelog, one numpy step per event.

python faust_app.py SERVERS INPUT OUTPUT WEIGHTS.npz FOLDER PARTITIONS
"""

from __future__ import annotations

import sys
from typing import Any

import faust
import numpy as np
import orjson
from numpy_step import Step
from record import FEATURES, answer


def main(servers: str, source: str, target: str, weights: str, folder: str, partitions: str) -> None:
    step = Step(weights)
    app = faust.App(
        target, broker=f"kafka://{servers}", store="memory://", datadir=f"{folder}/faust", web_enabled=False,
        topic_partitions=int(partitions), key_serializer="raw", value_serializer="raw",
        consumer_auto_offset_reset="earliest",
    )  # fmt: skip
    inputs = app.topic(source, key_type=bytes, value_type=bytes, partitions=int(partitions))
    outputs = app.topic(target, key_type=bytes, value_type=bytes, partitions=int(partitions))
    states = app.Table("states", key_type=bytes, value_type=bytes, partitions=int(partitions))

    @app.agent(inputs)
    async def predict(stream: Any) -> None:
        async for key, value in stream.items():
            known = states.get(key)
            packed = np.zeros(step.width + 1, np.float32) if known is None else np.frombuffer(known, np.float32)
            steps, fields = int(packed[-1]) + 1, orjson.loads(value)
            probability, after = step(np.array([fields[name] for name in FEATURES], np.float32), packed[:-1])
            states[key] = np.append(after, np.float32(steps)).astype(np.float32).tobytes()
            await outputs.send(key=key, value=answer(key.decode(), steps, probability))

    sys.argv = ["faust", "worker", "--loglevel", "warn"]
    app.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
