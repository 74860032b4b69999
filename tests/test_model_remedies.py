"""Every piece of advice in a refusal has been followed: it does what it says, and the model streams."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.refusals import sentences
from tests.remedies import REMEDIES, Remedy
from worker import ModelRefusedError, StreamingModel
from worker.model.graph import graph_of
from worker.model.proof.samples import draw, split

pytestmark = pytest.mark.zoo

TOLERANCE = 1e-5


def refusal_of(model: Any) -> ModelRefusedError:
    with pytest.raises(ModelRefusedError) as refusal:
        StreamingModel(model)
    return refusal.value


def test_no_advice_is_left_out() -> None:
    wanted = sentences()
    given = [refusal_of(remedy.refused()).instead for remedy in REMEDIES.values()]
    untried = {text: where for text, where in wanted.items() if not any(re.fullmatch(text, one) for one in given)}
    assert not untried


@pytest.mark.parametrize("name", REMEDIES)
@pytest.mark.filterwarnings("ignore:Layer ")  # masks that a layer drops
def test_advice_that_is_followed(name: str) -> None:
    remedy = REMEDIES[name]
    trained = remedy.refused()
    advice = refusal_of(trained).instead
    assert bool(remedy.keeps) or "train" in advice, f"{advice!r} makes another model and does not say so"
    for make in remedy.followed:
        followed = make()
        model = StreamingModel(followed)
        found = model.parity(sequences=2, steps=4)
        assert found.max_abs_difference <= TOLERANCE, found
        if remedy.keeps == "numbers":
            assert_same_numbers(trained, followed, model)


def assert_same_numbers(trained: Any, followed: Any, model: StreamingModel) -> None:
    followed.set_weights(trained.get_weights())
    steps = graph_of(followed).inputs[0].shape[1]
    inputs = split(model.inputs, draw(followed, model.inputs, 2, steps, seed=3).vectors)
    np.testing.assert_allclose(np.asarray(trained(inputs[0])), np.asarray(followed(inputs[0])), atol=TOLERANCE)


def test_the_table_is_read() -> None:
    assert all(isinstance(remedy, Remedy) and remedy.followed for remedy in REMEDIES.values())
