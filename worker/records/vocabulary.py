"""Text ↔ ids of items. For codecs, which read and write text in records, and for the models of tasks that generate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from worker.records.arrays import IntArray, is_whole

Items: TypeAlias = Iterable[str] | Mapping[str, int] | Mapping[int, str]  # in the order of their ids, or with them

REFUSE, SKIP = -1, -2  # what to do about an item that the vocabulary doesn't have; any other number: take that item


class VocabularyError(ValueError):
    """These items can't be a vocabulary."""


class UnknownItemError(ValueError):
    """Text with an item that the vocabulary does not have. ``position``: its number among the text's items, from 0."""

    def __init__(self, item: str, position: int, size: int) -> None:
        super().__init__(f"item {position + 1} of the text, {item!r}, is none of the vocabulary's {size:,} items")
        self.item = item
        self.position = position


class Vocabulary:
    """Items and their ids, which are their places, or what a mapping, {item: id} or {id: item}, says.

    Items that are all single characters (code points) split text into characters. Otherwise text is split into words at
    white space, and words are joined by one space. Raises VocabularyError for no items, an item that isn't text, that
    is empty or there twice, for words that hold white space, which no text could contain, for a set, and for a mapping
    whose ids aren't 0, 1, … without a gap::

        vocabulary = Vocabulary(["a", "b", " "])
        vocabulary.ids("ba b")  # [1, 0, 2, 1]
        vocabulary.text([0, 1])  # "ab"

    ``items``       in the order of their ids
    ``characters``  whether they are single characters
    """

    def __init__(self, items: Items) -> None:
        self.items: tuple[str, ...] = _in_order(items)
        self._ids: dict[str, int] = {}
        for number, item in enumerate(self.items):
            if not isinstance(item, str):
                raise VocabularyError(f"item {number} of the vocabulary is {item!r}, not text")
            if not item:
                raise VocabularyError(f"item {number} of the vocabulary is empty")
            if item in self._ids:
                raise VocabularyError(f"the vocabulary has the item {item!r} twice: {self._ids[item]} and {number}")
            self._ids[item] = number
        if not self.items:
            raise VocabularyError("the vocabulary has no items")
        self.characters = all(len(item) == 1 for item in self.items)
        if not self.characters:
            for number, item in enumerate(self.items):
                if item.split() != [item]:
                    raise VocabularyError(
                        f"item {number} of the vocabulary, {item!r}, holds white space, where words are split"
                    )
        self._between = "" if self.characters else " "

    def __len__(self) -> int:
        return len(self.items)

    def __contains__(self, item: object) -> bool:
        return item in self._ids

    def id(self, item: str) -> int:
        """Raises VocabularyError for an item that isn't there."""
        if item not in self._ids:
            raise VocabularyError(f"{item!r} is none of the vocabulary's {len(self.items):,} items")
        return self._ids[item]

    def split(self, text: str) -> Sequence[str]:
        """Text → its items, known or not."""
        return text if self.characters else text.split()

    def ids(self, text: str, unknown: int = REFUSE) -> IntArray:
        """Text → (n,) ids. ``unknown``: SKIP leaves unknown items out, an id takes their place.

        Raises UnknownItemError with REFUSE.
        """
        items = self.split(text)
        found = [self._ids.get(item, unknown) for item in items]
        if unknown < 0 and unknown in found:
            if unknown == REFUSE:
                position = found.index(REFUSE)
                raise UnknownItemError(items[position], position, len(self.items))
            found = [number for number in found if number != SKIP]
        return np.array(found, np.int64)

    def text(self, ids: Iterable[int]) -> str:
        """Ids → text. Ids that aren't the vocabulary's are a bug."""
        return self._between.join([self.items[number] for number in ids])


def _in_order(given: Items) -> tuple[str, ...]:
    """The items by their ids, not checked otherwise. Raises VocabularyError."""
    if isinstance(given, set | frozenset):
        raise VocabularyError("the vocabulary is a set, which has no order: give a list, in the order of the ids")
    if not isinstance(given, Mapping):
        return tuple(given)
    pairs = list(given.items())
    if pairs and all(is_whole(key) for key, _ in pairs):
        pairs = [(item, number) for number, item in pairs]
    items: dict[int, Any] = {}
    for item, number in pairs:
        if not is_whole(number):
            raise VocabularyError(
                f"the vocabulary is a mapping with the pair {item!r}, {number!r}: give {{item: id}} or {{id: item}}"
            )
        if number in items:
            raise VocabularyError(f"the vocabulary gives the id {number} to both {items[number]!r} and {item!r}")
        items[int(number)] = item
    missing = next((number for number in range(len(items)) if number not in items), None)
    if missing is not None:
        raise VocabularyError(
            f"the vocabulary's {len(items):,} ids must be 0 to {len(items) - 1}: {missing} is missing, "
            f"{max(items)} is the greatest"
        )
    return tuple(items[number] for number in range(len(items)))
