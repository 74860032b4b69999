"""Encoder and decoder derived from the one trained model: they answer as it does under teacher forcing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.keras2 import needs_keras_2, written_by
from tests.pair_models import PAIRS, WHOLE, own_cell
from worker import EncoderDecoder
from worker.model.pair.opening import opened
from worker.model.pair.parity import TwoModels, measure
from worker.model.pair.source import source_of
from worker.model.step import PackedStep

pytestmark = pytest.mark.zoo

TOLERANCE = 1e-5


def both_ways(trained: Any) -> Any:
    pair = opened(trained, None, ("", ""))
    explicit = pair.explicit
    packed = PackedStep(explicit)
    source = source_of(pair.encoder, packed.dtype)
    assert source.units == packed.state_width
    found = measure(pair.trained(), source, packed, sequences=3, steps=7, seed=0)
    assert found.within(TOLERANCE), found
    found = measure(TwoModels(pair.encoder, pair.decoder), source, packed, sequences=2, steps=4, seed=0)
    assert found.within(TOLERANCE), found
    return source


@pytest.mark.parametrize("name", PAIRS)
def test_the_pair_answers_as_the_trained_model_does(name: str) -> None:
    assert both_ways(PAIRS[name]()).reads_whole == (name in WHOLE)


def test_a_layer_may_keep_more_than_its_states() -> None:
    both_ways(own_cell())


@pytest.fixture(scope="module")
def keras_2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_by("tests.keras2_pairs", tmp_path_factory.mktemp("pairs"))


@needs_keras_2
@pytest.mark.parametrize("suffix", ["h5", "keras"])
@pytest.mark.parametrize("name", ["tutorial", "masked"])
def test_a_file_of_keras_2_answers_as_keras_2_did(keras_2: Path, name: str, suffix: str) -> None:
    """Also where steps of the target are masked: Keras 3 would not look at them in a layer that is given a state."""
    model = EncoderDecoder.load(keras_2 / f"pair_{name}.{suffix}")
    with np.load(keras_2 / f"pair_{name}.npz") as file:
        source, target, answers = file["source"], file["target"], file["answers"]
    assert (name == "masked") == bool((target[:, 1:] == 0).any())
    packed = np.concatenate(model.encode(source), axis=1)
    for step in range(target.shape[1]):
        y, packed = model._packed.step(target[:, step].reshape(len(target), -1).astype("float32"), packed)
        np.testing.assert_allclose(y, answers[:, step], atol=TOLERANCE)
    assert model.check_parity(TOLERANCE, sequences=3, steps=6)


@needs_keras_2
def test_the_two_files_of_the_tutorial_of_keras_2(keras_2: Path) -> None:
    model = EncoderDecoder.load(encoder=keras_2 / "pair_encoder.h5", decoder=keras_2 / "pair_decoder.h5", start=0)
    assert model.check_parity(TOLERANCE, sequences=3, steps=6)
    one = EncoderDecoder.load(keras_2 / "pair_tutorial.h5", start=0)
    sources = np.random.default_rng(0).normal(size=(3, 4, 3))
    assert model.decode(model.encode(sources), 6) == one.decode(one.encode(sources), 6)
