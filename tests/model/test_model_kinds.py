"""Every layer class of Keras and most of keras.ops: streamed and right, or refused by name. Nothing in between."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import F, shaken
from tests.zoo import per_step
from worker import ModelRefusedError, StreamingModel
from worker.model.backend import keras

pytestmark = pytest.mark.zoo

L = keras.layers
ops = keras.ops
TOLERANCE = 1e-5
T = 6  # steps where the number of steps must be known

VECTORS, PLANES, PICTURES, IDS = (T, F), (T, 8, F), (T, 8, 8, 3), (T,)
CUBES = (T, 2, 2, F)

# What is no layer of a model by itself: parts of others, bases, bridges to other libraries, what takes words or boxes.
NOT_LAYERS = {
    *("Layer", "Wrapper", "InputLayer", "InputSpec", "Pipeline", "RNN", "StackedRNNCells"),
    *("LSTMCell", "GRUCell", "SimpleRNNCell", "FlaxLayer", "JaxLayer", "TorchModuleWrapper", "TFSMLayer"),
    *("StringLookup", "TextVectorization", "MaxNumBoundingBoxes"),
    "STFTSpectrogram",  # needs scipy
    "Equalization",  # Keras 3.15 leaves it out of the graph
}


def _made(*args: Any, shape: tuple[int, ...] = VECTORS, **kwargs: Any) -> tuple[Callable[[Any], Any], tuple[int, ...]]:
    return lambda kind: kind(*args, **kwargs), shape


_SEQUENCES = _made(3, return_sequences=True)
# What a class needs where nothing is not enough: its arguments, and the shape of the input without batch.
ARGUMENTS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN"), _SEQUENCES),
    **dict.fromkeys(("Dropout", "GaussianDropout", "GaussianNoise", "AlphaDropout", "SpatialDropout1D"), _made(0.3)),
    **dict.fromkeys(("CenterCrop", "RandomCrop", "Resizing"), _made(4, 4, shape=PLANES)),
    **dict.fromkeys(("RandomTranslation", "RandomZoom"), _made(0.1, 0.1, shape=PLANES)),
    **{
        f"Random{what}": _made(0.1, shape=PLANES) for what in ("Brightness", "Contrast", "Hue", "Rotation", "Sharpness")
    },
    **{f"Random{what}": _made(0.1, shape=PLANES) for what in ("ColorDegeneration", "Saturation")},
    **{f"AveragePooling{n}D": _made(2, shape=shape) for n, shape in ((1, VECTORS), (2, PLANES), (3, PICTURES))},
    **{
        f"Adaptive{what}Pooling{n}D": _made(2, shape=shape)
        for what in ("Average", "Max")
        for n, shape in ((1, VECTORS), (2, PLANES), (3, PICTURES))
    },
    **{
        f"{kind}{n}D{end}": _made(2, 2, shape=shape)
        for kind in ("Conv", "SeparableConv")
        for n, shape in ((1, VECTORS), (2, PLANES), (3, PICTURES))
        for end in ("", "Transpose")
    },
    **{f"DepthwiseConv{n}D": _made(2, shape=shape) for n, shape in ((1, VECTORS), (2, PLANES))},
    "ConvLSTM1D": _made(2, 3, return_sequences=True, shape=PLANES),
    "ConvLSTM2D": _made(2, 3, return_sequences=True, shape=PICTURES),
    "ConvLSTM3D": _made(2, 2, return_sequences=True, shape=(T, 3, 3, 3, 1)),
    "Activation": _made("tanh"),
    "Bidirectional": (lambda kind: kind(L.LSTM(2)), VECTORS),
    "CategoryEncoding": _made(5, output_mode="one_hot", shape=IDS),
    "Cropping1D": _made(1),
    "Dense": _made(4),
    "Discretization": _made([-1.0, 1.0]),
    "Dot": _made(2),
    "EinsumDense": _made("btf,fu->btu", (T, 4)),
    "Embedding": _made(5, 3, shape=IDS),
    "GroupNormalization": _made(1),
    "GroupQueryAttention": _made(2, 2, 1),
    "HashedCrossing": _made(4, shape=IDS),
    "Hashing": _made(4, shape=IDS),
    "IntegerLookup": _made(vocabulary=[0, 1, 4], shape=IDS),
    "Lambda": (lambda kind: kind(lambda x: x * 2), VECTORS),
    "MultiHeadAttention": _made(2, 2),
    "Normalization": _made(mean=[1.0, 2.0, 3.0], variance=[2.0, 1.0, 4.0]),
    "Permute": _made((1, 2)),
    "RepeatVector": _made(3, shape=IDS),
    "Rescaling": _made(0.5),
    "RandomPosterization": _made(4, shape=PLANES),
    "Reshape": _made((-1, F)),
    "ReversibleEmbedding": _made(5, 3, shape=IDS),
    "SpatialDropout2D": _made(0.3, shape=PLANES),
    "SpatialDropout3D": _made(0.3, shape=CUBES),
    "SpectralNormalization": (lambda kind: kind(L.Dense(3)), VECTORS),
    "TimeDistributed": (lambda kind: kind(L.Dense(3)), VECTORS),
    "UpSampling1D": _made(2),
}
OF_LISTS = (L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum, L.Concatenate, L.Dot, L.HashedCrossing)
OF_TWO = (L.MultiHeadAttention, L.GroupQueryAttention)


def kinds() -> list[str]:
    """One name per class; Keras has several for some."""
    classes = {kind: name for name, kind in inspect.getmembers(L, inspect.isclass) if kind.__name__ != name}
    classes |= {kind: name for name, kind in inspect.getmembers(L, inspect.isclass) if kind.__name__ == name}
    return sorted(set(classes.values()) - NOT_LAYERS)


def shape_for(name: str) -> tuple[int, ...]:
    pictures = ("Random", "RandAugment", "Aug", "Auto", "Contrast", "Solar", "MixUp", "CutMix")
    return PLANES if "2D" in name or name.startswith(pictures) else PICTURES if "3D" in name else VECTORS


def model_with(name: str) -> Any:
    """Input → the layer → (batch, time, features) → LSTM → Dense; without time, only Dense."""
    kind = getattr(L, name)
    make, shape = ARGUMENTS.get(name, (lambda kind: kind(), shape_for(name)))
    layer = make(kind)
    layer.name = "culprit"
    x = keras.Input(shape, dtype="int32" if shape == IDS else "float32")
    one = x * 2 if shape != IDS else x + 0
    y = (
        layer([x, one])
        if isinstance(layer, (*OF_LISTS, L.Attention))
        else layer(*[x] * (1 + isinstance(layer, OF_TWO)))
    )
    if len(y.shape) == 2 and y.shape[1] == T:
        y = L.Embedding(5, 2)(y)
    if len(y.shape) > 3:
        y = L.TimeDistributed(L.Flatten())(y)
    return shaken(keras.Model(x, L.Dense(2)(L.LSTM(3)(y) if len(y.shape) == 3 else y)))


def outcome(model: Any) -> str:
    """Streamed, after the proof, or the name of the layer that is refused."""
    try:
        streaming = StreamingModel(model)
    except ModelRefusedError as refusal:
        return refusal.layer
    found = streaming.parity(sequences=2, steps=4)
    assert found.max_abs_difference <= TOLERANCE, found
    return "streamed"


@pytest.mark.parametrize("name", kinds())
def test_every_layer_class_streams_rightly_or_is_refused_by_name(name: str) -> None:
    assert outcome(model_with(name)) == ("streamed" if name in STREAMED else "culprit")


STREAMED = {
    *("Activation", "ActivityRegularization", "Add", "AlphaDropout", "Average", "AveragePooling1D"),
    *("AveragePooling2D", "AveragePooling3D", "MaxPooling2D", "MaxPooling3D", "Conv2D", "Conv3D"),
    *("DepthwiseConv2D", "SeparableConv2D"),
    *("BatchNormalization", "Conv1D", "Cropping1D", "DepthwiseConv1D", "MaxPooling1D", "SeparableConv1D"),
    *("CategoryEncoding", "Concatenate", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "Dense", "Discretization"),
    *("Dropout", "ELU", "EinsumDense", "Embedding", "GRU", "GaussianDropout", "GaussianNoise"),
    *(f"Global{what}Pooling{n}D" for what in ("Average", "Max") for n in (1, 2, 3)),
    *("Hashing", "Identity", "IntegerLookup", "LSTM", "Lambda", "LayerNormalization", "LeakyReLU", "Masking"),
    *("Maximum", "Minimum", "Multiply", "Normalization", "Permute", "RMSNormalization", "ReLU", "Rescaling"),
    *("Reshape", "ReversibleEmbedding", "SimpleRNN", "Softmax", "SpatialDropout1D", "SpatialDropout2D"),
    *("SpatialDropout3D", "SpectralNormalization", "Subtract", "TimeDistributed", "UnitNormalization"),
}

POSITIVE = [
    *("abs", "absolute", "arccosh", "arcsinh", "arctan", "cbrt", "ceil", "cos", "cosh", "deg2rad", "exp", "exp2"),
    *("expm1", "floor", "isfinite", "isinf", "isnan", "log", "log10", "log1p", "log2", "logical_not", "nan_to_num"),
    *("negative", "ones_like", "rad2deg", "reciprocal", "round", "rsqrt", "sign", "signbit", "sin", "sinc", "sinh"),
    *("sqrt", "square", "stop_gradient", "tan", "tanh", "trunc", "zeros_like", "erf", "copy"),
    *("celu", "elu", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu", "log_sigmoid"),
    *("relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softplus", "softsign", "sparse_plus"),
    *("sparse_sigmoid", "squareplus", "swish", "tanh_shrink"),
]
PAIRS = [
    *("add", "arctan2", "divide", "divide_no_nan", "equal", "floor_divide", "greater", "greater_equal", "heaviside"),
    *("hypot", "less", "less_equal", "logaddexp", "logical_and", "logical_or", "logical_xor", "maximum", "minimum"),
    *("mod", "multiply", "not_equal", "power", "subtract", "true_divide"),
]
ALONG = [
    *("all", "amax", "amin", "any", "argmax", "argmin", "count_nonzero", "max", "mean", "median", "min", "prod"),
    *("ptp", "std", "sum", "var", "logsumexp", "norm", "nanmax", "nansum"),
]
KEEPING = [
    *("cumprod", "cumsum", "sort", "argsort", "flip", "softmax", "log_softmax", "sparsemax", "normalize", "diff"),
]


def numbers(y: Any) -> Any:
    return ops.cast(y, "float32")


def of_function(body: Callable[[Any], Any]) -> Any:
    """Input → positive numbers → body → LSTM → Dense."""
    x = keras.Input((T, F))
    y = body(ops.softplus(x) + 1.1)
    return shaken(keras.Model(x, L.Dense(2)(L.LSTM(3)(y))))


def of_a_number(names: Sequence[str], x: Any) -> Any:
    return ops.concatenate([numbers(getattr(ops, name)(x / 2 if "arc" not in name else x)) for name in names], axis=-1)


def of_two_numbers(names: Sequence[str], x: Any) -> Any:
    by_name = [
        getattr(ops, name)(x > 1.5, x[:, :, :1] > 1.5) if "logical" in name else getattr(ops, name)(x, x[:, :, 1:2])
        for name in names
    ]
    return ops.concatenate([numbers(y) for y in by_name], axis=-1)


def over_time(name: str, x: Any) -> Any:
    return getattr(ops, name)(x, axis=1)


def over_the_batch(name: str, x: Any) -> Any:
    return x * numbers(getattr(ops, name)(x, axis=0, keepdims=True))


# Several functions in one model, so that there are fewer to build.
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    **{
        f"of a number: {', '.join(POSITIVE[i : i + 8])}": partial(of_a_number, POSITIVE[i : i + 8])
        for i in range(0, len(POSITIVE), 8)
    },
    **{
        f"of two numbers: {', '.join(PAIRS[i : i + 8])}": partial(of_two_numbers, PAIRS[i : i + 8])
        for i in range(0, len(PAIRS), 8)
    },
    "along features": lambda x: ops.stack(
        [numbers(getattr(ops, name)(x > 1.5 if name in ("all", "any") else x, axis=-1)) for name in ALONG], axis=-1
    ),
    "along features, kept": lambda x: ops.concatenate(
        [numbers(getattr(ops, name)(x, axis=2)) for name in KEEPING], axis=-1
    ),
    "taken": lambda x: ops.concatenate([ops.take(x, [2, 0], axis=2), ops.repeat(x, 2, axis=-1), ops.roll(x, 1, 2)], 2),
    "split": lambda x: ops.concatenate([y * n for n, y in enumerate(ops.split(x, [1], axis=2))], axis=2),
    "unstacked": lambda x: ops.stack(ops.unstack(x, axis=2)[1:], axis=2),
    "best": lambda x: ops.top_k(x, 2)[0],
    "moments": lambda x: ops.concatenate(ops.moments(x, axes=[2], keepdims=True), axis=-1),
    "bins": lambda x: ops.one_hot(ops.digitize(x, np.array([1.5, 2.0])), 3)[..., 0],
    "chosen": lambda x: ops.where(ops.isclose(x, 1.5), x, ops.full_like(x, 0.5)),
    "cast": lambda x: ops.saturate_cast(ops.cast(x * 100, "int32"), "float32") / 100,
    "thresholds": lambda x: ops.threshold(ops.clip(x, 1.2, 2.5), 1.5, 0.0),
    "moved and back": lambda x: ops.moveaxis(ops.swapaxes(x[:, :, None], 2, 3), 3, 2)[:, :, 0],
    "dot": lambda x: ops.dot(x, np.ones((F, 2), "float32")),
}
MIXING: dict[str, tuple[Callable[[Any], Any], str]] = {
    **{f"{name} over time": (partial(over_time, name), name) for name in KEEPING[2:]},
    **{
        f"{name} over the batch": (partial(over_the_batch, name), name)
        for name in ("amax", "argmax", "max", "mean", "prod", "std", "sum", "norm")
    },
    "taken from time": (lambda x: ops.take(x, [0, 1], axis=1), "take"),
    "rolled": (lambda x: ops.roll(x, 1, axis=1), "roll"),
    "everything sorted": (lambda x: x * ops.argmax(x), "argmax"),
    "tiled": (lambda x: ops.tile(x, (1, 2, 1)), "tile"),
    "new axis": (lambda x: ops.expand_dims(x, 1)[:, 0], "expand_dims"),
    "all axes turned": (lambda x: ops.transpose(ops.transpose(x)), "transpose"),
    "squeezed": (lambda x: ops.squeeze(ops.expand_dims(x, 3)), "squeeze"),
    "products of steps": (lambda x: ops.matmul(np.ones((T, T), "float32"), x), "matmul"),
    "step to step": (lambda x: ops.tensordot(x, np.ones((T, T), "float32"), axes=[[1], [0]]), "tensordot"),
    "vectors mapped": (lambda x: ops.vectorized_map(lambda row: row * 2, x), "vectorized_map"),
    "scattered": (lambda x: ops.slice(x, (0, 1, 0), (2, 3, F)), "slice"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_single_steps_stream(name: str) -> None:
    assert outcome(of_function(FUNCTIONS[name])) == "streamed"


@pytest.mark.parametrize("name", MIXING)
def test_functions_that_mix_steps_or_streams_are_refused(name: str) -> None:
    body, function = MIXING[name]
    with pytest.raises(ModelRefusedError) as refusal:
        StreamingModel(of_function(body))
    assert refusal.value.layer.startswith(function)


def test_a_step_may_be_a_picture_or_its_numbers_in_a_row() -> None:
    model = StreamingModel(per_step.ZOO["pictures, each step alone"]())
    picture = np.random.default_rng(0).normal(size=(2, 8, 8, 1))
    whole, _ = model.step(picture, model.zero_states(2))
    flat, _ = model.step(picture.reshape(2, 64), model.zero_states(2))
    np.testing.assert_array_equal(whole, flat)
    assert np.abs(whole[0] - whole[1]).max() > 1e-4


def test_the_page_on_layers_lists_every_class() -> None:
    page = (Path(__file__).parents[2] / "docs" / "layers.md").read_text()
    streaming, refused = page.split("## What is refused")
    missing = {name for name in kinds() if f"`{name}`" not in page and not name.startswith("Random")}
    assert not missing
    assert not {name for name in STREAMED if f"`{name}" not in streaming}
    cells = "".join(line.split("|")[1] for line in refused.splitlines() if line.startswith("| "))
    assert not {name for name in STREAMED - {"Reshape", "Permute"} if f"`{name}`" in cells}


def test_a_vocabulary_learned_from_data_is_kept() -> None:
    """From a file no lookup layer is taken, because its configuration may name other files."""
    lookup = L.IntegerLookup()
    lookup.adapt(np.array([[0, 1, 1, 7]]))
    ids = keras.Input((None,), dtype="int32")
    assert outcome(shaken(keras.Model(ids, L.LSTM(2)(L.Embedding(5, 3)(lookup(ids)))))) == "streamed"
