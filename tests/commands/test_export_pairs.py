"""The two files that ``worker export`` writes, used with plain Keras as the command says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.command_line import Command
from tests.pair_models import PAIRS, V, W
from worker.model.backend import keras

pytestmark = pytest.mark.zoo

SOURCE, START = [1, 4, 2, 2, 3], 0
TOLERANCE = 1e-5


def shaped(items: list[int], tensor: Any, count: int) -> Any:
    """(1, time) ids or (1, time, count) one-hot vectors, as this input takes them."""
    array = np.array([items]) if len(tensor.shape) == 2 else np.eye(count)[[items]]
    return keras.ops.cast(array, tensor.dtype)


@pytest.mark.parametrize(
    "name",
    ["words", "words, mask_zero", "context", "nested", "told its mask", "convolved target", "last only", "cells"],
)
def test_plain_keras_writes_as_the_trained_model_does(command: Command, tmp_path: Path, name: str) -> None:
    trained = PAIRS[name]()
    trained.save(tmp_path / "model.keras")
    model = {"path": str(tmp_path / "model.keras"), "task": "seq2seq", "start": START, "stop": 1, "max_length": 4}
    settings = {"input": {"topic": "in"}, "output": {"topic": "out"}, "model": model, "sequence": {"length": 1}}
    (tmp_path / "worker.yaml").write_text(yaml.safe_dump(settings))
    ended = command("export", "-c", str(tmp_path / "worker.yaml"), "--output", str(tmp_path / "pair.keras"))
    assert (ended.status, ended.err) == (0, "")
    encoder, decoder = (keras.models.load_model(tmp_path / f"pair-{side}.keras") for side in ("encoder", "decoder"))
    states = keras.tree.flatten(encoder(shaped(SOURCE, encoder.inputs[0], V)))
    target = [START, 3, 0, 2, 5]  # as long as the models of a fixed length are
    source, whole = shaped(SOURCE, trained.inputs[0], V), trained.inputs[1]
    for step, item in enumerate(target):
        y, *states = decoder([shaped([item], decoder.inputs[0], W), *states])
        fed = target if whole.shape[1] else target[: step + 1]
        wanted = np.asarray(trained([source, shaped(fed, whole, W)]))
        wanted = wanted[0, step] if wanted.ndim == 3 else wanted[0]
        np.testing.assert_allclose(np.reshape(y, -1), wanted, atol=TOLERANCE)
