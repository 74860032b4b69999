"""Bytewax: `stateful_map` with recovery snapshots, one numpy step per event.

python bytewax_flow.py SERVERS INPUT OUTPUT WEIGHTS.npz FOLDER
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import orjson
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSource
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from numpy_step import Step
from record import FEATURES, answer

SNAPSHOT_S = 10  # its default


def main(servers: str, source: str, target: str, weights: str, folder: str) -> None:
    from bytewax.run import cli_main

    step = Step(weights)

    def predict(state: tuple[int, np.ndarray] | None, value: bytes) -> tuple[Any, tuple[int, float]]:
        steps, packed = (0, np.zeros(step.width, np.float32)) if state is None else state
        fields = orjson.loads(value)
        probability, after = step(np.array([fields[name] for name in FEATURES], np.float32), packed)
        return (steps + 1, after), (steps + 1, probability)

    flow = Dataflow("peer")
    read = op.input("read", flow, KafkaSource(servers.split(","), [source]))
    keyed = op.map("key", read, lambda message: (message.key.decode(), message.value))
    answered = op.stateful_map("step", keyed, predict)
    written = op.map(
        "write", answered, lambda each: KafkaSinkMessage(each[0].encode(), answer(each[0], each[1][0], each[1][1]))
    )
    kop.output("out", written, brokers=servers.split(","), topic=target)
    recovery = Path(folder) / "recovery"
    recovery.mkdir(exist_ok=True)
    init_db_dir(recovery, 1)
    cli_main(flow, epoch_interval=timedelta(seconds=SNAPSHOT_S), recovery_config=RecoveryConfig(str(recovery)))


if __name__ == "__main__":
    main(*sys.argv[1:])
