"""What the models of the demonstration learn from, as ids: Python's language reference; English and French sentences.

Rule of this file: reads what is installed with Python and with the worker, nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worker.records.arrays import IntArray

PAIRS_PATH = Path(__file__).parents[1] / "data" / "english_french.tsv"
PADDING, START, STOP = "<padding>", "<start>", "<stop>"
DRAWN = re.compile(r"\||[-+*=~^]{3}")  # a line of a table, or a rule below a heading
WORD = re.compile(r"\w+'(?=\w)|\w+(?:-\w+)*|\.\.\.|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Reference:
    """``characters``: the vocabulary. ``ids`` (n,): the whole text."""

    characters: list[str]
    ids: IntArray


@dataclass(frozen=True, slots=True)
class Sentences:
    """Vocabularies, padding first, and ids padded with 0 at the end: (n, time), French between start and stop item."""

    english: list[str]
    french: list[str]
    sources: IntArray
    targets: IntArray


def reference() -> Reference:
    """The text that ``help("while")`` shows, and all others of its kind, without tables and rules."""
    from pydoc_data.topics import topics

    lines = "\n\n".join(topics[name] for name in sorted(topics)).splitlines()
    text = "\n".join(line for line in lines if not DRAWN.search(line))
    characters = sorted(set(text))
    place = {character: index for index, character in enumerate(characters)}
    return Reference(characters, np.array([place[character] for character in text]))


def sentences() -> Sentences:
    """All pairs, in the order of the file."""
    lines = [line.split("\t") for line in PAIRS_PATH.read_text(encoding="utf-8").splitlines()]
    english, french = [words(line[0]) for line in lines], [[START, *words(line[1]), STOP] for line in lines]
    sources, targets = _vocabulary(english, []), _vocabulary(french, [START, STOP])
    return Sentences(sources, targets, _padded(english, sources), _padded(french, targets))


def words(sentence: str) -> list[str]:
    """In small letters, signs alone: ``Delete it?`` → delete, it, ?."""
    return WORD.findall(sentence.lower())


def _vocabulary(texts: Sequence[list[str]], first: Sequence[str]) -> list[str]:
    return [PADDING, *first, *sorted({word for text in texts for word in text} - set(first))]


def _padded(texts: Sequence[list[str]], items: Sequence[str]) -> IntArray:
    place = {item: index for index, item in enumerate(items)}
    ids = np.zeros((len(texts), max(map(len, texts))), np.int64)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = [place[word] for word in text]
    return ids
