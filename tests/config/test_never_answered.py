"""Configurations with which no sequence has an output are refused, and each remedy that is named helps."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest

from worker.assembly.lengths import check_first_answer
from worker.config.checks import contradictions
from worker.config.sections import Config
from worker.errors import ConfigError

WAYS = list(product((1, 8, 9), ("wait", "zeros"), (1, 4, 16, 20_000), (1, 7, 10, 12), ("every_event", "sequence_end")))


def config(window: int, fill: str, every: int, length: int, emit: str, **more: Any) -> Config:
    return Config.model_validate(
        {
            "input": {"topic": "a", "features": "x"},
            "output": {"topic": "b", "emit": emit},
            "model": {"path": "m.keras", "window": window, "window_fill": fill, "every": every},
            "sequence": {"length": length, **more},
        }
    )


def answered(window: int, fill: str, every: int, length: int, emit: str) -> bool:
    events = [
        number for number in range(1, length + 1) if number % every == 0 and (fill == "zeros" or number >= window)
    ]
    return length in events if emit == "sequence_end" else bool(events)


@pytest.mark.parametrize("emit", ["every_event", "sequence_end"])
def test_what_can_never_be_answered_is_refused_and_each_remedy_helps(emit: str) -> None:
    for window, fill, every, length, _ in (way for way in WAYS if way[-1] == emit):
        given = (window, fill, every, length, emit)
        found = list(contradictions(config(*given)))
        assert (not found) == answered(*given), (given, found)
        for line in found:
            longer = re.search(r"set (?:it to|sequence.length:) (\d+)", line)
            assert longer is not None, line
            assert answered(window, fill, every, int(longer[1]), emit), line
            assert "or more" not in line or answered(window, fill, every, int(longer[1]) + 1, emit), line
            other = line.rpartition(", or set ")[2]
            key = re.search(r"model\.every: (\d+)", other)
            zeros = "model.window_fill: zeros" in other
            assert answered(window, "zeros" if zeros else fill, int(key[1]) if key else every, length, emit), line


def test_the_lines() -> None:
    assert list(contradictions(config(8, "wait", 4, 10, "sequence_end"))) == [
        "output.emit: sequence_end needs an answer to the last event of a sequence, number 10 (sequence.length), and "
        "model.every: 4 gives none to it; set sequence.length: 12, or set model.every: 2"
    ]
    assert list(contradictions(config(8, "wait", 16, 10, "every_event"))) == [
        "sequence.length: 10 ends each sequence before its first answer, after event 16 (model.window, model.every); "
        "set it to 16 or more, or set model.every: 10"
    ]
    assert list(contradictions(config(8, "wait", 4, 10, "sequence_end", end="last"))) == []


def test_a_model_that_waits_longer_than_its_sequences_are() -> None:
    given = config(1, "wait", 1, 5, "every_event")
    check_first_answer(given, 5)
    with pytest.raises(ConfigError, match="before the model's first answer, after event 6; set it to 6 or more"):
        check_first_answer(given, 6)
