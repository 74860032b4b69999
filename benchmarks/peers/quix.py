"""Quix Streams: keyed state in RocksDB with its changelog, one numpy step per event.

python quix.py SERVERS INPUT OUTPUT WEIGHTS.npz FOLDER
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy_step import Step
from quixstreams import Application, State
from record import FEATURES, answer


def main(servers: str, source: str, target: str, weights: str, folder: str) -> None:
    step = Step(weights)
    application = Application(
        broker_address=servers, consumer_group=target, auto_offset_reset="earliest", state_dir=f"{folder}/quix",
        loglevel="WARNING", auto_create_topics=True,
    )  # fmt: skip
    inputs = application.topic(source, key_deserializer="str", value_deserializer="json")
    outputs = application.topic(target, key_serializer="str", value_serializer="bytes")

    def predict(value: dict[str, Any], key: str, timestamp: int, headers: Any, state: State) -> bytes:
        steps = state.get("steps", 0) + 1
        known = state.get_bytes("packed")
        packed = np.zeros(step.width, np.float32) if known is None else np.frombuffer(known, np.float32)
        probability, after = step(np.array([value[name] for name in FEATURES], np.float32), packed)
        state.set("steps", steps)
        state.set_bytes("packed", after.astype(np.float32).tobytes())
        return answer(key, steps, probability, timestamp=timestamp)

    application.dataframe(inputs).apply(predict, stateful=True, metadata=True).to_topic(outputs)
    application.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
