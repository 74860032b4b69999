"""Stacks of layers that nobody has thought of: each streams with proof, or the layer in the way is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from tests.depth import examples
from tests.models import F, L, shaken
from worker import ModelRefusedError, StreamingModel
from worker.model.backend import keras

pytestmark = pytest.mark.zoo

TOLERANCE = 1e-5
Block = Callable[[Any], Any]
sizes = st.integers(1, 7)


@st.composite
def recurrent(draw: Any) -> Block:
    kind = draw(st.sampled_from([L.LSTM, L.GRU, L.SimpleRNN]))
    options = {"return_sequences": True, "use_bias": draw(st.booleans()), "dropout": draw(st.sampled_from([0.0, 0.3]))}
    if kind is L.GRU:
        options["reset_after"] = draw(st.booleans())
    units = draw(sizes)
    if draw(st.booleans()):
        return lambda x: kind(units, **options)(x)
    cells = draw(st.lists(st.sampled_from([L.LSTMCell, L.GRUCell, L.SimpleRNNCell]), min_size=1, max_size=2))
    return lambda x: L.RNN([cell(units) for cell in cells], return_sequences=True)(x)


@st.composite
def per_step(draw: Any) -> Block:
    units = draw(sizes)
    chosen: Block = draw(
        st.sampled_from(
            [
                lambda x: L.Dense(units, activation="tanh")(x),
                lambda x: L.LayerNormalization()(x),
                lambda x: L.BatchNormalization()(x),
                lambda x: L.LeakyReLU()(x),
                lambda x: L.Dropout(0.4)(x),
                lambda x: L.TimeDistributed(L.Dense(units))(x),
                lambda x: x * 0.5 + 1,
                lambda x: keras.ops.tanh(x),
            ]
        )
    )
    return chosen


@st.composite
def convolution(draw: Any) -> Block:
    units, kernel, dilation = draw(sizes), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    return lambda x: L.Conv1D(units, kernel, padding="causal", dilation_rate=dilation)(x)


def residual(block: Block) -> Block:
    """The block, and around it the way past it."""

    def around(x: Any) -> Any:
        y = block(x)
        return L.Add()([y, L.Dense(y.shape[-1])(x)])

    return around


def branches(left: Block, right: Block) -> Block:
    return lambda x: L.Concatenate()([left(x), right(x)])


def nested(block: Block) -> Block:
    def inside(x: Any) -> Any:
        inner = keras.Input((None, x.shape[-1]))
        return keras.Model(inner, block(inner))(x)

    return inside


single = st.one_of(recurrent(), per_step(), convolution())
blocks = st.recursive(
    single,
    lambda inner: st.one_of(inner.map(residual), inner.map(nested), st.builds(branches, inner, inner)),
    max_leaves=3,
)
ends = st.sampled_from(
    [
        lambda x: L.LSTM(3)(x),
        lambda x: L.GRU(4)(x),
        lambda x: L.GlobalAveragePooling1D()(L.SimpleRNN(3, return_sequences=True)(x)),
        lambda x: L.GlobalMaxPooling1D()(L.LSTM(2, return_sequences=True)(x)),
        lambda x: L.GRU(3, return_sequences=True)(x)[:, -1],
        lambda x: L.SimpleRNN(3, return_sequences=True)(x),
    ]
)
begins = st.sampled_from([lambda x: x, lambda x: L.Masking(0.0)(x)])

bounded = settings(
    max_examples=examples(20),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)


def model_of(begin: Block, middle: list[Block], end: Block) -> Any:
    x = keras.Input((None, F))
    y = begin(x)
    for block in middle:
        y = block(y)
    return shaken(keras.Model(x, L.Dense(2)(end(y))))


def keras_can_run(trained: Any, steps: int = 5) -> bool:
    """Keras 3.15 fails on a mask for a stack of one cell with two states."""
    try:
        trained(np.ones((2, steps, F), "float32"))
    except ValueError:
        return False
    return True


@bounded
@given(begins, st.lists(blocks, min_size=1, max_size=3), ends, st.integers(0, 100))
def test_any_stack_of_known_layers_streams(begin: Block, middle: list[Block], end: Block, seed: int) -> None:
    trained = model_of(begin, middle, end)
    assume(keras_can_run(trained))
    model = StreamingModel(trained)
    found = model.parity(sequences=3, steps=8, seed=seed)
    assert found.max_abs_difference <= TOLERANCE, (found, [report.kind for report in model.layers])


CULPRITS: dict[str, Block] = {
    "bidirectional": lambda x: L.Bidirectional(L.GRU(2, return_sequences=True), name="culprit")(x),
    "same": lambda x: L.Conv1D(2, 3, strides=2, padding="same", name="culprit")(x),
    "attention": lambda x: L.MultiHeadAttention(1, 2, name="culprit")(x, x),
    "backwards": lambda x: L.LSTM(2, go_backwards=True, return_sequences=True, name="culprit")(x),
    "upsampling": lambda x: L.UpSampling1D(2, name="culprit")(x),
    "group": lambda x: L.GroupNormalization(1, name="culprit")(x),
}


@pytest.mark.parametrize("name", CULPRITS)
@settings(bounded, max_examples=examples(3))
@given(data=st.data())
def test_the_layer_in_the_way_is_named_wherever_it_is(name: str, data: Any) -> None:
    before, after = data.draw(st.lists(blocks, max_size=2)), data.draw(st.lists(blocks, max_size=2))
    trained = model_of(lambda x: x, [*before, CULPRITS[name], *after], data.draw(ends))
    with pytest.raises(ModelRefusedError) as refusal:
        StreamingModel(trained)
    assert refusal.value.layer == "culprit"
