"""Calls of TensorFlow in graphs of Keras 2: each streams by the numbers of Keras 2 or is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.keras2 import needs_keras_2, written_by
from tests.keras2_calls import CALLS, REFUSED, STREAMED
from worker import ModelRefusedError, StreamingModel
from worker.model.backend import tf
from worker.model.rules import Time

pytestmark = [pytest.mark.zoo, needs_keras_2]

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_by("tests.keras2_calls", tmp_path_factory.mktemp("calls"))


@pytest.mark.parametrize("call", STREAMED)
def test_every_stream_of_a_batch_hears_what_keras_2_says(written: Path, call: str) -> None:
    number = CALLS.index(call)
    model = StreamingModel.load(written / f"{number}.h5")
    step, xs = model.to_keras(), np.load(written / "x.npy")
    states = [tf.constant(state) for state in model.zero_states(len(xs))]
    with np.load(written / f"{number}.npz") as prefixes:
        for n, wanted in enumerate(prefixes.values()):
            y, *states = step([tf.constant(xs[:, n : n + 1]), *states])
            last = wanted[:, -1] if model.outputs[0].time is Time.EACH_STEP else wanted
            np.testing.assert_allclose(np.reshape(y, (len(xs), -1)), last.reshape(len(xs), -1), atol=TOLERANCE)


@pytest.mark.parametrize("call", REFUSED)
def test_what_mixes_streams_or_steps_is_refused_by_name(written: Path, call: str) -> None:
    with pytest.raises(ModelRefusedError, match=f"': {REFUSED[call]}") as refusal:
        StreamingModel.load(written / f"{CALLS.index(call)}.h5")
    assert refusal.value.layer.startswith("tf.")
    assert "\n" not in str(refusal.value)
