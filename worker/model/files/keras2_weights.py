"""Weights of Keras 2 converted for what Keras 3 computes with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from worker.model.backend import keras
from worker.model.files.keras2 import hard_sigmoid

# hard_sigmoid is clip(x/5 + 1/2) in Keras 2 and clip(x/6 + 1/2) in Keras 3: the first of x is the second of 1.2·x.
HARD_SIGMOID_RATIO = 1.2


def from_cudnn(group: Any) -> None:
    """Turn the weights of CuDNNLSTM and CuDNNGRU into those of LSTM and GRU(reset_after=True), in place.

    ``group`` holds a model's weights. The first have two biases side by side, 8 or 6 times the units, which no other
    layer has, and their kernels transposed gate by gate.
    """
    for part in list(group.values()):
        if not hasattr(part, "items"):
            continue
        names = [_as_text(name) for name in part.attrs.get("weight_names", ())] or sorted(
            (name for name, item in part.items() if hasattr(item, "shape")), key=lambda name: (len(name), name)
        )
        for kernel, recurrent, bias in zip(names, names[1:], names[2:], strict=False):
            shapes = [part[name].shape for name in (kernel, recurrent, bias)]
            if [len(shape) for shape in shapes] != [2, 2, 1]:
                continue
            units, width = shapes[1]
            gates = width // max(units, 1)
            if gates in (3, 4) and shapes[0][1] == width == gates * units and shapes[2] == (2 * width,):
                values = [np.hsplit(part[name][()], gates) for name in (kernel, recurrent)]
                _replace(part, kernel, np.hstack([one.T.reshape(one.shape, order="F") for one in values[0]]))
                _replace(part, recurrent, np.hstack([one.T for one in values[1]]))
                biases = part[bias][()].reshape(2, width)
                _replace(part, bias, biases.sum(axis=0) if gates == 4 else biases)
        from_cudnn(part)


def _as_text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _replace(part: Any, name: str, value: Any) -> None:
    del part[name]
    part[name] = value


def set_right(model: Any) -> None:
    """Make Keras 3 compute with these weights what Keras 2 did: scale the weights before a hard_sigmoid, in place.

    Raises ModelRefusedError for a hard_sigmoid where no weights stand before it.
    """
    for layer in model._flatten_layers(include_self=False):
        hard = [name for name in ("activation", "recurrent_activation") if _is_hard(getattr(layer, name, None))]
        if not hard or hasattr(layer, "cell"):  # a recurrent layer shows its cell's activations
            continue
        parts = _blocks(layer, hard)
        if parts is None:
            raise hard_sigmoid(layer.name)
        count, scaled = parts
        ratio = np.ones(count)
        ratio[scaled] = HARD_SIGMOID_RATIO
        layer.set_weights([w * np.repeat(ratio, w.shape[-1] // count).astype(w.dtype) for w in layer.get_weights()])


def _is_hard(activation: Any) -> bool:
    return activation is keras.activations.hard_sigmoid


def _blocks(layer: Any, hard: list[str]) -> tuple[int, list[int]] | None:
    """Into how many blocks the last axis of the weights falls, and which of them go straight into a hard_sigmoid."""
    kind = type(layer)
    if kind in (keras.layers.Dense, keras.layers.Conv1D, keras.layers.SimpleRNNCell):
        return 1, [0]
    lstm = (keras.layers.LSTMCell, keras.src.layers.rnn.conv_lstm.ConvLSTMCell)
    if kind in lstm and hard == ["recurrent_activation"]:  # i, f, c, o; c goes into `activation`
        return 4, [0, 1, 3]
    if kind is keras.layers.GRUCell:  # z, r, h
        return 3, ([0, 1] if "recurrent_activation" in hard else []) + ([2] if "activation" in hard else [])
    return None
