"""Stacks of layers with fewer steps than events, or looking ahead, mixed with all others: each streams with proof."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from tests.depth import DEEP
from tests.model.test_model_random_stacks import (
    TOLERANCE,
    Block,
    begins,
    blocks,
    bounded,
    ends,
    keras_can_run,
    sizes,
)
from tests.models import F, L, shaken
from worker import ModelRefusedError, StreamingModel
from worker.model.backend import keras

pytestmark = pytest.mark.zoo

STACKS = 2000 if DEEP else 12
LATEST_ANSWER = 40  # else most of the time goes into waiting for one


@st.composite
def convolution(draw: Any) -> Block:
    kind = draw(st.sampled_from([L.Conv1D, L.SeparableConv1D, L.DepthwiseConv1D]))
    kernel, stride, left, units = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(0, 3)), draw(sizes)
    options = {"strides": stride} if stride > 1 else {"dilation_rate": draw(st.integers(1, 3))}
    reach = (kernel - 1) * options.get("dilation_rate", 1)
    if kind is L.Conv1D and draw(st.booleans()):
        return lambda x: kind(units, kernel, padding="causal", **options)(x)
    sized = {} if kind is L.DepthwiseConv1D else {"filters": units}

    def block(x: Any) -> Any:
        padded = L.ZeroPadding1D((min(left, reach), 0))(x) if left else x
        return kind(kernel_size=kernel, **sized, **options)(padded)

    return block


@st.composite
def pooling(draw: Any) -> Block:
    kind, pool = draw(st.sampled_from([L.MaxPooling1D, L.AveragePooling1D])), draw(st.integers(1, 4))
    stride = draw(st.one_of(st.none(), st.integers(1, 3)))
    return lambda x: kind(pool, stride)(x)


@st.composite
def cropping(draw: Any) -> Block:
    first, last, stride = draw(st.integers(0, 3)), draw(st.integers(0, 3)), draw(st.integers(1, 2))
    if draw(st.booleans()):
        return lambda x: L.Cropping1D((first, last))(x)
    return lambda x: x[:, first : -last or None : stride]


@st.composite
def ahead(draw: Any) -> Block:
    """Looks at later steps, as far as these come."""
    kernel, dilation, units = draw(st.integers(1, 4)), draw(st.integers(1, 2)), draw(sizes)
    zeros = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    reach = max(sum(zeros), 1)
    chosen: Block = draw(
        st.sampled_from(
            [
                lambda x: L.Conv1D(units, kernel, padding="same", dilation_rate=dilation)(x),
                lambda x: L.SeparableConv1D(units, kernel, padding="same")(x),
                lambda x: L.DepthwiseConv1D(kernel, padding="same")(x),
                lambda x: L.Conv1D(units, 2, strides=2, padding="same")(x),
                lambda x: L.MaxPooling1D(kernel, 1, padding="same")(x),
                lambda x: L.AveragePooling1D(kernel, 1, padding="same")(x),
                lambda x: L.MaxPooling1D(2, padding="same")(x),
                lambda x: L.Conv1D(units, 1 + reach)(L.ZeroPadding1D(zeros)(x)),
                lambda x: L.Add()([x, L.Conv1D(x.shape[-1], kernel, padding="same")(x)]),
                lambda x: L.Concatenate()([L.Conv1D(units, kernel, padding="same")(x), L.Dense(units)(x)]),
            ]
        )
    )
    return chosen


@st.composite
def beside(draw: Any) -> Block:
    """Over several steps and several of their features at once, as over a picture."""
    kind = draw(st.sampled_from([L.Conv2D, L.SeparableConv2D, L.DepthwiseConv2D, L.MaxPooling2D, L.AveragePooling2D]))
    tall, wide, padding = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.sampled_from(["valid", "same"]))
    strides = (draw(st.integers(1, 3)) if padding == "valid" else 1, draw(st.integers(1, 2)))
    if kind not in (L.MaxPooling2D, L.AveragePooling2D):
        strides = (strides[0],) * 2  # TensorFlow has no others, or gives random numbers
    dilation = draw(st.integers(1, 2)) if kind is L.Conv2D and strides == (1, 1) else 1

    def block(x: Any) -> Any:
        size = (tall, min(wide, x.shape[-1]))
        y = L.Reshape((-1, x.shape[-1], 1))(x)
        filters = [2] if kind in (L.Conv2D, L.SeparableConv2D) else []
        dilated = {"dilation_rate": (dilation, 1)} if kind is L.Conv2D else {}
        y = kind(*filters, size, strides, padding=padding, **dilated)(y)
        return L.Reshape((-1, y.shape[2] * y.shape[3]))(y)

    return block


fewer = st.one_of(convolution(), pooling(), cropping(), ahead(), beside())


@st.composite
def stacks(draw: Any) -> Block:
    """Blocks of all kinds, one with fewer steps or looking ahead among them."""
    listed = draw(st.lists(st.one_of(blocks, fewer), max_size=2))
    listed.insert(draw(st.integers(0, len(listed))), draw(fewer))

    def whole(x: Any) -> Any:
        for block in listed:
            x = block(x)
        return x

    return whole


def streaming(trained: Any) -> StreamingModel:
    """Without the models that leave fewer of the last steps out than may still change, or join these with masks."""
    try:
        return StreamingModel(trained)
    except ModelRefusedError as refusal:
        if not any(words in str(refusal) for words in ("have not arrived yet", "with one that looks ahead")):
            raise
        reject()


@settings(bounded, max_examples=STACKS)
@given(begins, st.lists(st.tuples(stacks(), ends), min_size=1, max_size=2), st.integers(0, 100))
def test_any_stack_with_fewer_steps_streams(begin: Block, branches: list[tuple[Block, Block]], seed: int) -> None:
    """Branches of different speeds meet once each has ended, or are outputs of their own."""
    x = keras.Input((None, F))
    given = begin(x)
    ended = [end(block(given)) for block, end in branches]
    joined = len(ended) > 1 and all(len(y.shape) == 2 for y in ended)
    trained = shaken(keras.Model(x, L.Dense(2)(L.Concatenate()(ended)) if joined else [L.Dense(2)(y) for y in ended]))
    model = streaming(trained)
    assume(model.first_answer <= LATEST_ANSWER and keras_can_run(trained, model.first_answer + 4))
    found = model.parity(sequences=3, steps=12, seed=seed)
    assert found.max_abs_difference <= TOLERANCE, (found, [report.kind for report in model.layers])
