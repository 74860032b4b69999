"""The proof: what is streamed step by step equals what the trained model says to each prefix of a sequence.

The trained model may be bound to one batch size and length and keep states of its own, so a flexible copy answers for
the prefixes, and the copy is held against the trained model itself once, at the shape that one takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.errors import WorkerError
from worker.model.backend import keras, tf
from worker.model.explicit import ExplicitModel
from worker.model.graph import Layer, LayerCall, copy_layer, copy_weights, graph_of, layers_of, walk
from worker.model.step import PackedStep
from worker.records import FloatArray

FREE_LENGTH_STEPS = 10
FREE_BATCH_ROWS = 2


@dataclass(frozen=True, slots=True)
class Parity:
    """Greatest absolute differences found; not a number where an output is not.

    ``max_abs_difference`` is the greatest of the three: streamed against prefixes, a stream in a batch against the
    same stream alone, flexible copy against the trained model. ``where`` says which, and at which step.
    """

    max_abs_difference: float
    where: str
    prefixes: float
    batching: float
    original: float
    sequences: int
    steps: int


def measure(
    original: Any, explicit: ExplicitModel, packed: PackedStep, sequences: int, steps: int, seed: int
) -> Parity:
    """Stream ``sequences`` random sequences of ``steps`` steps and compare."""
    assert sequences > 0, "no sequences, no proof"
    assert steps > 0, "no steps, no proof"
    xs = random_inputs(original, explicit, sequences, steps, seed)
    zero = np.zeros((sequences, packed.state_width), packed.dtype)
    streamed, _ = packed.scan(np.swapaxes(xs, 0, 1), zero)
    streamed = np.swapaxes(streamed, 0, 1)
    flexible = flexible_copy(original)
    difference, where = _worst(streamed, _prefixes(flexible, explicit, xs))
    alone = np.concatenate([np.swapaxes(packed.scan(x[:, np.newaxis], zero[:1])[0], 0, 1) for x in xs])
    batching, where_batching = _worst(streamed, alone)
    unbound = _against_original(original, flexible, explicit, seed)
    found = [
        (difference, f"{where}, streamed against the prefix"),
        (batching, f"{where_batching}, in a batch against alone"),
        (unbound, "flexible copy against the trained model"),
    ]
    greatest, place = max(found, key=lambda item: np.inf if np.isnan(item[0]) else item[0])
    return Parity(greatest, place, difference, batching, unbound, sequences, steps)


def check(parity: Parity, tolerance: float) -> Parity:
    """Raises WorkerError when the difference is above the tolerance or not a number."""
    if not parity.max_abs_difference <= tolerance:
        raise WorkerError(
            f"parity: the streamed model differs from the trained one by {parity.max_abs_difference:.3g} "
            f"({parity.where}), more than the tolerance {tolerance:.3g}; "
            "raise model.parity_tolerance if that is acceptable, else report this model"
        )
    return parity


def random_inputs(original: Any, explicit: ExplicitModel, sequences: int, steps: int, seed: int) -> FloatArray:
    """(sequences, steps, features): standard normal, or ids that the Embedding knows."""
    rng = np.random.default_rng(seed)
    shape = (sequences, steps, explicit.features)
    if not explicit.has_feature_axis:
        sizes = [layer.input_dim for layer in layers_of(original) if isinstance(layer, keras.layers.Embedding)]
        return np.asarray(rng.integers(0, min(sizes, default=2), shape), np.float64)
    inputs = np.asarray(rng.normal(size=shape), np.float64)
    for layer in layers_of(original):  # data in the units that the model was trained on
        if isinstance(layer, keras.layers.RNN):
            break
        if isinstance(layer, keras.layers.Normalization):
            mean, variance = (keras.ops.convert_to_numpy(v) for v in (layer.mean, layer.variance))
            return np.asarray(inputs * np.sqrt(variance).reshape(-1) + mean.reshape(-1), np.float64)
        if isinstance(layer, keras.layers.Rescaling) and np.isscalar(layer.scale) and layer.scale:
            return np.asarray((inputs - np.asarray(layer.offset)) / layer.scale, np.float64)
    return inputs


def flexible_copy(original: Any) -> Any:
    """The trained model for any batch size and length, without states of its own, with the same weights."""
    copies: dict[int, Layer] = {}
    names: set[str] = set()

    def visit(call: LayerCall) -> Any:
        layer = call.layer
        if id(layer) not in copies:
            name = layer.name if layer.name not in names else f"{layer.name}.{len(names)}"
            names.add(name)
            changes = {"stateful": False, "unroll": False} if isinstance(layer, keras.layers.RNN) else {}
            copies[id(layer)] = copy_layer(layer, name, **changes)
        outputs = copies[id(layer)](*call.args, **call.kwargs)
        copy_weights(layer, copies[id(layer)])
        return outputs

    source = graph_of(original).inputs[0]
    x = keras.Input((None, *source.shape[2:]), dtype=source.dtype)
    return keras.Model(x, walk(original, [x], visit)[0])


def _prefixes(flexible: Any, explicit: ExplicitModel, xs: FloatArray) -> FloatArray:
    """(sequences, steps, units): what the model says to each prefix."""
    x = _as_input(flexible, explicit, xs)
    if explicit.output_over_time:
        return np.asarray(flexible(x, training=False))
    run: Any = partial(flexible, training=False)
    if not any(isinstance(layer, keras.layers.TimeDistributed) for layer in layers_of(flexible)):
        # One graph for all lengths. (TimeDistributed's loop fails in a graph of open length, so it runs without.)
        spec = tf.TensorSpec([len(x), None, *x.shape[2:]], x.dtype)
        run = tf.function(run, input_signature=[spec], autograph=False)
    return np.stack([np.asarray(run(x[:, : length + 1])) for length in range(x.shape[1])], axis=1)


def _against_original(original: Any, flexible: Any, explicit: ExplicitModel, seed: int) -> float:
    source = graph_of(original).inputs[0]
    batch, steps = source.shape[0] or FREE_BATCH_ROWS, source.shape[1] or FREE_LENGTH_STEPS
    xs = random_inputs(original, explicit, batch, steps, seed + 1)
    stateful = [
        variable
        for layer in layers_of(original)
        if getattr(layer, "stateful", False)
        for variable in keras.tree.flatten(layer.states)
    ]
    kept = [keras.ops.convert_to_numpy(variable) for variable in stateful]
    try:
        for variable in stateful:
            variable.assign(keras.ops.zeros_like(variable))
        wanted = np.asarray(original(_as_input(original, explicit, xs), training=False))
    finally:
        for variable, value in zip(stateful, kept, strict=True):
            variable.assign(value)  # the trained model is the caller's: leave it as it was
    given = np.asarray(flexible(_as_input(flexible, explicit, xs), training=False))
    return _worst(given, wanted)[0]


def _as_input(model: Any, explicit: ExplicitModel, xs: FloatArray) -> NDArray[Any]:
    x = xs if explicit.has_feature_axis else xs[..., 0]
    return x.astype(model.inputs[0].dtype)


def _worst(given: FloatArray, wanted: FloatArray) -> tuple[float, str]:
    """The greatest difference and its place; arrays (sequences, steps, units) or of any one shape."""
    difference = np.abs(given.astype(np.float64) - wanted.astype(np.float64))
    if not difference.size:
        return 0.0, "nowhere"
    place = np.unravel_index(int(np.argmax(np.where(np.isnan(difference), np.inf, difference))), difference.shape)
    words = f"sequence {place[0]}"
    if difference.ndim == 3:
        words += f", after step {place[1] + 1}, unit {place[2]}"
    return float(difference[place]), words
