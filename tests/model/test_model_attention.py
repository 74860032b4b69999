"""A softmax over time with a sum that takes it: exact after every step, in each way that people write it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.models import F, L, shaken
from worker import ModelRefusedError, StreamingModel
from worker.model.backend import keras

pytestmark = pytest.mark.zoo

ops = keras.ops
T, U, HEADS = 9, 4, 3

# (steps h (batch, time, U), scores s (batch, time, 1), scores of several heads m (batch, time, HEADS)) → (batch, …)
Form = Callable[[Any, Any, Any], Any]


def _old_style(h: Any, s: Any, m: Any) -> Any:
    """As written for Keras 1 and 2, and copied ever since."""
    shares = L.Activation("softmax")(L.Flatten()(s))
    return L.Lambda(lambda x: ops.sum(x, axis=1), output_shape=(U,))(
        L.Multiply()([h, L.Permute((2, 1))(L.RepeatVector(U)(shares))])
    )


def _dropped(h: Any, s: Any, m: Any) -> Any:
    shares = L.Dropout(0.2)(L.Softmax(axis=-2)(s))
    return ops.sum(ops.multiply(shares, h) * 2.0, axis=-2, keepdims=True)[:, 0]


FORMS: dict[str, Form] = {
    "layer, operators": lambda h, s, m: ops.sum(h * L.Softmax(axis=1)(s), axis=1),
    "operations": lambda h, s, m: ops.sum(ops.softmax(s, axis=1) * h, axis=1),
    "layer Dot": lambda h, s, m: L.Flatten()(L.Dot(axes=1)([L.Softmax(axis=1)(m), h])),
    "layer Dot, time alone": lambda h, s, m: L.Dot(axes=1)([h, ops.softmax(s[..., 0])]),
    "einsum": lambda h, s, m: L.Flatten()(ops.einsum("btk,btu->bku", ops.softmax(m, axis=1), h)),
    "einsum, one head": lambda h, s, m: ops.einsum("bt,btu->bu", ops.softmax(ops.squeeze(s, -1), axis=1), h),
    "matmul": lambda h, s, m: L.Flatten()(ops.matmul(ops.transpose(ops.softmax(m, axis=1), (0, 2, 1)), h)),
    "mean": lambda h, s, m: ops.mean(h * ops.softmax(s, axis=1), axis=1),
    "pooled": lambda h, s, m: L.GlobalAveragePooling1D()(L.Multiply()([h, L.Softmax(axis=1)(s)])),
    "heads apart": lambda h, s, m: ops.sum(h * L.Softmax(axis=1)(m)[:, :, 1:2], axis=1),
    "expanded": lambda h, s, m: ops.sum(ops.expand_dims(ops.softmax(L.Reshape((T,))(s)), -1) * h, axis=1),
    "reshaped": lambda h, s, m: ops.sum(L.Reshape((T, 1))(L.Activation("softmax")(s[:, :, 0])) * h, axis=1),
    "old style": _old_style,
    "dropped": _dropped,
    "exp, divided after": lambda h, s, m: ops.sum(h * ops.exp(s), axis=1) / ops.sum(ops.exp(s), axis=1),
    "exp, divided before": lambda h, s, m: ops.sum(
        h * (ops.exp(s) / ops.sum(ops.exp(s), axis=1, keepdims=True)), axis=1
    ),
    "shares of shares": lambda h, s, m: ops.sum(ops.softmax(m, axis=1), axis=1),
}


def model_of(*forms: Form, length: int | None = T, scale: float = 1.0, **recurrent: Any) -> Any:
    x = keras.Input((length, F))
    h = L.LSTM(U, return_sequences=True, **recurrent)(x)
    s, m = L.Dense(1, activation="tanh")(h) * scale, L.Dense(HEADS)(h)
    return shaken(keras.Model(x, [form(h, s, m) for form in forms]))


def test_every_way_to_write_it_streams() -> None:
    model = StreamingModel(model_of(*FORMS.values()))
    found = model.parity(sequences=2, steps=T + 4)
    assert found.max_abs_difference < 2e-6, found
    weighted = {spec.layer: spec for spec in model.states if spec.layer.startswith("softmax") and spec.name == "max"}
    assert len(weighted) >= 6


@pytest.mark.parametrize("scale", [300.0, 0.0])
def test_scores_of_any_size(scale: float) -> None:
    """exp of them alone would be infinite."""
    model = StreamingModel(model_of(FORMS["operations"], FORMS["layer Dot"], length=None, scale=scale))
    found = model.parity(sequences=2, steps=40)
    assert found.max_abs_difference < 1e-5, found
    xs = np.random.default_rng(0).normal(size=(40, 2, F))
    assert np.isfinite(model.scan(xs, model.zero_states(2))[0]).all()


def test_in_half_precision_and_double() -> None:
    for dtype, limit in (("mixed_float16", 5e-3), ("float64", 1e-12)):
        with_policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy(dtype)
        try:
            model = StreamingModel(model_of(FORMS["layer, operators"], FORMS["layer Dot"], FORMS["old style"]))
        finally:
            keras.config.set_dtype_policy(with_policy)
        found = model.parity(sequences=2, steps=T)
        assert found.max_abs_difference < limit, (dtype, found)


REFUSED: dict[str, Form] = {
    "answered": lambda h, s, m: ops.softmax(s, axis=1),
    "last share": lambda h, s, m: ops.softmax(s, axis=1)[:, -1],
    "into a recurrent layer": lambda h, s, m: L.GRU(2)(h * ops.softmax(s, axis=1)),
    "squared": lambda h, s, m: ops.sum(ops.square(ops.softmax(s, axis=1)) * h, axis=1),
    "greatest": lambda h, s, m: ops.max(ops.softmax(s, axis=1) * h, axis=1),
    "shares of shares": lambda h, s, m: ops.sum(ops.softmax(s, axis=1) * ops.softmax(m, axis=1), axis=1),
    "over heads": lambda h, s, m: ops.sum(ops.softmax(m, axis=1), axis=2),
    "through Dense": lambda h, s, m: ops.sum(L.Dense(2)(ops.softmax(m, axis=1)), axis=1),
    "plus one": lambda h, s, m: ops.sum((ops.softmax(s, axis=1) + 1.0) * h, axis=1),
    "by numbers of each step": lambda h, s, m: ops.sum(
        ops.softmax(s, axis=1) * np.arange(T, dtype="float32")[:, None] * h, axis=1
    ),
    "products of steps": lambda h, s, m: L.Dot(axes=2)([ops.softmax(m, axis=1), L.Dense(HEADS)(h)])[:, 0],
    "by what is so far": lambda h, s, m: ops.sum(ops.softmax(s, axis=1) * h[:, -1:], axis=1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_the_shares_themselves_is_refused(name: str) -> None:
    with pytest.raises(ModelRefusedError, match="changes with every later step") as refusal:
        StreamingModel(model_of(REFUSED[name]))
    assert refusal.value.layer.startswith("softmax")
