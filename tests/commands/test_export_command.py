"""``worker export``: a file that any Keras reads, without this project, and that gives the same numbers."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import Command, written
from tests.models import L, characters, door, residual, sequential
from worker.model.backend import keras
from worker.model.streaming import StreamingModel

pytestmark = pytest.mark.zoo

TIMEOUT_S = 300
ELSEWHERE = """
import sys
sys.modules["worker"] = None  # importing it fails
import numpy as np
import keras
model = keras.models.load_model("step.keras")
given = np.load("given.npz")
found = model([given[f"input_{number}"] for number in range(len(model.inputs))])
np.savez("found.npz", *[np.asarray(value) for value in found])
"""

MODELS: dict[str, Callable[[], Any]] = {
    "door": door,
    "characters, stateful": characters,
    "residual": residual,
    "gru, normalised": lambda: sequential(L.Normalization(mean=[5.0, -3.0, 100.0], variance=[4.0, 1.0, 9.0]), L.GRU(4)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_process_without_the_project_gets_the_same_numbers(command: Command, tmp_path: Path, name: str) -> None:
    model = MODELS[name]()
    model.save(tmp_path / "trained.keras")
    ended = command(
        "export",
        "-c",
        written(tmp_path, "trained.keras", input__features="x"),
        "--output",
        str(tmp_path / "step.keras"),
    )
    assert (ended.status, ended.err) == (0, "")
    streaming = StreamingModel.load(tmp_path / "trained.keras")
    rng = np.random.default_rng(3)
    x = streaming.samples(5, 1)[:, 0]
    states = [rng.normal(size=(5, *state.shape)).astype(state.dtype) for state in streaming.states]
    inputs = streaming.to_keras().inputs
    step = x.reshape(5, *inputs[0].shape[1:]).astype(inputs[0].dtype)
    given: dict[str, Any] = {f"input_{n}": value for n, value in enumerate([step, *states])}
    np.savez(tmp_path / "given.npz", **given)
    environ = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, timeout=TIMEOUT_S, cwd=tmp_path, env=environ
    )
    assert done.returncode == 0, done.stderr
    y, after = streaming.step(x, states)
    with np.load(tmp_path / "found.npz") as found:
        assert len(found.files) == 1 + len(after)
        for number, wanted in enumerate([y, *after]):
            np.testing.assert_allclose(found[f"arr_{number}"].reshape(wanted.shape), wanted, rtol=0, atol=1e-6)


def test_what_is_told_is_what_is_in_the_file(command: Command, tmp_path: Path) -> None:
    sequential(L.LSTM(4, name="one", return_sequences=True), L.GRU(3, name="two")).save(tmp_path / "two.keras")
    file, output = written(tmp_path, "two.keras"), tmp_path / "step.keras"
    ended = command("export", "-c", file, "--output", str(output), "--json")
    assert (ended.status, ended.err) == (0, "")
    report = json.loads(ended.out)
    assert (report["ok"], report["problems"], report["needs"], report["initial"]) == (True, [], [], {})
    assert report["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert report["trained_sha256"] == hashlib.sha256((tmp_path / "two.keras").read_bytes()).hexdigest()
    assert report["max_abs_difference"] <= 1e-6
    plain = keras.models.load_model(output)
    for told, tensors in ((report["inputs"], plain.inputs), (report["outputs"], plain.outputs)):
        assert [port["shape"] for port in told] == [list(tensor.shape) for tensor in tensors]
        assert [port["dtype"] for port in told] == [tensor.dtype for tensor in tensors]
    assert [port["name"] for port in report["inputs"]] == [tensor.name for tensor in plain.inputs]
    assert [port["name"] for port in report["inputs"][1:]] == ["one.h", "one.c", "two.h"]
    assert [port["name"] for port in report["outputs"]] == ["y", *[port["name"] for port in report["inputs"][1:]]]
    text = command("export", "-c", file, "--output", str(output)).out  # in the place of the first
    assert "all states are zeros" in text
    assert text.endswith(f"ok: {output} is written\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step.keras", "two.keras", "worker.yaml"]


@pytest.mark.parametrize(
    ("model", "output", "told"),
    [
        ("good.keras", "nowhere/step.keras", "there is no folder"),
        ("good.keras", "good.keras", "this is model.path, the trained model"),
        ("good.keras", "folder.keras", "this is a directory"),
        ("bidirectional.keras", "step.keras", "layer 'both_ways'"),
        ("nothing.keras", "step.keras", "no such file"),
    ],
)
def test_refused(command: Command, tmp_path: Path, model: str, output: str, told: str) -> None:
    sequential(L.LSTM(4), L.Dense(2)).save(tmp_path / "good.keras")
    sequential(L.Bidirectional(L.GRU(4), name="both_ways"), L.Dense(2)).save(tmp_path / "bidirectional.keras")
    (tmp_path / "folder.keras").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.glob("*.keras") if path.is_file()}
    file = written(tmp_path, model)
    ended = command("export", "-c", file, "--output", str(tmp_path / output))
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith("worker: ")
    assert (ended.err.count("\n"), told in ended.err) == (1, True)
    ended = command("export", "-c", file, "--output", str(tmp_path / output), "--json")
    assert (ended.status, ended.err) == (1, "")
    report = json.loads(ended.out)
    assert report["ok"] is False
    assert all(problem["why"] and problem["instead"] for problem in report["problems"])
    assert {path: path.read_bytes() for path in tmp_path.glob("*.keras") if path.is_file()} == before


def test_without_proof_nothing_is_written(command: Command, tmp_path: Path) -> None:
    model = sequential(L.LSTM(4), L.Dense(2))
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    model.save(tmp_path / "spoilt.keras")
    ended = command("export", "-c", written(tmp_path, "spoilt.keras"), "--output", str(tmp_path / "step.keras"))
    assert (ended.status, ended.out) == (1, "")
    assert "differs from the trained one by nan" in ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spoilt.keras", "worker.yaml"]
