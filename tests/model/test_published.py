"""Models as people publish them run as they are: streamed with proof, or by their window with proof."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.zoo import published, published_more
from tests.zoo.published import Published
from worker import StreamingModel
from worker.errors import ModelRefusedError

PUBLISHED: dict[str, Published] = {**published.PUBLISHED, **published_more.PUBLISHED}
TOLERANCE = 1e-5
STEPS = 24  # of models of any length
ROWS = 3


def test_there_are_enough_models() -> None:
    assert len(PUBLISHED) >= 20
    assert len({each.source for each in PUBLISHED.values()}) == len(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_runs(name: str, tmp_path: Path) -> None:
    wanted = PUBLISHED[name]
    trained = wanted.make()
    file = tmp_path / "model.keras"
    trained.save(file)
    if wanted.window is None:
        model = StreamingModel.load(file, memory=wanted.memory)
        assert model.first_answer == wanted.first
    else:
        trained_on = trained.inputs[0].shape[1]
        with pytest.raises(ModelRefusedError, match=rf"model\.window: {trained_on or 'N'}\b"):
            StreamingModel.load(file)
        assert trained_on in (None, wanted.window)
        model = StreamingModel.load(file, window=wanted.window)
        assert model.first_answer == wanted.window
    model.check_parity(TOLERANCE, sequences=3)
    assert_answers(model, trained, wanted)


def assert_answers(model: StreamingModel, trained: Any, wanted: Published) -> None:
    """After each event in turn, and after all of them: what the trained model itself says to the whole window."""
    steps = wanted.window or trained.inputs[0].shape[1] or STEPS
    xs = model.samples(ROWS, steps, seed=11)
    states, answers = model.zero_states(ROWS), []
    for index in range(steps):
        y, states = model.step(xs[:, index], states)
        answers.append(y)
    scanned, _ = model.scan(np.swapaxes(xs, 0, 1), model.zero_states(ROWS))
    np.testing.assert_array_equal(np.ma.getdata(scanned), np.ma.getdata(np.ma.stack(answers)))
    for index, y in enumerate(answers):
        assert np.ma.getmaskarray(y).all() == (index + 1 < model.first_answer)
    shape = (ROWS, steps, *trained.inputs[0].shape[2:])
    given = np.asarray(trained(xs.reshape(shape).astype(trained.inputs[0].dtype), training=False))
    whole = given if len(given.shape) == 2 or given[0].size == model.units else given[:, -1]
    np.testing.assert_allclose(np.ma.getdata(answers[-1]), whole.reshape(ROWS, -1), atol=TOLERANCE)
