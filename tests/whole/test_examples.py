"""The training scripts as a reader starts them, for a few batches: the models are poor, but of the right form."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PAIRS = ROOT / "worker" / "commands" / "demo" / "data" / "english_french.tsv"
SCRIPT_TIMEOUT_S = 600


def ran(script: str, *arguments: str, folder: Path) -> str:
    """What the script prints. It runs in a folder of its own, with the worker of this tree."""
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SCRIPT_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def vocabulary(path: Path) -> list[str]:
    items: list[str] = json.loads(path.read_text(encoding="utf-8"))
    assert len(set(items)) == len(items)
    return items


def test_a_writer_is_trained_as_its_page_says(tmp_path: Path) -> None:
    printed = ran("train_text.py", "--steps", "3", folder=tmp_path)
    assert "3 batches" in printed
    assert "after 'The with statement', temperature 1.0, seed 0" in printed
    characters = vocabulary(tmp_path / "text" / "characters.json")
    assert {len(item) for item in characters} == {1}
    model: Any = opened(tmp_path / "text" / "writer.keras")
    assert (model.input_shape, model.output_shape) == ((64, 40), (64, 40, len(characters)))


def test_a_translator_is_trained_as_its_page_says(tmp_path: Path) -> None:
    printed = ran("train_pairs.py", "--steps", "3", folder=tmp_path)
    assert "3 batches" in printed
    assert "sentences it was trained on" in printed
    assert "sentences it has never seen" in printed
    english, french = (vocabulary(tmp_path / "pairs" / f"{name}.json") for name in ("english", "french"))
    assert english[:2] == ["<padding>", "<unknown>"]
    assert french[:3] == ["<padding>", "<start>", "<stop>"]
    model: Any = opened(tmp_path / "pairs" / "translator.keras")
    assert model.output_shape == (None, None, len(french))
    assert model.get_layer("english_words").input_dim == len(english)


def test_the_pairs_are_what_their_provenance_says() -> None:
    provenance = (PAIRS.parent / "PROVENANCE.md").read_text(encoding="utf-8")
    content = PAIRS.read_bytes()
    assert hashlib.sha256(content).hexdigest() in provenance
    pairs = [line.split("\t") for line in content.decode().splitlines()]
    assert {len(pair) for pair in pairs} == {2}
    assert f"{len(pairs):,} short English messages" in provenance
    assert f"{len(pairs):,} pairs" in (EXAMPLES / "train_pairs.py").read_text(encoding="utf-8")
    assert f"{len(pairs):,} English and French" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


def opened(path: Path) -> Any:
    from worker.model.backend import keras

    return keras.models.load_model(path)
