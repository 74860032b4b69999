"""What the proof finds: forms that look ahead or at other streams, and answers that Keras repeats exactly or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.models import F, L, door, shaken
from tests.zoo import ZOO
from worker import StreamingModel
from worker.errors import WorkerError
from worker.model.backend import keras
from worker.model.proof.causality import changed
from worker.model.proof.parity import check

pytestmark = pytest.mark.zoo


class Scan:
    """A form that gives the running sum of each stream, or, spoilt, one of something else."""

    def __init__(self, spoilt: str = "") -> None:
        self._spoilt = spoilt

    def scan(self, xs: Any, packed: Any) -> tuple[Any, Any]:
        if self._spoilt == "later events":
            return np.cumsum(xs[::-1], axis=0)[::-1], packed
        if self._spoilt == "other streams":
            return np.cumsum(xs, axis=0) + 0 * xs[:, ::-1], packed
        return np.cumsum(xs, axis=0), packed


@pytest.mark.parametrize("spoilt", ["", "later events", "other streams"])
def test_what_looks_at_later_events_or_other_streams_is_found(spoilt: str) -> None:
    parts = StreamingModel(door()).inputs
    xs = np.random.default_rng(0).normal(size=(4, 10, F))
    form: Any = Scan(spoilt)
    whole = np.swapaxes(form.scan(np.swapaxes(xs, 0, 1), None)[0], 0, 1)
    found = changed(form, parts, xs, np.zeros((4, 1)), whole)
    assert np.isnan(found) if spoilt else found == 0.0


def test_small_answers_that_keras_repeats_are_held_to_a_millionth() -> None:
    found = StreamingModel(door()).parity(sequences=3, steps=8)
    assert found.exact
    assert (found.limit(1e-4), found.limit(1e-7), found.limit(1e-3)) == (1e-6, 1e-7, 1e-3)
    with pytest.raises(WorkerError, match="more than 1e-06"):
        check(replace(found, max_abs_difference=2e-6), 1e-4)


@pytest.mark.parametrize("name", ["three speeds", "double precision inputs"])
def test_great_answers_and_other_precisions_are_held_to_the_tolerance(name: str) -> None:
    found = StreamingModel(ZOO[name]()).parity(sequences=3, steps=8)
    assert not found.exact
    assert found.limit(1e-4) == 1e-4 * max(1.0, found.greatest_output)


def test_answers_that_a_rounding_moves_are_held_to_the_tolerance() -> None:
    x = keras.Input((None, F))
    steep = shaken(keras.Model(x, L.GRU(3)(keras.ops.sin(x * 1e4))))
    assert not StreamingModel(steep).parity(sequences=3, steps=8).exact
