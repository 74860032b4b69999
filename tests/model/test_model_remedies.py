"""Every piece of advice in a refusal has been followed: it does what it says, and the model streams."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import pytest

from tests.models import F, L, shaken
from tests.refusals import sentences
from tests.remedies import REMEDIES, Remedy, T, U, ops
from worker import ModelRefusedError, StreamingModel
from worker.model.backend import keras, tf
from worker.model.graph import graph_of
from worker.model.proof.samples import draw, split

pytestmark = pytest.mark.zoo

TOLERANCE = 1e-5


def refusal_of(model: Any, memory: int | None = None) -> ModelRefusedError:
    with pytest.raises(ModelRefusedError) as refusal:
        StreamingModel(model, memory=memory)
    return refusal.value


@functools.cache
def refused(name: str) -> tuple[Any, str]:
    """The model, and the advice in its refusal, without the second way."""
    trained = REMEDIES[name].refused()
    return trained, refusal_of(trained, REMEDIES[name].given).first


def test_no_advice_is_left_out() -> None:
    wanted = sentences()
    given = [refused(name)[1] for name in REMEDIES]
    untried = {text: where for text, where in wanted.items() if not any(re.fullmatch(text, one) for one in given)}
    assert not untried


@pytest.mark.parametrize("name", REMEDIES)
@pytest.mark.filterwarnings("ignore:Layer ")  # masks that a layer drops
def test_advice_that_is_followed(name: str) -> None:
    remedy = REMEDIES[name]
    trained, advice = refused(name)
    assert bool(remedy.keeps) or "train" in advice, f"{advice!r} makes another model and does not say so"
    for make in remedy.followed:
        followed = make()
        model = StreamingModel(followed, memory=remedy.memory)
        found = model.parity(sequences=2, steps=4)
        assert found.max_abs_difference <= TOLERANCE, found
        if remedy.keeps == "numbers":
            assert_same_numbers(trained, followed, model)


# No window helps: what a row answers depends there on the rows beside it, on chance or on what came before; or Keras
# itself can't run the model on one sequence after another; or its inputs are not what a stream brings.
WITHOUT_SECOND_WAY = {
    "masked features", "batch padded", "mean of all", "other ranks", "other ranks after time", "over the batch",
    "loudest of a batch", "spectrum", "stateful inside a step", "begins elsewhere, stateful",
    "stateful afterwards", "mask inside a step", "squeezed", "streams mixed",
    "streams mixed after time", "softmax of masked features", "softmax of masked steps", "begins at random",
    "never built", "subclassed", "code without a shape", "begins with an error", "begins with other shapes",
    "begins with an array",
    "states of other kinds", "words", "unknown step", "two lengths", "seven constants", "categories crossed",
}  # fmt: skip


@pytest.mark.parametrize("name", REMEDIES)
@pytest.mark.filterwarnings("ignore")  # masks that a layer drops
def test_the_second_way_that_is_followed(name: str) -> None:
    """Every model that is refused runs as it is on the window that the refusal names."""
    trained = REMEDIES[name].refused()
    refusal = refusal_of(trained)
    said = r"or run it on the last (\d+|N) events: model\.window: (\1)(, N as long as .*)?"
    found = re.fullmatch(said, refusal.second)
    assert (found is None) == (name in WITHOUT_SECOND_WAY or not _computes(trained)), refusal
    if found is None:
        return
    assert str(refusal).endswith(f", {refusal.second}")
    model = StreamingModel(trained, window=T if found[1] == "N" else int(found[1]))
    answers = model.parity(sequences=2, steps=model.proof_steps)
    assert answers.max_abs_difference <= TOLERANCE, answers


def _computes(model: Any) -> bool:
    """Whether this machine does: TensorFlow has a convolution of channels_first for some processors only."""
    if not isinstance(model, keras.Sequential) or getattr(model.layers[0], "data_format", "") != "channels_first":
        return True
    try:
        model(np.zeros((1, *model.input_shape[1:]), np.float32))
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        return False
    return True


def _ends_of_encoders() -> dict[str, Any]:
    """What a decoder may begin with: a layer's output, an operation's, one of several, one of a nested model."""
    nested = keras.Sequential([keras.Input((T, F)), L.LSTM(U), L.Dense(2)], name="encoder")
    return {
        "layer": lambda x: L.Dense(2)(L.LSTM(U)(x)),
        "slice": lambda x: L.LSTM(U, return_sequences=True)(x)[:, -1],
        "mean": lambda x: ops.mean(L.GRU(U, return_sequences=True)(x), axis=1),
        "sum of layers": lambda x: L.LSTM(U)(x) + L.GRU(U)(x),
        "state": lambda x: L.LSTM(U, return_state=True)(x)[1],
        "nested": lambda x: nested(L.Dense(F)(x)),
    }


@pytest.mark.parametrize("end", _ends_of_encoders())
@pytest.mark.parametrize("start", ["state", "states"])
def test_the_part_before_a_decoder_streams_as_the_advice_says(end: str, start: str) -> None:
    x = keras.Input((T, F))
    given = _ends_of_encoders()[end](x)
    width = given.shape[-1]
    kind, states = (L.GRU, given) if start == "state" else (L.LSTM, [given, given])
    decoded = kind(width)(keras.layers.Dense(2)(x), initial_state=states)
    model = shaken(keras.Model(x, decoded))
    advice = refusal_of(model).first
    code = advice.partition("alone: ")[2].partition(", or let")[0].replace("its inputs", "model.inputs")
    encoder = eval(code, {"keras": keras, "model": model})
    found = StreamingModel(encoder).parity(sequences=2, steps=4)
    assert found.max_abs_difference <= TOLERANCE, found
    wanted = np.asarray(keras.Model(x, given)(np.ones((2, T, F), "float32")))
    outputs = keras.tree.flatten(encoder(np.ones((2, T, F), "float32")))
    assert any(one.shape == wanted.shape and np.allclose(one, wanted) for one in map(np.asarray, outputs))


def assert_same_numbers(trained: Any, followed: Any, model: StreamingModel) -> None:
    followed.set_weights(trained.get_weights())
    steps = graph_of(followed).inputs[0].shape[1]
    inputs = split(model.inputs, draw(followed, model.inputs, 2, steps, seed=3).vectors)
    np.testing.assert_allclose(np.asarray(trained(inputs[0])), np.asarray(followed(inputs[0])), atol=TOLERANCE)


def test_the_table_is_read() -> None:
    assert all(isinstance(remedy, Remedy) and remedy.followed for remedy in REMEDIES.values())
