"""The demonstration's data are the files their provenance names, and the stored model is as good as it says."""

import hashlib
import re
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pytest

from worker.commands.demo.motions import CHANNELS, DATA, LABELS, MODEL_PATH, load, parse

Part: TypeAlias = Literal["TRAIN", "TEST"]


def case(label: str, channels: int = 6, steps: int = 100) -> str:
    return ":".join(
        [",".join(str(channel + step / 1000) for step in range(steps)) for channel in range(channels)] + [label]
    )


def test_each_stored_file_has_the_checksum_and_size_in_its_provenance() -> None:
    text = (DATA / "PROVENANCE.md").read_text(encoding="utf-8")
    for path in [DATA / "BasicMotions_TRAIN.ts", DATA / "BasicMotions_TEST.ts", MODEL_PATH]:
        content = path.read_bytes()
        assert hashlib.sha256(content).hexdigest() in text, path.name
        assert re.search(rf"\b{len(content)}\b", text), path.name


@pytest.mark.parametrize("part", ["TRAIN", "TEST"])
def test_each_part_holds_ten_sequences_of_each_class(part: Part) -> None:
    motions = load(part)
    assert motions.vectors.shape == (40, 100, 6)
    assert motions.vectors.dtype == np.float32
    assert np.isfinite(motions.vectors).all()
    assert np.bincount(motions.classes).tolist() == [10, 10, 10, 10]


def test_a_case_is_read_by_channel_and_stored_by_step() -> None:
    motions = parse("# words\n@data\n" + case("Walking") + "\n\n" + case("Standing") + "\n")
    assert motions.classes.tolist() == [LABELS.index("walking"), LABELS.index("standing")]
    assert motions.vectors[0, 7].tolist() == np.array([c + 0.007 for c in range(6)], dtype=np.float32).tolist()
    assert len(CHANNELS) == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (case("Walking"), "no line '@data'"),
        ("@data\n" + case("Walking", channels=5), "line 2: wanted 6 channels"),
        ("@data\n" + case("Walking") + "\n" + case("Walking", steps=99), "line 3: wanted 6 channels of 100 steps"),
        ("@data\n" + case("Swimming"), "label 'Swimming'"),
    ],
)
def test_a_file_that_is_not_this_data_set_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text)


def test_the_stored_model_is_right_at_the_last_step_of_at_least_nine_in_ten_test_sequences() -> None:
    import keras

    from worker.commands.demo.train import LEAST_ACCURACY, accuracies

    model = keras.models.load_model(MODEL_PATH, compile=False)
    assert model.input_shape == (None, None, 6)
    assert model.output_shape == (None, 4)
    assert accuracies(model, load("TEST"), [100])[0] >= LEAST_ACCURACY
    assert MODEL_PATH.stat().st_size < 500_000


def test_training_twice_gives_the_same_weights(tmp_path: Path) -> None:
    """In processes of their own: determinism has to be switched on before TensorFlow's first operation."""
    import subprocess
    import sys

    script = (
        "import sys, numpy as np; from worker.commands.demo.train import make_deterministic, trained; "
        "from worker.commands.demo.motions import load; make_deterministic(); "
        "np.savez(sys.argv[1], *trained(load('TRAIN'), epochs=2).get_weights())"
    )
    runs = [tmp_path / "first.npz", tmp_path / "second.npz"]
    for path in runs:
        subprocess.run([sys.executable, "-c", script, str(path)], check=True, capture_output=True)
    first, second = (dict(np.load(path)) for path in runs)
    assert first.keys() == second.keys()
    assert len(first) == 8
    assert all(np.array_equal(first[name], second[name]) for name in first)
