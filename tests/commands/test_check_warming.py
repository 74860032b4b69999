"""What ``worker check`` says of a start with ``state.warm``."""

from __future__ import annotations

from typing import Any

import pytest

from worker.commands.check.capacity import StepTime
from worker.commands.check.warming import told_warming
from worker.config.sections import Config

STEPS = [StepTime(1, 0.0005, 2_000.0), StepTime(256, 0.005, 50_000.0)]


def configured(**state: Any) -> Config:
    given = {"input": {"topic": "a", "features": "x"}, "output": {"topic": "b"}, "model": {"path": "m.keras"}}
    return Config.model_validate({**given, "state": state})


@pytest.mark.parametrize(
    ("warm", "steps", "wanted"),
    [
        ("10m", STEPS, "at least 12 s for every 1,000 events/s that the worker gets (the model alone, here)"),
        ("90s", STEPS, "at least 1.8 s for every 1,000 events/s that the worker gets (the model alone, here)"),
        ("500 events", STEPS, "at least 10 ms for each partition (the model alone, here)"),
        ("1 event", STEPS, "at least 1 ms for each partition (the model alone, here)"),
        ("10m", [], "it takes as long as writing the texts of these records did"),
    ],
)
def test_how_long_a_start_takes(warm: str, steps: list[StepTime], wanted: str) -> None:
    config = configured(warm=warm, on_model_change="warm")
    begin = f"state.warm: {config.state.warm} of each partition's log are replayed before it is answered: "
    assert told_warming(config, steps) == begin + wanted


def test_nothing_is_said_without_it() -> None:
    assert told_warming(configured(), STEPS) is None
