"""The usual way: one stateful Keras model of batch 1; each device's states are set and read around `predict_on_batch`.

python usual_way.py SERVERS INPUT OUTPUT MODEL.keras
"""

from __future__ import annotations

import signal
import sys
import time

import keras
import numpy as np
import orjson
from kafka import KafkaConsumer, KafkaProducer
from record import FEATURES, answer


def stateful(trained: keras.Model) -> keras.Model:
    """The model rebuilt with ``stateful=True`` and batch 1, its weights copied."""
    layers = [keras.Input((1, len(FEATURES)), batch_size=1)]
    for layer in trained.layers:
        changes = {"stateful": True} if isinstance(layer, keras.layers.RNN) else {}
        layers.append(type(layer).from_config({**layer.get_config(), **changes}))
    model = keras.Sequential(layers)
    model.set_weights(trained.get_weights())
    return model


def main(servers: str, source: str, target: str, path: str) -> None:
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    model = stateful(keras.models.load_model(path, compile=False))
    recurrent = [layer for layer in model.layers if isinstance(layer, keras.layers.RNN)]
    zero = [np.zeros(state.shape, np.float32) for layer in recurrent for state in layer.states]
    known: dict[bytes, tuple[int, list[np.ndarray]]] = {}
    consumer = KafkaConsumer(
        source, bootstrap_servers=servers, group_id=target, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    producer = KafkaProducer(bootstrap_servers=servers, linger_ms=5, batch_size=128 * 1024)
    commit_at = time.monotonic() + 1
    while not ended:
        for place, records in consumer.poll(100, max_records=500).items():
            for record in records:
                steps, states = known.get(record.key, (0, zero))
                variables = [variable for layer in recurrent for variable in layer.states]
                for variable, state in zip(variables, states, strict=True):
                    variable.assign(state)
                value = orjson.loads(record.value)
                x = np.array([[[value[name] for name in FEATURES]]], np.float32)
                probability = float(model.predict_on_batch(x)[0, 0])
                known[record.key] = steps + 1, [np.array(variable) for variable in variables]
                out = answer(
                    record.key.decode(), steps + 1, probability, place.partition, record.offset, record.timestamp
                )
                producer.send(target, key=record.key, value=out)
        if time.monotonic() > commit_at:
            producer.flush()
            consumer.commit()
            commit_at = time.monotonic() + 1


if __name__ == "__main__":
    main(*sys.argv[1:])
