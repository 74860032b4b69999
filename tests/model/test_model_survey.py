"""After a refusal the survey continues: it names every layer that prevents streaming, and no other."""

from __future__ import annotations

import pytest

from tests.models import L, sequential
from tests.zoo import REFUSED, ZOO
from worker.errors import ModelRefusedError
from worker.model.streaming import StreamingModel
from worker.model.survey import refusals

pytestmark = pytest.mark.zoo


def test_all_layers_in_the_way_are_named() -> None:
    model = sequential(
        L.GRU(4, return_sequences=True),
        L.Bidirectional(L.LSTM(3, return_sequences=True), name="both_ways"),
        L.Dense(5),
        L.LayerNormalization(axis=1, name="over_time"),
        L.Bidirectional(L.GRU(2), name="again"),
        L.Dense(2),
        length=7,
    )
    with pytest.raises(ModelRefusedError) as first:
        StreamingModel(model)
    found = refusals(model)
    assert [refusal.layer for refusal in found] == ["both_ways", "over_time", "again"]
    assert str(first.value).startswith(str(found[0]))  # a second way follows


@pytest.mark.parametrize("name", REFUSED)
def test_no_layer_is_accused_that_is_not_in_the_way(name: str) -> None:
    model = REFUSED[name][0]()  # has one layer in the way
    with pytest.raises(ModelRefusedError) as first:
        StreamingModel(model)
    found = [str(refusal) for refusal in refusals(model)]
    assert len(found) <= 1
    assert all(str(first.value).startswith(line) for line in found)  # a second way follows


@pytest.mark.parametrize("name", list(ZOO)[::5])
def test_a_model_that_streams_has_none(name: str) -> None:
    assert refusals(ZOO[name]()) == []
