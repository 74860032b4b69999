"""The commands with a model on a window: what check tells, what export writes, what replay leaves out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.command_line import Command
from worker.model.backend import keras

L = keras.layers
WINDOW, FEATURES = 5, ("a", "b")


def written(folder: Path, *layers: Any, **more: Any) -> Path:
    keras.utils.set_random_seed(2)
    keras.Sequential([keras.Input((WINDOW, len(FEATURES))), *layers]).save(folder / "model.keras")
    settings = {
        "kafka": {"bootstrap_servers": "127.0.0.1:9", "group_id": "g"},
        "input": {"topic": "readings", "features": list(FEATURES)},
        "output": {"topic": "answers"},
        "model": {"path": str(folder / "model.keras"), **more},
        "state": {"directory": str(folder / "state")},
    }
    (folder / "worker.yaml").write_text(yaml.safe_dump(settings))
    return folder / "worker.yaml"


def test_check_names_the_window_as_second_way_and_how_fast_it_is(command: Command, tmp_path: Path) -> None:
    ended = command("check", "-c", str(written(tmp_path, L.Bidirectional(L.GRU(2)), L.Dense(1))), "--json")
    report = json.loads(ended.out)
    assert not report["ok"]
    (problem,) = report["problems"]
    assert "or run it on the last 5 events: model.window: 5 (about " in problem["instead"]
    assert problem["instead"].endswith(" events/s here)")


def test_check_tells_the_form_and_the_two_ways(command: Command, tmp_path: Path) -> None:
    file = written(tmp_path, L.LSTM(3), L.Dense(1), window=WINDOW, every=2)
    report = json.loads(command("check", "-c", str(file), "--json").out)
    assert (report["ok"], report["form"], report["first_answer"]) == (True, "window=5 every=2", 6)
    ways = report["ways"]
    assert [ways[one]["form"] for one in ("chosen", "other")] == ["window", "streaming"]
    assert [ways[one]["steps_per_event"] for one in ("chosen", "other")] == [2.5, 1]
    assert [ways[one]["bytes_per_stream"] for one in ("chosen", "other")] == [4 * (5 * 2 + 1), 4 * 6]
    assert (ways["window"], ways["beyond"]) == (5, 10)
    assert 0 < ways["difference"] < 1
    text = command("check", "-c", str(file)).out
    assert "form        the trained model as it is, on windows: window=5 every=2\n" in text
    assert "answers     the first after event 6 of each sequence: no output before it\n" in text
    assert text.endswith("\nok: this model runs on a window\n")


def test_replay_leaves_out_what_is_not_answered_and_export_says_so(command: Command, tmp_path: Path) -> None:
    file = written(tmp_path, L.Flatten(), L.Dense(1), window=WINDOW)
    lines = [json.dumps({"key": key, "value": {"a": 1, "b": 2}}) for key in "xyx" * 5]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    source, target = str(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    assert command("replay", "-c", str(file), "--input", source, "--output", str(target)).status == 0
    found = [json.loads(line)["value"] for line in target.read_text().splitlines()]
    assert [(each["stream"], each["step"]) for each in found] == [
        *(("x", step) for step in range(5, 10)), ("y", 5), ("x", 10)
    ]  # fmt: skip
    ended = command("export", "-c", str(file), "--output", str(tmp_path / "step.keras"))
    assert "output 1 is 1 where there is an answer" in ended.out


def test_windows_that_are_answered_seldom_are_checked_and_exported(command: Command, tmp_path: Path) -> None:
    every = 1_000_000
    file = written(tmp_path, L.LSTM(3, return_sequences=True), L.Dense(1), window=WINDOW, every=every)
    ended = command("check", "-c", str(file))
    assert ended.status == 0
    assert "as it is, every 1,000,000 events; its last step\n" in ended.out
    ended = command("export", "-c", str(file), "--output", str(tmp_path / "step.keras"))
    assert ended.status == 0, ended.err


def test_tables_fit_into_eighty_columns(command: Command, tmp_path: Path) -> None:
    file = written(tmp_path, L.LSTM(3, return_sequences=True), L.Dense(1), window=WINDOW, every=3)
    lines = command("check", "-c", str(file)).out.splitlines()
    assert max(len(line) for line in lines if "  " in line[12:].strip()) <= 80
