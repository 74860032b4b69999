"""Who asks for which texts: the streams of the demonstration, and what the worker is told about their model.

Rule of this file: the same requests on every run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from worker.commands.demo.stage import Names
from worker.commands.demo.texts.sources import PAIRS_PATH, START, STOP, words
from worker.commands.demo.texts.training import Files, Task
from worker.web.probing import HOST

PIECE = 20  # characters that a record asks for
LONGEST = 20  # words of a translation
SEED = 7
TEMPERATURE = 0.5
OPENINGS = (
    'The "while" statement', 'The "with" statement', "A class definition", "An exception is", "The import system",
    "Lambda expressions", "An object is", "String literals", "Comparisons", "A module", "Functions", "Calls",
    "A coroutine", "Dictionaries", "A sequence", "Attributes",
)  # fmt: skip


class Request(NamedTuple):
    """One record: the text that is fed, if any, and its value."""

    stream: str
    text: str
    value: dict[str, Any]


class Cast(Protocol):
    """``between``: what stands between two items of a text. ``period_s``: from one record of a stream to the next, at
    speed 1. ``title``: of the streams.
    """

    task: Task
    title: str
    between: str
    continues: bool
    period_s: float

    def requests(self, stream: str, number: int) -> Iterator[Request]:
        """What the stream with this number asks for, without end."""

    def model(self, files: Files) -> dict[str, Any]:
        """The sections of the configuration that are about the model."""


class Writers:
    """Each begins with a heading of its own, and then just goes on, piece by piece."""

    task: Task = "generate"
    title = "writer"
    between = ""
    continues = True
    period_s = 2.0

    def requests(self, stream: str, number: int) -> Iterator[Request]:
        opening = OPENINGS[number % len(OPENINGS)]
        yield Request(stream, opening, {"text": opening, "length": PIECE})
        while True:
            yield Request(stream, "", {"length": PIECE})

    def model(self, files: Files) -> dict[str, Any]:
        drawing = {"vocabulary": str(files.vocabularies[0]), "temperature": TEMPERATURE, "seed": SEED}
        return {"model": {"path": str(files.model), "task": self.task, **drawing, "max_length": PIECE}}


class Translators:
    """Each takes one sentence after another, in an order of its own."""

    task: Task = "seq2seq"
    title = "translator"
    between = " "
    continues = False
    period_s = 8.0

    def __init__(self) -> None:
        lines = PAIRS_PATH.read_text(encoding="utf-8").splitlines()
        self._sentences = [" ".join(words(line.split("\t")[0])) for line in lines]

    def requests(self, stream: str, number: int) -> Iterator[Request]:
        random = np.random.default_rng((SEED, number))
        while True:
            sentence = self._sentences[random.integers(len(self._sentences))]
            yield Request(stream, sentence, {"text": sentence})

    def model(self, files: Files) -> dict[str, Any]:
        english, french = files.vocabularies
        sides = {"source_vocabulary": str(english), "target_vocabulary": str(french), "start": START, "stop": STOP}
        model = {"path": str(files.model), "task": self.task, **sides, "max_length": LONGEST}
        return {"model": model, "sequence": {"length": 1}}


def cast_of(task: Task) -> Cast:
    """The streams of a task."""
    return Writers() if task == "generate" else Translators()


def configuration(cast: Cast, files: Files, servers: str, names: Names, folder: Path, port: int) -> dict[str, Any]:
    """The worker's configuration, as a user would write it."""
    return {
        "kafka": {"bootstrap_servers": servers, "group_id": names.group},
        "input": {"topic": names.readings},
        "output": {"topic": names.probabilities, "emit": "every_item"},
        "dead_letters": {"topic": None},
        **cast.model(files),
        "state": {"directory": str(folder / "state"), "checkpoint_interval": "5s"},
        "http": {"host": HOST, "port": port},
    }
