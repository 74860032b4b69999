"""Every model of the zoo, as its file goes through the worker: read, proven, exported, replayed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.zoo import ZOO
from worker import StreamingModel
from worker.assembly.model import load_scoring
from worker.assembly.pipeline import build_scoring
from worker.commands.replay.replaying import read_records, replay
from worker.commands.replay.writing import Writer
from worker.config.sections import Config
from worker.model.backend import keras
from worker.model.graph import call_model, graph_of
from worker.model.proof.samples import draw, split
from worker.model.rules import Time

pytestmark = pytest.mark.zoo

TOLERANCE = 1e-5  # float32; half precision is told apart below
HALF_TOLERANCE = 1e-2
STREAMS = 3


def test_there_are_enough_models() -> None:
    assert len(ZOO) >= 60


@pytest.mark.parametrize("name", ZOO)
def test_a_file_of_every_kind_streams(name: str, tmp_path: Path) -> None:
    trained = ZOO[name]()
    trained.save(tmp_path / "model.keras")
    config = configuration(tmp_path)
    model = load_scoring(config)
    tolerance = tolerance_of(model)
    found = model.parity(sequences=3, steps=9)
    assert found.max_abs_difference <= tolerance, found
    assert_exported(model, tmp_path / "step.keras", 10 * tolerance / 100)
    assert_replayed(trained, model, config, tolerance)


def tolerance_of(model: StreamingModel) -> float:
    explicit = model.to_keras()
    dtypes = {layer.compute_dtype for layer in explicit.layers if isinstance(layer, keras.Layer)}
    return HALF_TOLERANCE if {"float16", "bfloat16"} & dtypes else TOLERANCE


def configuration(folder: Path) -> Config:
    return Config.model_validate(
        {
            "input": {"topic": "readings", "features": "x"},
            "output": {"topic": "probabilities"},
            "model": {"path": str(folder / "model.keras")},
            "sequence": {"end": "last"},
            "state": {"directory": str(folder / "state")},
        }
    )


def assert_exported(model: StreamingModel, path: Path, tolerance: float) -> None:
    """Plain Keras reads the exported file and says the same about any states."""
    model.to_keras().save(path)
    exported = keras.models.load_model(path)
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2, (4, model.features)).astype(model.dtype)  # numbers and ids alike
    packed = np.abs(np.tanh(rng.normal(size=(4, model.state_width)))).astype(model.dtype)
    states = model.unpack(packed)
    y, after = model.step(x, states)
    given = [np.asarray(part) for part in exported([x.reshape(4, *exported.inputs[0].shape[1:]), *states])]
    if model.waits:
        np.testing.assert_array_equal(given.pop(1) > 0, ~np.ma.getmaskarray(y)[:, :1])
    np.testing.assert_allclose(given[0].reshape(y.shape), y, atol=tolerance)
    for one, two in zip(given[1:], after, strict=True):
        np.testing.assert_allclose(one, two, atol=tolerance)


def assert_replayed(trained: Any, model: StreamingModel, config: Config, tolerance: float) -> None:
    """Interleaved streams, two sequences each: the last answer of a sequence is the trained model's to all of it."""
    known = next((tensor.shape[1] for tensor in graph_of(trained).inputs if len(tensor.shape) > 1), None)
    steps = known or 5 + model.first_answer
    parts, times = model._explicit.inputs, model._explicit.output_times
    vectors = draw(trained, parts, 2 * STREAMS, steps, seed=5).vectors
    lines = [
        json.dumps({"key": f"s{row % STREAMS}", "value": {"x": vectors[row, step].tolist(), "last": step == steps - 1}})
        for half in (range(STREAMS), range(STREAMS, 2 * STREAMS))
        for step in range(steps)
        for row in half
    ]
    written = io.BytesIO()
    writer = Writer(written, "probabilities", "readings.dead", "json")
    records = read_records(io.BytesIO("\n".join(lines).encode()), "in", "readings", "json")
    answered = len(lines) // steps * (steps - model.first_answer + 1)
    assert replay(build_scoring(config, model), records, 7, writer) == (len(lines), answered, 0)
    outputs = [json.loads(line)["value"] for line in written.getvalue().splitlines()]
    given = np.array([output["probabilities"] for output in outputs if output["final"]])
    wanted = last_answers(trained, parts, times, vectors)
    np.testing.assert_allclose(given, wanted, atol=tolerance)


def last_answers(trained: Any, parts: Any, times: Any, vectors: Any) -> Any:
    """(sequences, units) by the trained model itself, in the batch size that it takes."""
    batch = next((tensor.shape[0] for tensor in graph_of(trained).inputs if tensor.shape[0]), None) or len(vectors)
    answers = []
    for start in range(0, len(vectors), batch):
        rows = np.resize(vectors[start : start + batch], (batch, *vectors.shape[1:]))
        for layer in trained._flatten_layers():
            # Keras' reset_state fails where states are nested, as those of cells are.
            for state in keras.tree.flatten(getattr(layer, "states", None) or []):
                state.assign(keras.ops.zeros_like(state))
        outputs = call_model(trained, split(parts, rows))
        last = [np.asarray(y)[:, -1] if time is Time.EACH_STEP else y for time, y in zip(times, outputs, strict=True)]
        answers.append(np.concatenate([np.reshape(y, (batch, -1)) for y in last], axis=1))
    return np.concatenate(answers)[: len(vectors)]


def test_an_id_that_the_model_does_not_know_harms_nobody(tmp_path: Path) -> None:
    """TensorFlow would end the whole step with an error, again and again at each restart."""
    ZOO["characters"]().save(tmp_path / "model.keras")
    config = configuration(tmp_path)
    lines = [json.dumps({"key": key, "value": {"x": [number]}}) for key, number in (("a", 3), ("b", 99), ("a", 4))]
    written = io.BytesIO()
    records = read_records(io.BytesIO("\n".join(lines).encode()), "in", "readings", "json")
    writer = Writer(written, "probabilities", "readings.dead", "json")
    assert replay(build_scoring(config, load_scoring(config)), records, 7, writer) == (3, 2, 1)
    (dead,) = [json.loads(line) for line in written.getvalue().splitlines() if b"readings.dead" in line]
    assert dead["headers"]["rnnw.error"] == "unknown_id"
