"""Compares what came through Kafka with what the model writes alone, from Python."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from worker.commands.demo.texts.board import Answer
from worker.commands.demo.texts.casts import LONGEST, PIECE, SEED, TEMPERATURE
from worker.commands.demo.texts.sources import START, STOP
from worker.commands.demo.texts.training import Files, Task


class Compared(NamedTuple):
    """Texts compared, and how many of them are the same, item by item."""

    texts: int
    same: int


def compare(task: Task, files: Files, answers: Mapping[str, Sequence[Answer]]) -> Compared:
    """``answers``: of each stream, from its first on."""
    alone = (_written if task == "generate" else _translated)(files, answers)
    pairs = [
        (answer.tokens, tokens)
        for stream, given in answers.items()
        for answer, tokens in zip(given, alone[stream], strict=True)
    ]
    return Compared(len(pairs), sum(came == wanted for came, wanted in pairs))


def _items(path: Path) -> list[str]:
    items: list[str] = json.loads(path.read_text(encoding="utf-8"))
    return items


def _written(files: Files, answers: Mapping[str, Sequence[Answer]]) -> dict[str, list[list[int]]]:
    """Each stream by itself: all that it was fed and asked for, its states handed on."""
    from worker import GenerativeModel

    model = GenerativeModel.load(files.model, vocabulary=_items(files.vocabularies[0]))
    assert model.vocabulary is not None
    written: dict[str, list[list[int]]] = {}
    for stream, given in answers.items():
        states, texts = None, []
        for answer in given:
            prompt = model.vocabulary.ids(answer.request.text)
            (tokens,), states = model.generate_tokens(
                [prompt], PIECE, states, temperature=TEMPERATURE, seed=SEED, streams=[stream]
            )
            texts.append(tokens)
        written[stream] = texts
    return written


def _translated(files: Files, answers: Mapping[str, Sequence[Answer]]) -> dict[str, list[list[int]]]:
    """All sentences at once: nothing is handed on."""
    from worker import EncoderDecoder

    english, french = map(_items, files.vocabularies)
    model = EncoderDecoder.load(
        files.model, source_vocabulary=english, target_vocabulary=french, start=START, stop=STOP
    )
    asked = [answer.request.text for given in answers.values() for answer in given]
    texts = iter(model.decode(model.encode(asked), LONGEST) if asked else [])
    return {stream: [next(texts) for _ in given] for stream, given in answers.items()}
