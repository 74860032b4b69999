"""A Keras model's weights as arrays, for peers without their own model runtime.

python benchmarks/peers/weights.py MODEL.keras WEIGHTS.npz
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def arrays(model: Any) -> dict[str, Any]:
    """The weights of LSTMs and of a Dense layer at the end."""
    *recurrent, dense = model.layers
    found: dict[str, Any] = {"layers": len(recurrent)}
    for number, layer in enumerate(recurrent):
        found |= {f"{n}{number}": w for n, w in zip(("kernel", "recurrent", "bias"), layer.get_weights(), strict=True)}
    found["dense"], found["dense_bias"] = dense.get_weights()
    return found


def main(model: str, file: str) -> None:
    from worker.model.backend import keras

    np.savez(file, **arrays(keras.models.load_model(model, compile=False)))


if __name__ == "__main__":
    main(*sys.argv[1:])
