"""One step of LSTM → LSTM → Dense(sigmoid) in numpy, for peers without their own model runtime.

Weights are those of the Keras model, saved by ``benchmarks/peers/weights.py``. Gates are in Keras' order: i, f, c, o.
"""

from __future__ import annotations

import numpy as np


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


class Step:
    """``x`` (features,) and a packed state (width,) → probability and the next state; width is 2 × the units of all."""

    def __init__(self, file: str) -> None:
        weights = np.load(file)
        self.layers = []
        for number in range(int(weights["layers"])):
            kernel, recurrent, bias = (weights[f"{name}{number}"] for name in ("kernel", "recurrent", "bias"))
            # One product for input and state: half as many calls.
            self.layers.append((np.ascontiguousarray(np.vstack([kernel, recurrent])), bias, recurrent.shape[0]))
        self.dense, self.dense_bias = weights["dense"], weights["dense_bias"]
        self.width = 2 * sum(units for _, _, units in self.layers)

    def __call__(self, x: np.ndarray, state: np.ndarray) -> tuple[float, np.ndarray]:
        after = np.empty_like(state)
        place = 0
        for kernel, bias, units in self.layers:
            h, c = state[place : place + units], state[place + units : place + 2 * units]
            gates = np.concatenate([x, h]) @ kernel + bias
            kept = sigmoid(gates[units : 2 * units]) * c
            cell = kept + sigmoid(gates[:units]) * np.tanh(gates[2 * units : 3 * units])
            x = sigmoid(gates[3 * units :]) * np.tanh(cell)
            after[place : place + units], after[place + units : place + 2 * units] = x, cell
            place += 2 * units
        return float(sigmoid(x @ self.dense + self.dense_bias)[0]), after
