"""Models whose layers make fewer steps than there are events: phases, counts, first answers, what is added to them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import F, L, sequential
from tests.zoo import ZOO
from tests.zoo.fewer_steps import planes, tutorial
from worker import StreamingModel
from worker.errors import WorkerError
from worker.model.proof.answerable import has_answer
from worker.model.proof.parity import check

pytestmark = pytest.mark.zoo

# What the step of a plain model was made of before any layer made fewer steps.
PLAIN: dict[str, str] = {
    "door": "5 InputLayer, 2 LSTM, 1 LeakyReLU, 1 Dropout, 1 Dense",
    "characters": "3 InputLayer, 1 Embedding, 1 LSTM, 1 TimeDistributed",
    "convolution before a recurrent layer": ("4 InputLayer, 1 Concatenate, 1 Reshape, 2 Dense, 1 LSTM, 1 Cropping1D"),
    "padded once for two": "2 InputLayer, 1 Concatenate, 1 Conv1D, 1 Reshape, 1 Dense, 1 Cropping1D",
    "moving average and maximum": (
        "4 InputLayer, 2 Concatenate, 1 AveragePooling1D, 1 ZeroPadding1D, 1 MaxPooling1D, 1 GRU, 2 Cropping1D"
    ),
    "pictures pooled over space and time": (
        "4 InputLayer, 1 Conv2D, 1 MaxPooling2D, 1 GlobalAveragePooling2D, 4 Subtract, 3 Add, 1 Divide, 1 Dense"
    ),
    "mean and maximum": (
        "7 InputLayer, 1 GRU, 1 GlobalAveragePooling1D, 4 Subtract, 3 Add, 1 Divide, 1 GlobalMaxPooling1D, 1 Greater, "
        "2 Maximum, 1 Where, 1 Concatenate, 1 Dense"
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_model_pays_nothing_for_what_others_need(name: str) -> None:
    model = StreamingModel(ZOO[name]())
    found = Counter(type(operation).__name__ for operation in model.to_keras().operations)
    assert ", ".join(f"{count} {kind}" for kind, count in found.items()) == PLAIN[name]
    assert not model.waits


def vectors(*shape: int) -> Any:
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def scanned(model: StreamingModel, xs: Any, states: Any = None) -> Any:
    """Outputs (time, batch, units), masked where there is none."""
    return model.scan(xs, model.zero_states(xs.shape[1]) if states is None else states)[0]


def test_the_first_answer_is_the_first_that_the_trained_model_gives() -> None:
    trained = tutorial()
    model = StreamingModel(trained)
    assert (model.waits, model.first_answer) == (True, 6)
    assert [has_answer(trained, model.inputs, steps) for steps in (4, 5, 6, 7)] == [False, False, True, True]
    ys = scanned(model, vectors(8, 2, F))
    assert np.ma.getmaskarray(ys)[:, 0, 0].tolist() == [True] * 5 + [False] * 3
    np.testing.assert_array_equal(ys[6], ys[5])  # half a pooling window changes nothing
    assert np.abs(ys[7] - ys[5]).max() > 1e-6


def test_streams_of_one_batch_are_at_events_of_their_own() -> None:
    model = StreamingModel(ZOO["three speeds"]())
    xs = vectors(30, 3, F)
    late = [0, 1, 7]  # events that each stream has seen before the others begin
    alone = [scanned(model, xs[:, [row]]) for row in range(3)]
    states = [model.scan(xs[:begun, [row]], model.zero_states(1))[1] for row, begun in enumerate(late)]
    together = [np.concatenate(parts) for parts in zip(*states, strict=True)]
    moved = np.stack([xs[begun : begun + 20, row] for row, begun in enumerate(late)], axis=1)
    ys = scanned(model, moved, together)
    for row, begun in enumerate(late):
        np.testing.assert_array_equal(ys[:, row].filled(0), alone[row][begun : begun + 20, 0].filled(0))
        np.testing.assert_array_equal(ys[:, row].mask, alone[row][begun : begun + 20, 0].mask)


def test_the_count_goes_in_a_circle_and_stays_exact() -> None:
    model = StreamingModel(sequential(L.MaxPooling1D(3), L.AveragePooling1D(2, 2), L.Conv1D(2, 2, strides=2)))
    assert model.states[-1].layer == "sequence"
    steps, seen, states = 100, set(), model.zero_states(1)
    xs = vectors(steps, 1, F)
    ys = scanned(model, xs, states)
    for x in xs:
        _, states = model.step(x, states)
        seen.add(float(states[-1][0, 0]))
    assert len(seen) < 30
    changed = np.abs(np.diff(ys.filled(0)[:, 0], axis=0)).max(axis=1) > 0
    assert (np.flatnonzero(changed) + 1).tolist() == list(range(11, steps, 12))


def test_a_state_moves_only_with_the_events_that_bring_its_layer_a_step() -> None:
    model = StreamingModel(sequential(L.Conv1D(4, 2, strides=3, name="conv"), L.LSTM(2, name="lstm")))
    names = [(spec.layer, spec.name) for spec in model.states]
    states, moved = model.zero_states(1), []
    for event, x in enumerate(vectors(8, 1, F)):
        _, after = model.step(x, states)
        if np.any(after[names.index(("lstm", "h"))] != states[names.index(("lstm", "h"))]):
            moved.append(event)
        states = after
    assert moved == [1, 4, 7]


def test_the_proof_fails_where_other_events_are_answered() -> None:
    model = StreamingModel(tutorial())
    for first, words in ((5, "has none yet to 5"), (8, "answers 7 already")):
        object.__setattr__(model._explicit, "first_answer", first)
        with pytest.raises(WorkerError, match=words):
            check(model.parity(sequences=1, steps=3), 1.0)


def test_the_proof_is_as_long_as_what_slow_layers_keep() -> None:
    model = StreamingModel(sequential(L.MaxPooling1D(8), L.MaxPooling1D(4), L.Conv1D(2, 3), L.GRU(2)))
    assert model.first_answer == 96
    assert model.proof_steps > 96 + 32
    beside = StreamingModel(planes(L.Conv2D(1, (60, 2)), L.MaxPooling2D((3, 2))))
    assert beside.proof_steps > beside.first_answer == 62


@pytest.mark.parametrize("name", [name for name in ZOO if name.startswith(("plane", "volume", "spectrogram"))])
def test_over_planes_the_last_answer_is_what_the_trained_model_says_to_the_sequence_so_far(name: str) -> None:
    trained, events, rows = ZOO[name](), 16, 2
    model = StreamingModel(trained)
    given = vectors(rows, events, *trained.inputs[0].shape[2:])
    ys = scanned(model, np.moveaxis(given, 1, 0).reshape(events, rows, -1))
    assert model.first_answer < events
    for n in range(model.first_answer, events + 1):
        wanted = np.asarray(trained(given[:, :n]))
        last = wanted[:, -1] if wanted.ndim == 3 else wanted
        np.testing.assert_allclose(np.ma.filled(ys[n - 1], np.nan), last, rtol=0, atol=1e-6)


ALONE = """
import sys
import numpy as np
import keras
exported = keras.models.load_model(sys.argv[1])
given = np.load(sys.argv[2])
states = [np.zeros((1, *tensor.shape[1:]), "float32") for tensor in exported.inputs[1:]]
answers = []
for x in given:
    y, *rest = map(np.asarray, exported([x[np.newaxis, np.newaxis], *states]))
    answered, states = (rest[0], rest[1:]) if len(rest) > len(states) else (np.ones((1, 1)), rest)
    answers.append(np.where(np.asarray(answered) > 0, np.reshape(y, (1, -1)), np.nan)[0])
np.save(sys.argv[2], answers)
assert not any(name.partition(".")[0] == "worker" for name in sys.modules)
"""


@pytest.mark.parametrize("name", ["tutorial", "sound, convolutions and recurrent", "residual block, same"])
def test_the_exported_step_runs_without_the_worker(name: str, tmp_path: Path) -> None:
    model = StreamingModel(ZOO[name]())
    model.to_keras().save(tmp_path / "step.keras")
    xs = vectors(14, F)
    np.save(tmp_path / "xs.npy", xs)
    command = [sys.executable, "-c", ALONE, "step.keras", "xs.npy"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=300)
    ys = np.ma.filled(scanned(model, xs[:, np.newaxis])[:, 0], np.nan)
    np.testing.assert_allclose(np.load(tmp_path / "xs.npy"), ys, atol=1e-6)
