"""Commands as a user types them, in this process, and configuration files for them."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml


class Ended:
    """How a command ended that ran in this process: without starting Python and TensorFlow each time."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


class Command(Protocol):
    def __call__(self, *arguments: str) -> Ended: ...


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """``command("check", "-c", "x.yaml")`` through ``main``, as the console script calls it."""
    from worker.__main__ import main

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["worker", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        status = ended.value.code or 0
        assert isinstance(status, int), status
        return Ended(status, out, err)

    # `run` takes signals and logs for its own: both are pytest's again afterwards.
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    logs, level = logging.getLogger().handlers[:], logging.getLogger().level
    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
    logging.getLogger().handlers[:] = logs
    logging.getLogger().setLevel(level)


def written(folder: Path, model: str = "good.keras", **keys: Any) -> str:
    """A configuration file; keys are dotted, written with two underscores."""
    tree: dict[str, Any] = {
        "input": {"topic": "readings", "features": ["ax", "ay", "az"]},
        "output": {"topic": "probabilities"},
        "model": {"path": str(folder / model)},
        "http": {"host": "127.0.0.1", "port": 0},
        "state": {"directory": str(folder / "state")},
    }
    for path, value in keys.items():
        *sections, last = path.split("__")
        section = tree
        for name in sections:
            section = section.setdefault(name, {})
        section[last] = value
    (folder / "worker.yaml").write_text(yaml.safe_dump(tree))
    return str(folder / "worker.yaml")
