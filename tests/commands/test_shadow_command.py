"""The section ``shadow`` in the configuration, in ``worker check`` and in ``worker replay``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.command_line import Command
from tests.sequences import configuration, make_log, save_model
from worker.config.checks import contradictions
from worker.config.sections import Config

TOPICS = ("readings", "probabilities", "readings.dead")
EVENTS, STREAMS = 200, 7


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With two models, records, and the configuration of each model alone and of both."""
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model.keras")
    save_model(tmp_path / "candidate.keras", 0.8)
    log = make_log(EVENTS, STREAMS)
    lines = [
        {"key": key.decode(), "value": json.loads(value), "partition": index % 2}
        for index, (key, value) in enumerate(zip(log.keys, log.values, strict=True))
    ]
    lines.insert(50, {"key": "device-000", "value": {"ax": 1}})
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write(tmp_path, "alone", "model")
    write(tmp_path, "other", "candidate")
    write(tmp_path, "both", "model", {"path": "candidate.keras", "topic": "candidate"})
    return tmp_path


def write(folder: Path, name: str, model: str, shadow: dict[str, Any] | None = None) -> None:
    settings = configuration(folder, "127.0.0.1:1", "kafka-python", TOPICS)
    settings["model"]["path"] = f"{model}.keras"
    settings["state"] = {"directory": str(folder / "state")}
    if shadow is not None:
        settings["shadow"] = shadow
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings))


def replayed(folder: Path, command: Command, name: str) -> list[Any]:
    ended = command("replay", "-c", f"{name}.yaml", "--input", "in.jsonl", "--output", f"{name}.jsonl")
    assert ended.status == 0, ended.err
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_a_replay_writes_what_both_say(folder: Path, command: Command) -> None:
    alone, other, both = (replayed(folder, command, name) for name in ("alone", "other", "both"))
    assert [line for line in both if line["topic"] != "candidate"] == alone
    candidate = [{**line, "topic": TOPICS[1]} for line in both if line["topic"] == "candidate"]
    assert candidate == [line for line in other if line["topic"] == TOPICS[1]]
    assert len(candidate) == EVENTS
    assert candidate != [line for line in alone if line["topic"] == TOPICS[1]]
    # Beside its first model's, in the order of the input.
    assert both[1]["topic"] == "candidate"
    assert both[0]["value"]["source"] == both[1]["value"]["source"]


def test_check_proves_both(folder: Path, command: Command) -> None:
    ended = command("check", "-c", "both.yaml", "--json")
    assert ended.status == 0, ended.err
    report = json.loads(ended.out)
    (note,) = (note for note in report["notes"] if note.startswith("shadow: "))
    assert f"follows with {report['bytes_per_stream']:,} bytes more of state per stream" in note
    assert note.endswith("its outputs go to topic 'candidate'")


def test_check_refuses_a_candidate_that_can_not_be_used(folder: Path, command: Command) -> None:
    (folder / "candidate.keras").write_bytes(b"not a model")
    ended = command("check", "-c", "both.yaml", "--json")
    assert ended.status == 1
    report = json.loads(ended.out)
    assert not report["ok"]
    assert "candidate.keras" in report["problems"][0]["why"]


@pytest.mark.parametrize(
    ("task", "shadow", "lines"),
    [
        ("score", {"path": "c.keras", "topic": "candidate"}, []),
        ("score", {"path": "c.keras"}, ["shadow.topic: is required with shadow.path"]),
        ("score", {"topic": "candidate"}, ["shadow.topic: needs shadow.path"]),
        ("score", {"sha256": "a" * 64}, ["shadow.sha256: needs shadow.path"]),
        (
            "score",
            {"path": "c.keras", "topic": "said"},
            ["shadow.topic: 'said' is output.topic too; the worker would read what it writes, or mix two kinds"],
        ),
        (
            "generate",
            {"path": "c.keras", "topic": "candidate"},
            ["shadow.path: is for task score, but model.task is generate"],
        ),
    ],
)
def test_what_contradicts_it(task: str, shadow: dict[str, Any], lines: list[str]) -> None:
    model = {"path": "m.keras", "task": task} | ({"vocabulary": ["a", "b"]} if task == "generate" else {})
    given = {} if task == "generate" else {"features": ["x"]}
    tree = {"input": {"topic": "asked", **given}, "output": {"topic": "said"}, "model": model, "shadow": shadow}
    assert contradictions(Config.model_validate(tree)) == lines
