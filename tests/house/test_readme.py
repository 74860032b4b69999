"""What the README shows must be what happens: its configuration, its record, its Python."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parents[2]


def blocks(language: str, file: str = "README.md") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / file).read_text(), re.DOTALL)


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the README's model in it, as the current one."""
    from tests.models import door as model

    model().save(tmp_path / "door.keras")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_shown_configuration_gives_the_shown_record(door: Path) -> None:
    from worker.assembly.model import load_scoring
    from worker.assembly.pipeline import build_scoring
    from worker.config import load_config
    from worker.records.ownership import Partition
    from worker.records.record_batch import RecordBatch

    (shown,) = blocks("yaml")
    (door / "my.yaml").write_text(shown)
    config = load_config(door / "my.yaml", {})
    pipeline = build_scoring(config, load_scoring(config))
    partition = Partition("readings", 2)
    pipeline.engine.table.open(partition)
    (value,) = re.findall(r"value=b'(.*?)'", "".join(blocks("python")))
    batch = RecordBatch(partition, 12, [11], [1795240795377], [b"watch-07"], [value.encode()], [None])
    (outcome,) = pipeline.turn([batch])
    found: dict[str, Any] = json.loads(outcome.outputs.values[0] or b"")
    wanted: dict[str, Any] = json.loads(blocks("json")[0])
    assert list(found) == list(wanted)
    for name in ("stream", "sequence", "final", "time", "origin"):
        assert found[name] == wanted[name], name
    assert list(found["source"]) == list(wanted["source"])
    assert len(found["model"]) == len(wanted["model"])


def test_the_shown_configuration_names_only_known_keys_and_the_file_it_is_copied_from_has_them() -> None:
    whole = yaml.safe_load((ROOT / "config" / "worker.yaml").read_text())
    for section, keys in yaml.safe_load(blocks("yaml")[0]).items():
        assert set(keys) <= set(whole[section]), section


def test_the_shown_python_runs(door: Path) -> None:
    (program,) = [block for block in blocks("python") if "StreamingModel" in block]
    names: dict[str, Any] = {"x": np.zeros((20, 3), np.float32), "xs": np.zeros((5, 20, 3), np.float32)}
    exec(program, names)
    assert names["y"].shape == (20, 1)
    assert names["ys"].shape == (5, 20, 1)
    assert len(names["explicit"].inputs) == 5
    assert [state.shape for state in names["states"]] == [(20, 32), (20, 32), (20, 16), (20, 16)]


def test_rules_for_layers_of_ones_own_are_proven() -> None:
    """The page on layers shows two; in a process of their own, because rules stay registered."""
    program = "\n".join(blocks("python", "docs/layers.md")) + (
        "\nL = keras.layers\n"
        "layers = [Clip(), L.LSTM(4, return_sequences=True), Change(), L.GRU(3), L.Dense(1)]\n"
        "from worker import StreamingModel\n"
        "model = StreamingModel(keras.Sequential([keras.Input((None, 3)), *layers]))\n"
        "print(model.check_parity(1e-5).steps, [f'{s.layer}/{s.name}' for s in model.states])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout == "40 ['lstm/h', 'lstm/c', 'change/last', 'gru/h']\n", done.stderr
