"""``worker demo --task …`` with real Kafka and the real worker; the models are trained for a few batches only."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from worker.commands.demo.texts import session, training
from worker.commands.demo.texts.proof import Compared
from worker.commands.demo.texts.session import TextOptions, run
from worker.commands.demo.texts.training import Task
from worker.errors import WorkerError

STEPS = 3


def play(task: Task, bootstrap_servers: str, models: Path, events: int) -> str:
    out = io.StringIO()
    options = TextOptions(task, bootstrap_servers, events, streams=4, speed=50.0, models=models, steps=STEPS)
    run(options, Console(file=out, width=100, force_terminal=False))
    return out.getvalue()


@pytest.mark.parametrize("task", ["generate", "seq2seq"])
def test_texts_are_written_and_compared(task: Task, bootstrap_servers: str, tmp_path: Path) -> None:
    out = play(task, bootstrap_servers, tmp_path, events=10)
    assert f"training the model, only this first time: 0 of {STEPS} batches" in out
    assert "10 texts asked for: each came whole, each item once and in order" in out
    assert "as the model writes alone, from Python: 10 of 10 (100.0 %) of the texts" in out


def test_a_text_that_is_not_the_models_own_is_told(
    monkeypatch: pytest.MonkeyPatch, bootstrap_servers: str, tmp_path: Path
) -> None:
    monkeypatch.setattr(session, "compare", lambda *_: Compared(4, 3))
    with pytest.raises(WorkerError, match="not every text is the model's own"):
        play("generate", bootstrap_servers, tmp_path, events=4)


def test_a_model_is_trained_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[str] = []
    first = training.trained("seq2seq", tmp_path, told.append, steps=1)
    monkeypatch.setattr(training, "_fit", None)
    assert training.trained("seq2seq", tmp_path, told.append, steps=1) == first
    assert first.model.is_file()
    assert len(told) == 1
    assert [path.name for path in tmp_path.iterdir()] == [first.model.parent.name], "nothing half done is left"


def test_training_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(words: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.trained("seq2seq", tmp_path, interrupt, steps=1)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_none_is_told_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkerError, match=r"the model can't be kept in .*file: Not a directory"):
        training.trained("seq2seq", tmp_path / "file", print, steps=1)
